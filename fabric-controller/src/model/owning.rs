//! Owners of numbers: taking a number, and releasing it into quarantine.

use super::Model;
use super::change::Applied;
use super::fault::{self, Fault};
use super::number::{Number, Uid};
use crate::ident::DeviceIndex;

impl Model {
    pub(super) fn leave(
        &mut self,
        number: Number,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
        applied: &mut Applied,
    ) {
        let left = self.quarantine.leave(number, owner, devices);
        left.iter().for_each(|l| self.waiting.touch(&l.number));
        applied.left.extend(left);
    }

    /// Sets whether a VNI has an owner from now on.
    pub(super) fn own_vni(&mut self, vni: u32, owned: bool) {
        if owned {
            self.vnis.take(vni);
        } else {
            self.vnis.free(vni);
        }
        self.quarantine.own_vni(vni, owned);
    }

    /// The numbers for which their new owner has to wait.
    pub(super) fn barred(&self, owner: Uid, numbers: impl IntoIterator<Item = Number>) -> Vec<Number> {
        let missed = |n: &Number| match n {
            Number::Vni(_) => fault::is_on(Fault::VniAtOnce),
            Number::AccessId(..) => fault::is_on(Fault::AccessIdAtOnce),
            _ => false,
        };
        let bars = |n: &Number| self.quarantine.bars(n, owner) && !missed(n) && !fault::is_on(Fault::NobodyWaits);
        numbers.into_iter().filter(bars).collect()
    }
}
