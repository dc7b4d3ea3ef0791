//! Actions of a program that its P4Info does not name: those with `@hidden`, and `NoAction` where a P4Info leaves it out.
//!
//! Entries and default actions of the program may use them, so they need ids. No client can write these ids: no table
//! of the P4Info has such an action. An entry with one is read without an action.

use bmv2_json::Program;
use rustc_hash::{FxHashMap, FxHashSet};

use super::info::{Action, Info, Param, ValueType};

/// The actions without a name in the P4Info.
#[derive(Debug, Clone, Default)]
pub struct Unnamed {
    /// Ids by id of the device config.
    ids: FxHashMap<u32, u32>,
    /// Actions by the ids given here, with their place in the device config.
    actions: FxHashMap<u32, (u32, Action)>,
}

impl Unnamed {
    /// Gives ids to the actions of a program that `info` does not name.
    pub fn new(info: &Info, program: &Program) -> Self {
        let named: FxHashSet<&str> = info.actions.iter().map(|action| action.name.as_str()).collect();
        // Prefix 0xff is reserved (P4Runtime specification, section 6.3); ids that a P4Info uses there are skipped.
        let mut free = (0..=u32::MAX).rev().filter(|id| info.object(*id).is_none());
        let mut this = Self::default();
        let unnamed = program.actions.iter().zip(0..);
        for (source, place) in unnamed.filter(|(source, _)| !named.contains(source.name.as_str())) {
            let Some(id) = free.next() else { break };
            let param = |(data, id): (&bmv2_json::RuntimeData, u32)| Param {
                id,
                name: data.name.clone(),
                value: ValueType {
                    width: data.bitwidth as usize,
                    data_width: data.bitwidth as usize,
                    translation: None,
                },
            };
            let action = Action {
                id,
                name: source.name.clone(),
                params: source.runtime_data.iter().zip(1..).map(param).collect(),
            };
            this.ids.insert(source.id, id);
            this.actions.insert(id, (place, action));
        }
        this
    }

    /// The action with this id of the device config.
    pub(super) fn of_program(&self, id: u32) -> Option<&Action> {
        self.ids.get(&id).and_then(|id| Some(&self.actions.get(id)?.1))
    }

    /// Its place in the device config, and the action, by the id given here.
    pub fn get(&self, id: u32) -> Option<(u32, &Action)> {
        self.actions.get(&id).map(|(place, action)| (*place, action))
    }
}
