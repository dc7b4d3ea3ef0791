//! The inventory at a start: from the rows of the store, or from a topology file.

use tracing::{info, warn};
use vfabric_api::inventory::ItemKey;
use vfabric_api::topology::Topology;

use super::Start;
use crate::controller::StartError;
use crate::controller::restore::Row;
use crate::controller::rows::{UID_KEY, to_json};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::inventory::{NEXT_KEY, PREFIX, StoredItem, item_key};
use crate::store::Op;

/// A model with the stored inventory.
pub(in crate::controller) struct Loaded {
    pub(in crate::controller) model: Model,
    /// Operations that must be written before anything else.
    pub(in crate::controller) ops: Vec<Op>,
    /// Rows that could not be loaded, each with the reason.
    pub(in crate::controller) set_aside: Vec<(String, String)>,
}

/// Rows of the inventory.
fn is_row(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}

/// Rows that store every object of the inventory.
fn all_rows(model: &Model) -> Vec<Op> {
    let items = model.all_items().into_iter();
    let puts = items.map(|item| Op::Put(item_key(&item.key()), to_json(&item)));
    puts.chain([Op::Put(NEXT_KEY.to_vec(), to_json(&model.next_handles()))])
        .collect()
}

/// The last identity that was given out, as the store notes it; 0 if that cannot be read.
fn last_uid(rows: &[Row]) -> u64 {
    let sound = rows.iter().filter(|row| row.damage.is_none());
    let noted = sound.filter(|row| row.key == UID_KEY).find_map(|row| {
        let next: u64 = std::str::from_utf8(&row.value).ok()?.parse().ok()?;
        next.checked_sub(1)
    });
    noted.unwrap_or_default()
}

/// Whether the rows of a store have an inventory.
pub(in crate::controller) fn is_stored(rows: &[Row]) -> bool {
    rows.iter().any(|row| is_row(&row.key))
}

/// Takes the inventory out of the rows of a store; where there is none, it begins with the topology. Then `in_use` is the
/// greatest identity of the objects.
///
/// # Errors
/// There is neither an inventory nor a topology.
pub(in crate::controller) fn load(
    stored: &mut Vec<Row>,
    topology: Option<&Topology>,
    in_use: u64,
) -> Result<Loaded, StartError> {
    let mut items: Vec<Row> = stored.extract_if(.., |row| is_row(&row.key)).collect();
    items.sort_by(|a, b| a.key.cmp(&b.key));
    if items.is_empty() {
        let topology = topology.ok_or(StartError::NoInventory)?;
        let mut model = Model::empty(topology.fabric.clone());
        model.restore_next_uid(last_uid(stored).max(in_use).saturating_add(1));
        model.import_first(topology);
        info!(
            switches = topology.switches.len(),
            links = topology.links.len(),
            hosts = topology.hosts.len(),
            "the inventory begins with the topology"
        );
        let ops = all_rows(&model);
        let set_aside = Vec::new();
        return Ok(Loaded { model, ops, set_aside });
    }
    let settings = items.iter().find_map(|row| {
        let known = row.damage.is_none() && row.key == item_key(&ItemKey::Fabric);
        match known.then(|| serde_json::from_slice(&row.value)) {
            Some(Ok(StoredItem::Fabric(settings))) => Some(settings),
            _ => None,
        }
    });
    let settings = settings.or_else(|| topology.map(|t| t.fabric.clone()));
    let mut model = Model::empty(settings.ok_or(StartError::NoInventory)?);
    model.begin();
    let (mut scratch, mut set_aside) = (Applied::default(), Vec::new());
    for row in items {
        if let Err(reason) = load_row(&mut model, &row, &mut scratch) {
            set_aside.push((String::from_utf8_lossy(&row.key).into_owned(), reason));
        }
    }
    model.end();
    let ops = Vec::new();
    Ok(Loaded { model, ops, set_aside })
}

fn load_row(model: &mut Model, row: &Row, scratch: &mut Applied) -> Result<(), String> {
    if row.key == NEXT_KEY {
        let next = serde_json::from_slice(&row.value).map_err(|e| e.to_string())?;
        // A damaged number may be far too large. Handles in use are checked anyway.
        if row.damage.is_none() {
            model.restore_handles(next);
        }
        return row.damage.clone().map_or(Ok(()), Err);
    }
    let item: StoredItem = serde_json::from_slice(&row.value).map_err(|e| e.to_string())?;
    let fits = row.damage.is_none() && row.key == item_key(&item.key());
    model.restore_uid(item.uid());
    if fits {
        model.put_item(&item.key(), Some(item.clone()), scratch);
        if model.stored_item(&item.key()).is_some() {
            return Ok(());
        }
    }
    model.reserve_item(&item);
    let reason = "its key does not fit, or it refers to a switch that does not exist";
    Err(row.damage.clone().unwrap_or_else(|| reason.to_owned()))
}

/// Compares a topology with the inventory. Returns whether to import it.
///
/// # Errors
/// It should be imported but cannot.
pub(in crate::controller) fn compare(model: &mut Model, start: &Start) -> Result<bool, StartError> {
    let Some(topology) = &start.topology else {
        return Ok(false);
    };
    match model.differences(topology) {
        Ok(differences) if differences.is_empty() => Ok(false),
        Ok(_) if start.import => Ok(true),
        Err(error) if start.import => Err(StartError::Import(error)),
        Ok(differences) => {
            let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
            warn!(
                "the topology file differs from the stored inventory, which is used; --import-topology takes the file \
                 over:\n{}",
                list.join("\n")
            );
            Ok(false)
        }
        Err(error) => {
            warn!(%error, "the topology file differs from the stored inventory, which is used, and cannot be imported");
            Ok(false)
        }
    }
}
