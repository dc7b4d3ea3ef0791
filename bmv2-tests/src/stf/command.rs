//! The content of a script, with names as written.

use std::collections::BTreeMap;

use num_bigint::BigUint;

use super::pattern::Pattern;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Name for messages.
    pub file: String,
    /// Its statements in order.
    pub statements: Vec<Statement>,
}

impl Script {
    /// Ports on which frames arrive (true), or are expected to leave (false).
    pub fn ports(&self) -> BTreeMap<u32, bool> {
        let mut ports = BTreeMap::new();
        for statement in &self.statements {
            match statement.command {
                Command::Packet { port, .. } => {
                    ports.insert(port, true);
                }
                Command::Expect { port, .. } => {
                    ports.entry(port).or_insert(false);
                }
                _ => {}
            }
        }
        ports
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Line, from 1.
    pub line: usize,
    /// The statement.
    pub command: Command,
}

/// A number as written; digits that are `*` do not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digits {
    /// The number, with 0 for each `*`.
    pub value: BigUint,
    /// Ones for all digits except `*`; `None` for decimal numbers, whose digits are not whole bits.
    pub care: Option<BigUint>,
    /// Number of bits of all digits except `*`.
    pub bits: usize,
}

/// The value or condition for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyValue {
    /// `V`; its meaning depends on the table's match kind.
    Plain(Digits),
    /// `V/LENGTH`.
    Prefix(Digits, usize),
    /// `V&&&M`.
    Masked(Digits, Digits),
    /// `LOW->HIGH`.
    Range(Digits, Digits),
}

/// An action with its arguments by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Name, perhaps abbreviated.
    pub action: String,
    /// Arguments.
    pub args: Vec<(String, Digits)>,
}

/// What an entry makes the packet do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An action.
    Call(Call),
    /// A member of the table's profile.
    Member(u32),
    /// A group of the table's selector.
    Group(u32),
}

/// The unit that a check compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountType {
    /// Octets.
    Bytes,
    /// Packets.
    Packets,
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Compare {
    /// Whether `found` has this relation to `wanted`.
    pub fn holds<T: PartialOrd>(self, found: &T, wanted: &T) -> bool {
        match self {
            Self::Eq => found == wanted,
            Self::Ne => found != wanted,
            Self::Lt => found < wanted,
            Self::Le => found <= wanted,
            Self::Gt => found > wanted,
            Self::Ge => found >= wanted,
        }
    }
}

/// A cell of an array, or the object that belongs to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// By index.
    Index(u64),
    /// By the alias that `add ... = ID` gave.
    Alias(String),
}

/// A meter's rate and burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Millionths of a unit a second; files give units a microsecond.
    pub millionths: u64,
    /// Units.
    pub burst: u64,
}

impl Eq for Rate {}

/// A statement's content. Fields are as the table of statements in the module's header names them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table in the module's header says it once")]
pub enum Command {
    Add {
        table: String,
        priority: Option<i32>,
        key: Vec<(String, KeyValue)>,
        action: Action,
        alias: Option<String>,
    },
    RemoveAll,
    Remove(String),
    SetDefault {
        table: String,
        call: Call,
    },
    Packet {
        port: u32,
        data: Vec<u8>,
    },
    Expect {
        port: u32,
        pattern: Option<Pattern>,
    },
    NoPacket,
    Wait {
        ms: u64,
    },
    MirroringAdd {
        session: u32,
        port: u32,
    },
    MirroringAddMulticast {
        session: u32,
        group: u32,
    },
    MirroringDelete {
        session: u32,
    },
    GroupCreate {
        group: u32,
    },
    NodeCreate {
        rid: u32,
        ports: Vec<u32>,
    },
    NodeUpdate {
        node: u32,
        ports: Vec<u32>,
    },
    NodeAssociate {
        group: u32,
        node: u32,
    },
    CheckCounter {
        counter: String,
        cell: Cell,
        check: Option<(CountType, Compare, u64)>,
    },
    CounterWrite {
        counter: String,
        cell: u64,
        bytes: u64,
        packets: u64,
    },
    RegisterWrite {
        register: String,
        cell: u64,
        value: Digits,
    },
    RegisterReset {
        register: String,
    },
    CheckRegister {
        register: String,
        cell: u64,
        compare: Compare,
        value: Digits,
    },
    MeterSetRates {
        meter: String,
        cell: Option<u64>,
        rates: Vec<Rate>,
    },
    DirectMeterSetRates {
        alias: String,
        rates: Vec<Rate>,
    },
    Member {
        profile: String,
        id: u32,
        call: Call,
    },
    Group {
        profile: String,
        id: u32,
        members: Vec<(u32, Option<u32>)>,
    },
    ValueSetAdd {
        set: String,
        values: Vec<Digits>,
    },
    ExpectDigest {
        digest: String,
        fields: Vec<Digits>,
    },
    PortState {
        port: u32,
        up: bool,
    },
    CheckIdle {
        alias: String,
        compare: Compare,
        ms: u64,
    },
    /// Asks the switch to print something.
    Print,
}
