//! Entries of tables that the P4Info does not name (`@hidden`). No client can read or change them, so they go straight
//! into the tables.

use bmv2_json::{EntryKey, HexStr, KeyElement, MatchType, Program, Table};
use rustc_hash::FxHashSet;

use crate::p4runtime::bind::{highest_priority, priority};
use crate::p4runtime::info::Info;
use p4_engine::Pipeline;
use p4_engine::tables::store::Transaction;
use p4_engine::tables::{ActionCall, FieldMatch, Target, Writer};

/// Puts the entries of all hidden tables into a pipeline through which nothing runs yet.
pub(super) fn insert_entries(info: &Info, program: &Program, pipeline: &Pipeline, writer: &mut Writer) {
    let named: FxHashSet<&str> = info.tables.iter().map(|table| table.name.as_str()).collect();
    let all = program.pipelines.iter().flat_map(|p| &p.tables);
    let hidden: Vec<_> = all.filter(|table| !named.contains(table.name.as_str())).collect();
    if hidden.iter().all(|table| table.entries.is_none()) {
        return;
    }
    // No reader can hold this up.
    let _ = writer.write(0, |t| {
        for table in hidden {
            if let Some(index) = pipeline.table(&table.name) {
                insert(t, (index, table), program, pipeline);
            }
        }
    });
}

/// One field of a key, as octets.
struct Octets(Vec<u8>, Vec<u8>);

impl Octets {
    fn of(key: &EntryKey) -> Self {
        let octets = HexStr::bytes;
        match key {
            EntryKey::Valid { key } => Self(vec![u8::from(*key)], Vec::new()),
            EntryKey::Exact { key } | EntryKey::Lpm { key, .. } => Self(octets(key), Vec::new()),
            EntryKey::Ternary { key, mask } => Self(octets(key), octets(mask)),
            EntryKey::Range { start, end } => Self(octets(start), octets(end)),
        }
    }

    fn as_match(&self, key: &EntryKey) -> FieldMatch<'_> {
        match key {
            EntryKey::Valid { .. } | EntryKey::Exact { .. } => FieldMatch::Exact(&self.0),
            EntryKey::Lpm { prefix_length, .. } => FieldMatch::Lpm(&self.0, *prefix_length),
            EntryKey::Ternary { .. } => FieldMatch::Ternary(&self.0, &self.1),
            EntryKey::Range { .. } => FieldMatch::Range(&self.0, &self.1),
        }
    }
}

fn insert(t: &mut Transaction<'_>, (index, table): (usize, &Table), program: &Program, pipeline: &Pipeline) {
    let entries = table.entries.as_deref().unwrap_or_default();
    let highest = highest_priority(entries);
    let by_priority = |key: &KeyElement| matches!(key.match_type, MatchType::Ternary | MatchType::Range);
    let needs_priority = table.key.iter().any(by_priority);
    // If several entries have the same key, the first one counts, so it replaces the others.
    for (slot, entry) in entries.iter().enumerate().rev() {
        let id = entry.action_entry.action_id;
        let Some(action) = program.actions.iter().position(|action| action.id == id) else {
            continue;
        };
        let action = action as u32;
        let data: Vec<Vec<u8>> = entry.action_entry.action_data.iter().map(HexStr::bytes).collect();
        let args = pipeline.args(action, data.iter().map(Vec::as_slice));
        let octets: Vec<Octets> = entry.match_key.iter().map(Octets::of).collect();
        let key = octets
            .iter()
            .zip(&entry.match_key)
            .map(|(octets, key)| octets.as_match(key));
        let priority = if needs_priority { priority(entry, highest) } else { 0 };
        let target = Target::Action(ActionCall { action, args: &args });
        t.insert(index, slot as u32, key, priority, target);
    }
}
