//! What a packet needs to run through the program: the program, its state, and buffers.

use crate::counts::Counts;
use crate::externs::Externs;
use crate::program::Program;
use crate::tables::Tables;
use crate::tables::store::Store;
use crate::trace::Trace;
use crate::value::Parts;

/// Most digests that one pass of a packet may send; further ones are left out.
pub(crate) const MAX_DIGESTS: usize = 8;

/// What actions asked for besides changes to the packet. Reset for each pass of each packet, so it is kept small.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Session and field list of a clone.
    pub(crate) clone: Option<(u32, u32)>,
    /// Field lists; 0 is none.
    pub(crate) resubmit: Option<u32>,
    pub(crate) recirculate: Option<u32>,
    /// How many of the digests in [`Scratch`] are in use.
    pub(crate) digest_count: u8,
    pub(crate) exit: bool,
}

/// Buffers, reused for every packet.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Buffer for the input of hashes and for digests.
    pub(crate) bytes: Vec<u8>,
    /// Key of a look-up.
    pub(crate) key: Vec<u64>,
    pub(crate) wishes: Wishes,
    /// Numbers of the digests that actions asked for.
    pub(crate) digests: [u32; MAX_DIGESTS],
    /// Counts that are not yet added to direct counters.
    pub(crate) counts: Counts,
    /// State of the random numbers.
    pub(crate) random: u64,
}

impl Scratch {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            bytes: Vec::new(),
            key: Vec::new(),
            wishes: Wishes::default(),
            digests: [0; MAX_DIGESTS],
            counts: Counts::default(),
            random: seed | 1,
        }
    }

    /// A random number: good enough for programs, but not secret (xorshift64*).
    pub(crate) fn random(&mut self) -> u64 {
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// One packet's run.
pub(crate) struct Core<'a, T: Trace> {
    pub(crate) program: &'a Program,
    pub(crate) store: &'a Store,
    pub(crate) tables: &'a Tables,
    pub(crate) externs: &'a Externs,
    pub(crate) drop_port: u32,
    pub(crate) now_ns: u64,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) trace: &'a mut T,
}

impl<'a, T: Trace> Core<'a, T> {
    /// What expressions need besides the packet.
    #[inline(always)]
    pub(crate) fn parts<'b>(&self, args: &'b [u64]) -> Parts<'b>
    where
        'a: 'b,
    {
        Parts {
            args,
            registers: self.externs,
        }
    }

    /// Whether a port carries traffic.
    #[inline]
    pub(crate) fn is_up(&self, port: u32) -> bool {
        self.store.ports.is_up(port)
    }
}
