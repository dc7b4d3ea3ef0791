//! Ingress and egress as machine code.

use cranelift_codegen::ir::{InstBuilder as _, StackSlot, Value, condcodes::IntCC, types};

use super::code::{Args, Code, Label};
use super::op::argument_words;
use super::{Env, Refused, callback};
use crate::action::MAX_STEPS;
use crate::program::{Control, END, KeySource, NOWHERE, Next, Node, Table, Value as Computed};
use crate::word::{mask64, words_of};

/// Words of the longest key that is built on the stack.
const MAX_KEY: u32 = 128;

/// Words of a table's key.
fn key_words(table: &Table) -> u32 {
    table.key.iter().map(|k| words_of(k.width)).sum()
}

/// Where a node leads.
fn successors(control: &Control, tables: &[Table], node: Next) -> Vec<Next> {
    match control.nodes.get(node as usize) {
        None => Vec::new(),
        Some(Node::If(_, yes, no) | Node::IfField { yes, no, .. } | Node::IfSame { yes, no, .. }) => vec![*yes, *no],
        Some(Node::IfBits(of)) => vec![of.yes, of.no],
        Some(Node::Call(_, to)) => vec![*to],
        Some(Node::Table(table)) => {
            let Some(table) = tables.get(*table as usize) else {
                return vec![END];
            };
            let by_action = table.by_action.iter().map(|(_, to)| *to);
            by_action
                .chain(table.hit)
                .chain(table.miss)
                .chain([table.base])
                .collect()
        }
    }
}

/// Nodes in the order in which they are written.
struct Order {
    /// Each comes before those that it leads to, except along back edges.
    nodes: Vec<Next>,
    /// Targets of back edges: every loop passes through one of them.
    loops: Vec<Next>,
}

impl Order {
    /// Orders the nodes that can be reached.
    fn new(control: &Control, tables: &[Table]) -> Self {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; control.nodes.len()];
        let (mut nodes, mut loops) = (Vec::new(), Vec::new());
        // Nodes that are open, and those of their successors that are left.
        let mut path: Vec<(Next, Vec<Next>)> = Vec::new();
        let mut next = Some(control.start);
        loop {
            if let Some(node) = next.take()
                && let Some(mark) = marks.get_mut(node as usize)
            {
                match mark {
                    Mark::New => {
                        *mark = Mark::Open;
                        path.push((node, successors(control, tables, node)));
                    }
                    Mark::Open => loops.push(node),
                    Mark::Done => {}
                }
            }
            let Some((node, left)) = path.last_mut() else { break };
            next = left.pop();
            if next.is_none() {
                if let Some(mark) = marks.get_mut(*node as usize) {
                    *mark = Mark::Done;
                }
                nodes.push(*node);
                path.pop();
            }
        }
        nodes.reverse();
        Self { nodes, loops }
    }
}

/// The labels of a control's nodes, and of its end.
struct Labels {
    nodes: Vec<Label>,
    end: Label,
    /// Where keys are built, one after the other.
    key: StackSlot,
}

impl Labels {
    fn of(&self, node: Next) -> Label {
        self.nodes.get(node as usize).copied().unwrap_or(self.end)
    }
}

impl Code<'_, '_> {
    /// Writes a control; the function goes on behind its end.
    pub(super) fn control(&mut self, control: &Control) -> Result<(), Refused> {
        let order = Order::new(control, &self.program.tables);
        let longest = self.program.tables.iter().map(key_words).max().unwrap_or(0);
        if longest > MAX_KEY {
            return Err(Refused("a key of too many words"));
        }
        let labels = Labels {
            nodes: control.nodes.iter().map(|_| self.label()).collect(),
            end: self.label(),
            key: self.room(longest),
        };
        let room = self.room(1);
        if !order.loops.is_empty() {
            let steps = self.constant(MAX_STEPS as u64);
            self.b.ins().stack_store(types::I64, steps, room, 0);
        }
        self.jump(labels.of(control.start));
        // If a condition is already decided, a node may only be reachable by a back edge; then a later round writes it.
        // Without loops there is one round.
        while order.nodes.iter().any(|at| self.is_missing(labels.of(*at))) {
            for at in &order.nodes {
                if let Some(node) = control.nodes.get(*at as usize)
                    && self.is_missing(labels.of(*at))
                {
                    self.place(labels.of(*at));
                    self.turn(*at, &order, room, &labels);
                    self.node(node, &labels)?;
                }
            }
        }
        self.place(labels.end);
        Ok(())
    }

    /// Begins a node. In a control with loops, nothing is known about paths that are not written yet, and the head of a
    /// loop counts its rounds.
    fn turn(&mut self, at: Next, order: &Order, left: StackSlot, labels: &Labels) {
        if order.loops.is_empty() {
            return;
        }
        self.forget();
        if order.loops.contains(&at) {
            let before = self.b.ins().stack_load(types::I64, types::I64, left, 0);
            let one = self.constant(1);
            let after = self.b.ins().isub(before, one);
            self.b.ins().stack_store(types::I64, after, left, 0);
            let on = self.label();
            self.branch(before, on, labels.end);
            self.place(on);
        }
    }

    fn node(&mut self, node: &Node, labels: &Labels) -> Result<(), Refused> {
        match node {
            Node::If(condition, yes, no) => {
                let holds = self.holds(condition, Args::NONE)?;
                self.branch(holds, labels.of(*yes), labels.of(*no));
            }
            Node::IfField { slot, value, yes, no } => {
                self.branch_if_bits((*slot, u64::MAX, *value), labels.of(*yes), labels.of(*no))?;
            }
            Node::IfBits(of) => {
                self.branch_if_bits((of.slot, of.mask, of.value), labels.of(of.yes), labels.of(of.no))?;
            }
            Node::IfSame { a, b, yes, no } => {
                let (a, b) = (self.load(*a)?, self.load(*b)?);
                let same = self.compare(IntCC::Equal, a, b);
                self.branch(same, labels.of(*yes), labels.of(*no));
            }
            Node::Call(action, to) => {
                if self.action(*action, Args::NONE, labels.end)? {
                    self.jump(labels.of(*to));
                }
            }
            Node::Table(table) => self.table(*table, labels)?,
        }
        Ok(())
    }

    /// Looks a key up, and runs the action that it leads to where it is called.
    fn table(&mut self, index: u32, labels: &Labels) -> Result<(), Refused> {
        let program = self.program;
        let Some(table) = program.tables.get(index as usize) else {
            self.jump(labels.end);
            return Ok(());
        };
        self.key(table, labels.key)?;
        let key = self.b.ins().stack_addr(types::I64, labels.key, 0);
        let (number, count) = (self.constant(index.into()), self.constant(key_words(table).into()));
        let env = self.env;
        let found = self.call(callback::look_up as *const (), &[env, number, key, count]);
        if table.meter.is_some() {
            // The meter's colour was written to a field.
            self.forget();
        }
        let one = self.constant(1);
        let hit = self.b.ins().band(found, one);
        let action = self.b.ins().ushr(found, one);
        let cases: Vec<(u64, Label)> = table.actions.iter().map(|a| (u64::from(*a), self.label())).collect();
        let (other, none) = (self.label(), self.label());
        let mut all = cases.clone();
        all.push((callback::NO_ACTION, none));
        self.switch(action, &all, other);
        for (action, label) in cases {
            if !self.place(label) {
                continue;
            }
            let words = program.actions.get(action as usize).map_or(0, argument_words);
            let args = if words > 0 {
                Args(Some((self.load_env(std::mem::offset_of!(Env, args)), words)))
            } else {
                Args::NONE
            };
            let action = action as u32;
            if self.action(action, args, labels.end)? {
                self.lead(hit, table, Some(action), labels);
            }
        }
        if self.place(none) {
            self.lead(hit, table, None, labels);
        }
        // An action that the table does not have according to the document.
        if self.place(other) {
            let env = self.env;
            let exits = self.call(callback::run_other as *const (), &[env, action]);
            self.forget();
            let on = self.label();
            self.branch(exits, labels.end, on);
            if self.place(on) {
                self.lead(hit, table, None, labels);
            }
        }
        Ok(())
    }

    /// Jumps to where an action leads after a hit or a miss.
    fn lead(&mut self, hit: Value, table: &Table, action: Option<u32>, labels: &Labels) {
        let (yes, no) = (table.next(true, action), table.next(false, action));
        if yes == no {
            self.jump(labels.of(yes));
        } else {
            self.branch(hit, labels.of(yes), labels.of(no));
        }
    }

    /// Builds a key on the stack.
    fn key(&mut self, table: &Table, room: StackSlot) -> Result<(), Refused> {
        let mut at = 0;
        for part in &table.key {
            let start = at;
            at += 8 * words_of(part.width) as i32;
            if part.width == 0 {
                continue;
            }
            let put = |code: &mut Self, i: i32, value: Value| {
                let mask = part.mask.get(i as usize).copied().unwrap_or(u64::MAX);
                let value = code.mask(value, mask);
                code.b.ins().stack_store(types::I64, value, room, start + 8 * i);
            };
            match &part.source {
                KeySource::Word { slot, mask } => {
                    let value = self.load(*slot)?;
                    let value = self.mask(value, *mask);
                    put(self, 0, value);
                }
                KeySource::HeaderWord { slot, valid, mask } => {
                    let value = self.if_valid(*slot, *valid)?;
                    let value = self.mask(value, *mask);
                    put(self, 0, value);
                }
                KeySource::Words { slot, count, valid } => {
                    for i in 0..*count {
                        let value = self.if_valid(slot.saturating_add(i), *valid)?;
                        put(self, i as i32, value);
                    }
                }
                KeySource::Expr(e, mask) => {
                    let value = self.expr(e, Args::NONE)?;
                    let value = self.mask(value, *mask);
                    put(self, 0, value);
                }
                KeySource::Wide(of) => match &of.0 {
                    Computed::Word(e) => {
                        let value = self.expr(e, Args::NONE)?;
                        let value = self.mask(value, mask64(of.1));
                        put(self, 0, value);
                    }
                    Computed::Wide(e) => {
                        let value = self.expr(e, Args::NONE)?;
                        let (low, high) = self.b.ins().isplit(value);
                        let high = self.mask(high, mask64(of.1 - 64));
                        put(self, 0, high);
                        put(self, 1, low);
                    }
                    Computed::Big(_) => return Err(Refused("a key of a wide expression")),
                },
            }
        }
        Ok(())
    }

    /// A word, or 0 where the header is not valid.
    fn if_valid(&mut self, slot: u32, valid: u32) -> Result<Value, Refused> {
        let value = self.load(slot)?;
        if valid == NOWHERE {
            return Ok(value);
        }
        let valid = self.load(valid)?;
        match self.as_constant(valid) {
            Some(0) => Ok(self.constant(0)),
            Some(_) => Ok(value),
            None => {
                let all = self.b.ins().ineg(valid);
                Ok(self.b.ins().band(value, all))
            }
        }
    }
}
