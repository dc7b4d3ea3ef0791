//! How much each sender may flood in a network: the table of FloodRate.

use fabric_pipeline::Bits;
use fabric_pipeline::binding::{MeterRates, metered_entry};
use fabric_pipeline::tables::flood_rate;

use crate::entity::Entity;

/// Frames a second that a sender may flood in one network, and how many at once: what a host's agent allows one
/// workload by default (`vtep-agent --flood-limit`). It is far more than discovery needs, and far less than a link.
const FLOODS_PER_SECOND: i64 = 1000;
const FLOOD_BURST: i64 = 2 * FLOODS_PER_SECOND;

/// The rate of a sender, which is an access port's replica number or a host's VTEP number.
pub(super) fn of(bd: Bits<24>, sender: Bits<16>) -> Entity {
    let rates = MeterRates {
        cir: FLOODS_PER_SECOND,
        cburst: FLOOD_BURST,
        pir: FLOODS_PER_SECOND,
        pburst: FLOOD_BURST,
        eburst: 0,
    };
    metered_entry(flood_rate::Key { bd, sender }, flood_rate::Action::LimitFlood, rates).into()
}
