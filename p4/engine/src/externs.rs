//! State of a program outside its tables: counters, meters, registers.
//!
//! Workers share it without locks where a cell is one word. Wider cells of a register are read and written as a whole,
//! under one of `STRIPES` locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use num_bigint::BigInt;

use crate::expr;
use crate::program::{Program, RegisterArray};
use crate::tables::Counter;
use crate::tables::meter::Meter;
use crate::term;
use crate::word::{mask64, words_of};

/// Locks of a wide register array. Two workers seldom use cells of the same lock at the same time.
const STRIPES: usize = 64;

/// All counters, meters and registers of a program.
#[derive(Debug)]
pub(crate) struct Externs {
    pub(crate) counters: Vec<Box<[Counter]>>,
    pub(crate) meters: Vec<Box<[Meter]>>,
    pub(crate) registers: Vec<Register>,
}

impl Externs {
    pub(crate) fn new(program: &Program) -> Self {
        let counters = program.counters.iter();
        let meters = program.meters.iter();
        Self {
            counters: counters
                .map(|(_, cells)| (0..*cells).map(|_| Counter::default()).collect())
                .collect(),
            meters: meters
                .map(|m| (0..m.cells).map(|_| Meter::default()).collect())
                .collect(),
            registers: program.registers.iter().map(Register::new).collect(),
        }
    }
}

/// A register array.
#[derive(Debug)]
pub(crate) struct Register {
    width: u32,
    cells: Cells,
    /// An action that both reads and writes the array holds this lock while it runs.
    action: Mutex<()>,
}

#[derive(Debug)]
enum Cells {
    Narrow(Box<[AtomicU64]>),
    /// Number of cells; cell `i` is in stripe `i % STRIPES`.
    Wide(usize, Box<[Mutex<Box<[u64]>>]>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Register {
    fn new(array: &RegisterArray) -> Self {
        let words = words_of(array.width) as usize;
        let cells = if words <= 1 {
            Cells::Narrow((0..array.cells).map(|_| AtomicU64::new(0)).collect())
        } else {
            let cells = array.cells.div_ceil(STRIPES) * words;
            let stripe = |_| Mutex::new(vec![0; cells].into());
            Cells::Wide(array.cells, (0..STRIPES).map(stripe).collect())
        };
        Self {
            width: array.width,
            cells,
            action: Mutex::default(),
        }
    }

    /// Bits of a cell.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// Cells.
    pub(crate) fn len(&self) -> usize {
        match &self.cells {
            Cells::Narrow(cells) => cells.len(),
            Cells::Wide(cells, _) => *cells,
        }
    }

    /// Makes other actions that read and write this array wait.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        lock(&self.action)
    }

    /// Reads a cell into words; beyond the end it is 0.
    pub(crate) fn read(&self, index: usize, out: &mut [u64]) {
        out.fill(0);
        match &self.cells {
            Cells::Narrow(cells) => {
                if let (Some(cell), Some(out)) = (cells.get(index), out.last_mut()) {
                    *out = cell.load(Ordering::Relaxed);
                }
            }
            Cells::Wide(cells, stripes) if index < *cells => {
                let n = words_of(self.width) as usize;
                let at = index / STRIPES * n;
                if let Some(stripe) = stripes.get(index % STRIPES)
                    && let Some(cell) = lock(stripe).get(at..at + n)
                    && out.len() == n
                {
                    out.copy_from_slice(cell);
                }
            }
            Cells::Wide(..) => {}
        }
    }

    /// Writes a cell, cut to its width; does nothing beyond the end.
    pub(crate) fn write(&self, index: usize, value: &[u64]) {
        match &self.cells {
            Cells::Narrow(cells) => {
                if let (Some(cell), Some(value)) = (cells.get(index), value.last()) {
                    cell.store(value & mask64(self.width), Ordering::Relaxed);
                }
            }
            Cells::Wide(cells, stripes) if index < *cells => {
                let n = words_of(self.width) as usize;
                let at = index / STRIPES * n;
                if let Some(stripe) = stripes.get(index % STRIPES)
                    && let Some(cell) = lock(stripe).get_mut(at..at + n)
                    && value.len() == n
                {
                    cell.copy_from_slice(value);
                }
            }
            Cells::Wide(..) => {}
        }
    }

    /// The low word of a cell.
    #[inline]
    pub(crate) fn low(&self, index: usize) -> u64 {
        match &self.cells {
            Cells::Narrow(cells) => cells.get(index).map_or(0, |c| c.load(Ordering::Relaxed)),
            Cells::Wide(..) => {
                let mut words = vec![0; words_of(self.width) as usize];
                self.read(index, &mut words);
                words.last().copied().unwrap_or(0)
            }
        }
    }
}

impl expr::Registers for Externs {
    fn read(&self, array: u32, index: usize) -> BigInt {
        let Some(register) = self.registers.get(array as usize) else {
            return BigInt::ZERO;
        };
        let mut words = vec![0; words_of(register.width) as usize];
        register.read(index, &mut words);
        term::load(&words, 0, register.width)
    }

    fn read_low(&self, array: u32, index: usize) -> u64 {
        self.registers.get(array as usize).map_or(0, |r| r.low(index))
    }
}
