//! Records, to which entries lead: a header word that says what the record is, then the arguments of its action. All
//! records of a table have the size of the action with most arguments, so a record's number alone determines its place.

/// The object to which an entry leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// Nothing: the slot is not in use.
    Vacant,
    /// The action of this index, with the record's arguments.
    Action(u32),
    /// The member in this slot of the table's profile.
    Member(u32),
    /// The group in this slot of the table's selector.
    Group(u32),
}

impl Leads {
    fn pack(self) -> u64 {
        header(self, 0)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        let value = (word >> 32) as u32;
        match word & 3 {
            1 => Self::Action(value),
            2 => Self::Member(value),
            3 => Self::Group(value),
            _ => Self::Vacant,
        }
    }
}

/// The first word of a record: what it leads to, and the slot of its entry (of which there are fewer than 2^30).
pub(super) fn header(leads: Leads, slot: u32) -> u64 {
    let (tag, value) = match leads {
        Leads::Vacant => (0, 0),
        Leads::Action(n) => (1, n),
        Leads::Member(n) => (2, n),
        Leads::Group(n) => (3, n),
    };
    u64::from(value) << 32 | u64::from(slot << 2) | tag
}

/// One record, as packets read it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a>(&'a [u64]);

impl<'a> Record<'a> {
    #[inline]
    pub(super) fn new(words: &'a [u64]) -> Self {
        Self(words)
    }

    /// The slot of its entry; 0 for default actions and members.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.0.first().map_or(0, |w| *w as u32 >> 2)
    }

    /// What it leads to.
    #[inline]
    pub fn leads(&self) -> Leads {
        self.0.first().map_or(Leads::Vacant, |w| Leads::unpack(*w))
    }

    /// The action's arguments: each takes `ceil(width / 64)` words, most significant first. There may be more words
    /// than the action has arguments for; they mean nothing.
    #[inline]
    pub fn args(&self) -> &'a [u64] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// Records of one copy by slot: members of a profile, default actions. Records of entries are in [`super::shared`].
#[derive(Debug, Clone)]
pub struct Records {
    words: Vec<u64>,
    args: usize,
}

impl Records {
    /// Records with room for `args` words of arguments.
    pub fn new(args: usize) -> Self {
        Self {
            words: Vec::new(),
            args,
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The record in a slot; vacant if there never was one.
    #[inline]
    pub fn get(&self, slot: u32) -> Record<'_> {
        let start = slot as usize * (1 + self.args);
        Record(self.words.get(start..start + 1 + self.args).unwrap_or_default())
    }

    /// Sets what a slot leads to, and its arguments.
    pub fn set(&mut self, slot: u32, leads: Leads, args: &[u64]) {
        let start = slot as usize * (1 + self.args);
        if self.words.len() < start + (1 + self.args) {
            self.words.resize(start + (1 + self.args), 0);
        }
        let Some(record) = self.words.get_mut(start..start + 1 + self.args) else {
            return;
        };
        let mut args = args.iter();
        for (i, word) in record.iter_mut().enumerate() {
            *word = match i {
                0 => leads.pack(),
                _ => args.next().copied().unwrap_or(0),
            };
        }
    }
}
