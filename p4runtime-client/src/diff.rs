//! The changes from what a switch holds to what it should hold, in ordered, bounded batches. Pure. The cost is linear
//! in the two states, so this is for read-backs, not for single changes.

use std::collections::HashMap;

use crate::{
    entity::{Entity, EntityKey, EntityValue},
    order::Order,
    write::Change,
};

/// Changes that lead from `applied` to `desired`, make before break: batches of
/// inserts and modifications from the lowest level up, then batches of deletes
/// from the highest down. A batch has at most `most` changes, and no change in it depends on another.
#[must_use]
pub fn plan<'a>(
    desired: impl IntoIterator<Item = &'a Entity>,
    applied: &HashMap<EntityKey, EntityValue>,
    order: &Order,
    most: usize,
) -> Vec<Vec<Change>> {
    let mut wanted: HashMap<&EntityKey, ()> = HashMap::new();
    let mut made = Vec::new();
    for entity in desired {
        wanted.insert(entity.key(), ());
        match applied.get(entity.key()) {
            Some(value) if value == entity.value() => {}
            Some(_) => made.push(Change::Modify(entity.clone())),
            None => made.push(Change::Insert(entity.clone())),
        }
    }
    let mut removed: Vec<_> = applied
        .keys()
        .filter(|key| !wanted.contains_key(key))
        .map(|key| Change::Delete(key.clone()))
        .collect();
    let level = |change: &Change| (order.level(change.key()), change.key().rank());
    // By key inside a level, so that equal inputs give equal plans.
    made.sort_by(|a, b| (level(a), a.key()).cmp(&(level(b), b.key())));
    removed.sort_by(|a, b| (level(b), a.key()).cmp(&(level(a), b.key())));
    let batches = |changes: &[Change]| -> Vec<Vec<Change>> {
        changes
            .chunk_by(|a, b| level(a) == level(b))
            .flat_map(|run| run.chunks(most.max(1)))
            .map(<[_]>::to_vec)
            .collect()
    };
    let mut plan = batches(&made);
    plan.extend(batches(&removed));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{ActionCall, GroupMember, Match, TableAction, TableKey};
    use proptest::prelude::*;

    /// Entities that refer to each other: entry `n` to group `n` to member `n`.
    fn state(parts: &[(u8, u8)]) -> Vec<Entity> {
        let mut state = HashMap::new();
        for (n, value) in parts {
            let id = u32::from(*n) + 1;
            let member = GroupMember {
                member_id: id,
                weight: i32::from(*value) + 1,
                watch_port: None,
            };
            let key = TableKey::new(1, Match::builder().exact(1, [*n]));
            for entity in [
                Entity::table(key, TableAction::Group(id)),
                Entity::group(2, id, vec![member], 0),
                Entity::member(2, id, ActionCall::new(3, [(1, [*value])])),
            ] {
                state.insert(entity.key().clone(), entity);
            }
        }
        state.into_values().collect()
    }

    proptest! {
        #[test]
        fn a_plan_leads_there_and_never_through_a_dangling_reference(
            from: Vec<(u8, u8)>,
            to: Vec<(u8, u8)>,
            most in 1usize..5,
        ) {
            let (from, to) = (state(&from), state(&to));
            let mut held: HashMap<_, _> = from.into_iter().map(Entity::into_parts).collect();
            let batches = plan(&to, &held, &Order::default(), most);
            for batch in batches {
                prop_assert!(!batch.is_empty() && batch.len() <= most);
                for change in batch {
                    match change {
                        Change::Insert(entity) => {
                            let (key, value) = entity.into_parts();
                            prop_assert!(held.insert(key, value).is_none());
                        }
                        Change::Modify(entity) => {
                            let (key, value) = entity.into_parts();
                            prop_assert!(held.insert(key, value).is_some());
                        }
                        Change::Delete(key) => prop_assert!(held.remove(&key).is_some()),
                    }
                    for value in held.values() {
                        if let EntityValue::Group(group) = value {
                            for member in &group.members {
                                let (profile_id, member_id) = (2, member.member_id);
                                let key = EntityKey::Member { profile_id, member_id };
                                prop_assert!(held.contains_key(&key));
                            }
                        }
                    }
                }
            }
            let want: HashMap<_, _> = to.into_iter().map(Entity::into_parts).collect();
            prop_assert_eq!(held, want);
        }
    }
}
