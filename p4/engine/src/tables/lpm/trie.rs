//! The trie itself.

use super::{Bits, Pool};

/// Bits that a node stands for.
const CHUNK: u32 = 6;

/// Chunks that a compressed path may have: what fits into a word beside its length.
const PATH_CHUNKS: u32 = 9;

/// A node.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(32))]
pub(super) struct Node {
    /// Prefixes that end here: bit `(1 << length) - 1 + value` for one of `length` bits, 0 to 5.
    ends: u64,
    /// Children: bit `value` for the next six bits.
    branches: u64,
    /// Bits between the parent and here, from the top; the low six bits are their number.
    path: u64,
    /// Where its children lie.
    children: u32,
    /// The slot of its only prefix, or where the slots of several lie.
    slots: u32,
}

impl Node {
    #[inline]
    fn path_bits(&self) -> u32 {
        (self.path & 63) as u32
    }

    /// Whether one prefix ends here, whose slot is in the node itself. Most nodes are of this kind.
    #[inline]
    fn has_one_end(&self) -> bool {
        self.ends.is_power_of_two()
    }
}

/// For each value of the next six bits, the prefixes of up to five bits with which it begins.
const BEGINNINGS: [u64; 64] = {
    let mut table = [0; 64];
    let mut value = 0;
    while value < 64 {
        let mut length = 0;
        while length < CHUNK {
            table[value] |= 1 << ((1 << length) - 1 + (value >> (CHUNK - length)));
            length += 1;
        }
        value += 1;
    }
    table
};

/// Ones in the lowest `n` bits.
#[inline]
fn below(n: u32) -> u64 {
    (1 << n) - 1
}

/// The first `bits` of `word`, the rest cleared.
fn leading(word: u64, bits: u32) -> u64 {
    match bits {
        0 => 0,
        n => word & u64::MAX << (64 - n.min(64)),
    }
}

/// Many trees of nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Trie {
    nodes: Pool<Node>,
    slots: Pool<u32>,
}

/// The longest prefix that a look-up has passed.
#[derive(Clone, Copy)]
enum Best {
    /// Its slot.
    Slot(u32),
    /// Where its slot lies.
    At(u32),
}

/// A walk towards a prefix: the node it has reached, and what remains of the prefix there.
#[derive(Clone, Copy)]
pub(super) struct Walk<B> {
    pub(super) at: u32,
    pub(super) key: B,
    pub(super) length: u32,
}

/// Where a walk towards a prefix ended.
enum Stop {
    /// At the node in which the prefix ends, with its index among the node's prefixes.
    Here(u32, u32),
    /// The node has no such child.
    NoBranch(u32),
    /// The node's path differs after that many chunks.
    OffPath(u32, u32),
}

impl Trie {
    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.slots.bytes()
    }

    /// A new tree.
    pub(super) fn plant(&mut self) -> u32 {
        let root = self.nodes.allocate(1);
        self.put(root, Node::default());
        root
    }

    /// Removes a bare tree.
    pub(super) fn fell(&mut self, root: u32) {
        self.nodes.release(root, 1);
    }

    /// Whether a tree has no prefixes.
    pub(super) fn is_bare(&self, root: u32) -> bool {
        self.nodes.get(root).is_some_and(|n| n.ends == 0 && n.branches == 0)
    }

    fn node(&self, at: u32) -> Node {
        self.nodes.get(at).copied().unwrap_or_default()
    }

    fn put(&mut self, at: u32, node: Node) {
        if let Some(place) = self.nodes.get_mut(at) {
            *place = node;
        }
    }

    /// The slot of the longest prefix of `key`.
    #[inline]
    pub(super) fn find(&self, root: u32, mut key: impl Bits) -> Option<u32> {
        let mut best = None;
        let mut node = self.nodes.get(root)?;
        loop {
            let path = node.path_bits();
            if path != 0 {
                if (key.peek() ^ node.path) >> (64 - path) != 0 {
                    break;
                }
                key.skip(path);
            }
            let value = (key.peek() >> (64 - CHUNK)) as usize;
            let ends = node.ends & BEGINNINGS[value & 63];
            if ends != 0 {
                best = Some(match node.has_one_end() {
                    true => Best::Slot(node.slots),
                    false => Best::At(node.slots + (node.ends & below(63 - ends.leading_zeros())).count_ones()),
                });
            }
            if node.branches >> value & 1 == 0 {
                break;
            }
            let rank = (node.branches & below(value as u32)).count_ones();
            let Some(child) = self.nodes.get(node.children + rank) else {
                break;
            };
            node = child;
            key.skip(CHUNK);
        }
        match best? {
            Best::Slot(slot) => Some(slot),
            Best::At(at) => self.slots.get(at).copied(),
        }
    }

    /// The next node on the way to a prefix of `length` bits. Afterwards `key` and `length` are what remains of the
    /// prefix there, or at the node where the walk stops (before that node's path, if the path is what differs).
    #[inline]
    fn next<B: Bits>(&self, at: u32, key: &mut B, length: &mut u32) -> Result<u32, Stop> {
        let node = self.node(at);
        let path = node.path_bits();
        let common = (key.peek() ^ node.path).leading_zeros().min(*length).min(path);
        if common < path {
            return Err(Stop::OffPath(at, common / CHUNK));
        }
        key.skip(path);
        *length -= path;
        let value = (key.peek() >> (64 - CHUNK)) as u32;
        if *length < CHUNK {
            return Err(Stop::Here(at, (1 << *length) - 1 + (value >> (CHUNK - *length))));
        }
        if node.branches >> value & 1 == 0 {
            return Err(Stop::NoBranch(at));
        }
        key.skip(CHUNK);
        *length -= CHUNK;
        Ok(node.children + (node.branches & below(value)).count_ones())
    }

    /// Walks towards a prefix of `length` bits; see [`Self::next`]. `seen` gets every node on the way with its parent.
    fn walk<B: Bits>(&self, root: u32, key: &mut B, length: &mut u32, mut seen: impl FnMut(u32, u32)) -> Stop {
        let mut at = root;
        loop {
            match self.next(at, key, length) {
                Ok(child) => {
                    seen(child, at);
                    at = child;
                }
                Err(stop) => return stop,
            }
        }
    }

    /// Brings the nodes on the way to some prefixes into the cache. The walks go side by side, one node each at a time,
    /// so that the processor fetches the nodes of all of them together.
    pub(super) fn fetch<B: Bits>(&self, walks: &mut [Option<Walk<B>>]) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for place in walks.iter_mut() {
                let Some(walk) = place else { continue };
                match self.next(walk.at, &mut walk.key, &mut walk.length) {
                    Ok(child) => walk.at = child,
                    Err(stop) => {
                        if let Stop::NoBranch(at) = stop {
                            // An insertion moves these.
                            std::hint::black_box(self.node(self.node(at).children));
                        }
                        *place = None;
                    }
                }
                goes_on |= place.is_some();
            }
        }
    }

    /// The slot of a prefix that ends in a node.
    fn slot(&self, node: &Node, end: u32) -> Option<u32> {
        let rank = (node.ends & below(end)).count_ones();
        match node.ends >> end & 1 {
            0 => None,
            _ if node.has_one_end() => Some(node.slots),
            _ => self.slots.get(node.slots + rank).copied(),
        }
    }

    /// Inserts a prefix. Returns the slot that it had before.
    pub(super) fn insert(&mut self, root: u32, mut key: impl Bits, mut length: u32, slot: u32) -> Option<u32> {
        let at = match self.walk(root, &mut key, &mut length, |_, _| {}) {
            Stop::Here(at, end) => return self.end_here(at, end, slot),
            Stop::NoBranch(at) => at,
            Stop::OffPath(at, chunks) => {
                self.split(at, chunks);
                key.skip(chunks * CHUNK);
                length -= chunks * CHUNK;
                at
            }
        };
        let value = (key.peek() >> (64 - CHUNK)) as u32;
        if length < CHUNK {
            return self.end_here(at, (1 << length) - 1 + (value >> (CHUNK - length)), slot);
        }
        key.skip(CHUNK);
        let child = self.shoot(key, length - CHUNK, slot);
        self.branch(at, value, child);
        None
    }

    /// Lets a prefix end in a node.
    fn end_here(&mut self, at: u32, end: u32, slot: u32) -> Option<u32> {
        let mut node = self.node(at);
        let (len, rank) = (node.ends.count_ones(), (node.ends & below(end)).count_ones());
        let old = self.slot(&node, end);
        match (old, len) {
            (None, 0) | (Some(_), 1) => node.slots = slot,
            (Some(_), _) => {
                *self.slots.get_mut(node.slots + rank)? = slot;
                return old;
            }
            (None, 1) => {
                let both = if rank == 0 {
                    [slot, node.slots]
                } else {
                    [node.slots, slot]
                };
                node.slots = self.slots.pair(both);
            }
            (None, _) => node.slots = self.slots.insert(node.slots, len as usize, rank as usize, slot),
        }
        node.ends |= 1 << end;
        self.put(at, node);
        old
    }

    /// Removes a prefix that ends in a node from that node.
    fn end_no_more(&mut self, at: u32, end: u32) {
        let mut node = self.node(at);
        let (len, rank) = (node.ends.count_ones(), (node.ends & below(end)).count_ones());
        node.slots = match len {
            0 | 1 => 0,
            2 => {
                let other = self.slots.get(node.slots + 1 - rank).copied();
                self.slots.release(node.slots, 2);
                other.unwrap_or_default()
            }
            _ => self.slots.remove(node.slots, len as usize, rank as usize),
        };
        node.ends &= !(1 << end);
        self.put(at, node);
    }

    /// Adds a child to a node.
    fn branch(&mut self, at: u32, value: u32, child: Node) {
        let mut node = self.node(at);
        let rank = (node.branches & below(value)).count_ones();
        node.children = self
            .nodes
            .insert(node.children, node.branches.count_ones() as usize, rank as usize, child);
        node.branches |= 1 << value;
        self.put(at, node);
    }

    /// A new node with the rest of a prefix, and those below it if the rest is longer than one node holds.
    fn shoot(&mut self, mut key: impl Bits, length: u32, slot: u32) -> Node {
        let path = (length / CHUNK).min(PATH_CHUNKS) * CHUNK;
        let mut node = Node {
            path: leading(key.peek(), path) | u64::from(path),
            ..Node::default()
        };
        key.skip(path);
        let (value, length) = ((key.peek() >> (64 - CHUNK)) as u32, length - path);
        if length < CHUNK {
            node.ends = 1 << ((1 << length) - 1 + (value >> (CHUNK - length)));
            node.slots = slot;
        } else {
            key.skip(CHUNK);
            let child = self.shoot(key, length - CHUNK, slot);
            node.branches = 1 << value;
            node.children = self.nodes.insert(0, 0, 0, child);
        }
        node
    }

    /// Cuts a node's path after some chunks: a new node takes its place, with it as the only child.
    fn split(&mut self, at: u32, chunks: u32) {
        let mut lower = self.node(at);
        let kept = chunks * CHUNK;
        let value = (lower.path << kept >> (64 - CHUNK)) as u32;
        let upper = Node {
            path: leading(lower.path, kept) | u64::from(kept),
            ..Node::default()
        };
        let rest = lower.path_bits() - kept - CHUNK;
        lower.path = leading(lower.path << (kept + CHUNK), rest) | u64::from(rest);
        self.put(at, upper);
        self.branch(at, value, lower);
    }

    /// Removes a prefix if it leads to this slot; returns whether it did.
    pub(super) fn remove(&mut self, root: u32, key: impl Bits, length: u32, slot: u32) -> bool {
        let mut above = None;
        let (mut walked, mut rest) = (key, length);
        let stop = self.walk(root, &mut walked, &mut rest, |_, parent| above = Some(parent));
        let Stop::Here(at, end) = stop else { return false };
        let node = self.node(at);
        if self.slot(&node, end) != Some(slot) {
            return false;
        }
        match above {
            // Nothing is left of the node.
            Some(parent) if node.has_one_end() && node.branches == 0 => {
                self.cut(parent, at);
                if self.is_bare(parent) {
                    self.prune(root, key, length);
                } else {
                    self.join(parent);
                }
            }
            _ => {
                self.end_no_more(at, end);
                self.join(at);
            }
        }
        true
    }

    /// Removes the bare nodes on the way to a prefix that is gone: its path was longer than one node holds.
    fn prune(&mut self, root: u32, key: impl Bits, length: u32) {
        loop {
            let mut last = None;
            let (mut walked, mut rest) = (key, length);
            self.walk(root, &mut walked, &mut rest, |child, parent| {
                last = Some((child, parent))
            });
            let Some((child, parent)) = last else { return };
            let node = self.node(child);
            if node.ends != 0 || node.branches != 0 {
                return self.join(child);
            }
            self.cut(parent, child);
        }
    }

    /// Removes a child.
    fn cut(&mut self, parent: u32, child: u32) {
        let mut node = self.node(parent);
        let rank = child - node.children;
        let mut rest = node.branches;
        (0..rank).for_each(|_| rest &= rest.wrapping_sub(1));
        let len = node.branches.count_ones() as usize;
        node.children = self.nodes.remove(node.children, len, rank as usize);
        node.branches &= !(rest & rest.wrapping_neg());
        self.put(parent, node);
    }

    /// Merges a node into its child's path, if no prefix ends in the node and it has only that child.
    fn join(&mut self, at: u32) {
        let node = self.node(at);
        if node.ends != 0 || node.branches.count_ones() != 1 {
            return;
        }
        let mut child = self.node(node.children);
        let (upper, lower) = (node.path_bits(), child.path_bits());
        if upper + CHUNK + lower > PATH_CHUNKS * CHUNK {
            return;
        }
        let value = u64::from(node.branches.trailing_zeros());
        let path =
            leading(node.path, upper) | value << (64 - CHUNK) >> upper | leading(child.path, lower) >> (upper + CHUNK);
        child.path = path | u64::from(upper + CHUNK + lower);
        self.nodes.release(node.children, 1);
        self.put(at, child);
    }
}
