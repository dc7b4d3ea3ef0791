//! Room in the tables of switches: a change that would not fit is refused before anything is written.
//!
//! **Model.** Two things limit a change: the size of each table of each switch ([`Tables`]), and the share of it that a vDC
//! may use (`limits.table_percent`). A switch's table holds the entries that contributions ask for, each once. A vDC uses
//! the entries that its objects' contributions ask for. Both are counted as contributions are added and removed
//! ([`Ledger`](crate::device), [`Published`]).
//!
//! The writer runs ahead of the published state, so it first uses an upper bound: a transaction adds at most the entries
//! that its contributions ask for now but did not ask for when they were last published. If the
//! published count plus the bounds of all transactions under way and of this one fit, the transaction fits. Only if
//! they do not, the writer waits until nothing is under way, and counts exactly.
//!
//! An object that waits for a number asks for its entries later, without a transaction. Room is kept for them meanwhile.
//!
//! **Invariant.** After an accepted transaction, everything that each switch should hold fits into its tables, even when nothing
//! waits any more. There are three exceptions: objects loaded from the store at a start, paths that change with links, and
//! devices that arrive. A transaction that adds nothing to a full table is not refused.
//!
//! **Cost.** For each contribution that a transaction touches, a comparison of the new rendering with the old; near the
//! limit, the same as a plan.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::kind::{Kind, Spec};
use vfabric_api::plan::TableChange;
use vfabric_api::status::TableUse;
use vfabric_api::topology::Role;

use super::Controller;
use super::published::Published;
use crate::engine::{Previewed, Rendered};
use crate::entity::Entity;
use crate::ident::{DeviceIndex, Source};
use crate::model::Model;
use crate::model::change::Applied;
use crate::store::Store;
use crate::tables::{Table, Tables, table_of};

/// A table of a switch, by P4Info id.
pub(super) type Place = (DeviceIndex, u32);

/// The most entries that something may add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// Entries that are added to tables of switches.
    switches: FxHashMap<Place, usize>,
    /// Entries that are added to the use of vDCs with a share.
    vdcs: FxHashMap<(Name, Place), usize>,
}

impl Growth {
    pub(super) fn is_empty(&self) -> bool {
        self.switches.is_empty() && self.vdcs.is_empty()
    }

    pub(super) fn add(&mut self, more: &Self) {
        for (place, count) in &more.switches {
            *self.switches.entry(*place).or_default() += count;
        }
        for (key, count) in &more.vdcs {
            *self.vdcs.entry(key.clone()).or_default() += count;
        }
    }

    /// Subtracts it again.
    pub(super) fn subtract(&mut self, less: &Self) {
        fn lower<K: Eq + std::hash::Hash>(counts: &mut FxHashMap<K, usize>, key: &K, by: usize) {
            if let Some(count) = counts.get_mut(key) {
                *count = count.saturating_sub(by);
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        less.switches
            .iter()
            .for_each(|(key, by)| lower(&mut self.switches, key, *by));
        less.vdcs.iter().for_each(|(key, by)| lower(&mut self.vdcs, key, *by));
    }

    fn at(&self, place: Place) -> usize {
        self.switches.get(&place).copied().unwrap_or_default()
    }

    fn of(&self, vdc: &Name, place: Place) -> usize {
        // A look-up needs an owned key, so it copies the name. Few vDCs have a share.
        self.vdcs.get(&(vdc.clone(), place)).copied().unwrap_or_default()
    }
}

/// The part of a carried-out transaction that matters for room in tables.
pub(super) struct Asked<'a> {
    pub(super) applied: &'a Applied,
    /// The touched contributions, rendered as if nothing waited.
    pub(super) rendered: &'a Rendered,
    /// Whether the caller may not know what others use.
    pub(super) is_tenant: bool,
}

/// Why a transaction is not accepted.
pub(super) enum Tight {
    /// The transaction may not fit. That can only be decided when nothing is under way.
    Unknown,
    /// The transaction does not fit.
    Refused(ApiError),
}

/// How many more entries one table of one switch needs, counted exactly; negative: fewer.
struct Exact {
    place: Place,
    more: i64,
}

/// Entries of a table that a vDC may use.
fn share(percent: u8, table: &Table) -> usize {
    table.size.saturating_mul(percent.into()) / 100
}

/// Entries in `now` that are not in `before`, by key. Both are sorted.
fn fresh<'a>(before: &'a [Arc<Entity>], now: &'a [Entity]) -> impl Iterator<Item = &'a Entity> {
    let mut before = before.iter().peekable();
    now.iter().filter(move |entity| {
        while before.next_if(|old| old.cmp_key(entity).is_lt()).is_some() {}
        before.next_if(|old| old.cmp_key(entity).is_eq()).is_none()
    })
}

/// Changes of the count of each table.
fn changes(previewed: &[Previewed]) -> FxHashMap<u32, i64> {
    let mut counts: FxHashMap<u32, i64> = FxHashMap::default();
    for change in previewed {
        let (entity, by) = match (&change.before, &change.after) {
            (None, Some(entity)) => (entity, 1),
            (Some(entity), None) => (entity, -1),
            _ => continue,
        };
        if let Some(table) = table_of(entity) {
            *counts.entry(table).or_default() += by;
        }
    }
    counts
}

/// A count of entries. Memory bounds it far below the limit of the type.
fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> usize {
    usize::try_from(count).unwrap_or_default()
}

impl Published {
    /// The vDC of a contribution, with its share, if it has one.
    fn shared<'a>(&self, model: &'a Model, source: Source) -> Option<(&'a Name, u8)> {
        let vdc = model.vdc_of(source.owner())?;
        Some((vdc, model.vdc(vdc)?.spec.limits.table_percent?))
    }

    /// The entries that a vDC asks for with a published contribution; none if the contribution belongs to another vDC.
    fn asked_of(&self, vdc: &Name, source: Source) -> &[Arc<Entity>] {
        match self.owned(source.owner()) {
            Some(object) if object.key.vdc == *vdc => self.engine.contribution(source),
            _ => &[],
        }
    }

    /// The most entries that contributions may add to the published ones.
    pub(super) fn growth(&self, tables: &Tables, model: &Model, rendered: &Rendered) -> Growth {
        let mut growth = Growth::default();
        for (device, all) in rendered.by_device() {
            let Some(role) = model.fabric.role_of(device) else {
                continue;
            };
            for (source, now) in all {
                self.grow(&mut growth, tables, model, (device, role), (*source, now));
            }
        }
        growth
    }

    /// Adds the most entries that one contribution may add.
    fn grow(
        &self,
        growth: &mut Growth,
        tables: &Tables,
        model: &Model,
        (device, role): (DeviceIndex, Role),
        (source, now): (Source, &[Entity]),
    ) {
        for table in fresh(self.engine.contribution(source), now).filter_map(table_of) {
            if tables.get(role, table).is_some() {
                *growth.switches.entry((device, table)).or_default() += 1;
            }
        }
        let Some((vdc, _)) = self.shared(model, source) else {
            return;
        };
        for table in fresh(self.asked_of(vdc, source), now).filter_map(table_of) {
            *growth.vdcs.entry((vdc.clone(), (device, table))).or_default() += 1;
        }
    }

    /// The entries that contributions will add when nothing waits any more, beyond those that they add now.
    pub(super) fn reserve(
        &self,
        tables: &Tables,
        model: &Model,
        now: &Rendered,
        later: &Rendered,
    ) -> Vec<(Source, Growth)> {
        let by_source: FxHashMap<Source, &[Entity]> = now
            .by_device()
            .flat_map(|(_, all)| all.iter().map(|(source, entities)| (*source, entities.as_slice())))
            .collect();
        let mut reserve = Vec::new();
        for (device, all) in later.by_device() {
            let Some(role) = model.fabric.role_of(device) else {
                continue;
            };
            for (source, then) in all {
                let at_once = by_source.get(source).copied().unwrap_or_default();
                if then.len() <= at_once.len() {
                    continue;
                }
                let (mut growth, mut covered) = (Growth::default(), Growth::default());
                self.grow(&mut growth, tables, model, (device, role), (*source, then));
                self.grow(&mut covered, tables, model, (device, role), (*source, at_once));
                growth.subtract(&covered);
                if !growth.is_empty() {
                    reserve.push((*source, growth));
                }
            }
        }
        reserve
    }

    /// Room that is kept for contributions other than those rendered here.
    fn reserved_for_others(&self, rendered: &Rendered) -> Growth {
        let mut reserved = self.reserved.clone();
        if !reserved.is_empty() {
            let sources = rendered.by_device().flat_map(|(_, all)| all);
            let own = sources.filter_map(|(source, _)| self.reservations.get(source));
            own.for_each(|own| reserved.subtract(own));
        }
        reserved
    }

    /// Entries that a vDC uses of a table.
    fn used_by(&self, vdc: &Name, place: Place) -> usize {
        let counts = self.vdcs.get(vdc).map(|vdc| &vdc.entries);
        counts
            .and_then(|counts| counts.get(&place))
            .copied()
            .unwrap_or_default()
    }
}

impl<S: Store> Controller<S> {
    fn table(&self, model: &Model, (device, table): Place) -> Option<&Table> {
        self.tables.get(model.fabric.role_of(device)?, table)
    }

    /// Entries that a table should hold, as published.
    fn entries(&self, (device, table): Place) -> usize {
        let device = self.registry.get(device);
        device.map_or(0, |device| device.entries([table]).into_iter().sum())
    }

    /// Checks that a transaction fits. Returns what it may add.
    ///
    /// # Errors
    /// It does not fit, or that cannot be decided while others are under way.
    pub(super) fn fits(
        &self,
        model: &Model,
        asked: &Asked<'_>,
        under_way: &Growth,
        is_fresh: bool,
    ) -> Result<Growth, Tight> {
        if self.tables.is_empty() {
            return Ok(Growth::default());
        }
        let published = self.published();
        let growth = published.growth(&self.tables, model, asked.rendered);
        let is_lowered = lowered(asked.applied);
        if !is_lowered && self.surely_fits(&published, model, &growth, under_way) {
            return Ok(growth);
        }
        if !is_fresh {
            return Err(Tight::Unknown);
        }
        self.refuse_full(&published, model, asked).map_err(Tight::Refused)?;
        self.refuse_above_share(&published, model, asked)
            .map_err(Tight::Refused)?;
        Ok(growth)
    }

    fn surely_fits(&self, published: &Published, model: &Model, growth: &Growth, under_way: &Growth) -> bool {
        let reserved = &published.reserved;
        let switches = growth.switches.iter().all(|(place, more)| {
            let taken = self.entries(*place) + under_way.at(*place) + reserved.at(*place);
            self.table(model, *place).is_none_or(|table| taken + more <= table.size)
        });
        let vdcs = growth.vdcs.iter().all(|((vdc, place), more)| {
            let percent = model.vdc(vdc).and_then(|vdc| vdc.spec.limits.table_percent);
            let Some((percent, table)) = percent.zip(self.table(model, *place)) else {
                return true;
            };
            let taken = published.used_by(vdc, *place) + under_way.of(vdc, *place) + reserved.of(vdc, *place);
            taken + more <= share(percent, table)
        });
        switches && vdcs
    }

    /// Counts exactly what a transaction asks of tables. Nothing is under way.
    fn refuse_full(&self, published: &Published, model: &Model, asked: &Asked<'_>) -> Result<(), ApiError> {
        let reserved = published.reserved_for_others(asked.rendered);
        let mut all: Vec<Exact> = Vec::new();
        for (device, previewed) in published.engine.preview(asked.rendered) {
            let counts = changes(&previewed).into_iter();
            all.extend(counts.map(|(table, more)| Exact {
                place: (device, table),
                more,
            }));
        }
        all.sort_unstable_by_key(|exact| exact.place);
        for Exact { place, more } in all.into_iter().filter(|exact| exact.more > 0) {
            let Some(table) = self.table(model, place) else {
                continue;
            };
            let taken = self.entries(place) + reserved.at(place);
            let (needed, free) = (unsigned(more), table.size.saturating_sub(taken));
            if needed <= free {
                continue;
            }
            let switch = model.fabric.device_name(place.0).unwrap_or_default();
            let (name, size) = (&table.name, table.size);
            let free = match asked.is_tenant {
                // The free room of a switch would reveal something about other vDCs.
                true => "fewer are free".to_owned(),
                false => format!("{free} of {size} are free"),
            };
            let detail = format!(
                "switch `{switch}` has no room for this: table `{name}` needs {needed} more entries, and {free}"
            );
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        Ok(())
    }

    /// Refuses what would exceed the shares of vDCs.
    fn refuse_above_share(&self, published: &Published, model: &Model, asked: &Asked<'_>) -> Result<(), ApiError> {
        let reserved = published.reserved_for_others(asked.rendered);
        let mut more: FxHashMap<(&Name, Place), i64> = FxHashMap::default();
        for (device, all) in asked.rendered.by_device() {
            for (source, now) in all {
                for table in now.iter().filter_map(table_of) {
                    if let Some((vdc, _)) = published.shared(model, *source) {
                        *more.entry((vdc, (device, table))).or_default() += 1;
                    }
                }
                let Some(before) = published.owned(source.owner()) else {
                    continue;
                };
                for table in published
                    .engine
                    .contribution(*source)
                    .iter()
                    .filter_map(|e| table_of(e))
                {
                    *more.entry((&before.key.vdc, (device, table))).or_default() -= 1;
                }
            }
        }
        // A lowered share concerns everything that the vDC uses.
        let lowered: Vec<&Name> = lowered_vdcs(asked.applied).collect();
        for vdc in &lowered {
            let used = published.vdcs.get(*vdc).map(|vdc| vdc.entries.keys());
            for place in used.into_iter().flatten() {
                more.entry((vdc, *place)).or_default();
            }
        }
        let mut all: Vec<_> = more.into_iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        for ((vdc, place), more) in all {
            let percent = model.vdc(vdc).and_then(|vdc| vdc.spec.limits.table_percent);
            let Some((percent, table)) = percent.zip(self.table(model, place)) else {
                continue;
            };
            let is_lowered = lowered.contains(&vdc);
            let used = published.used_by(vdc, place) + reserved.of(vdc, place);
            let (after, most) = (signed(used) + more, share(percent, table));
            if after <= signed(most) || (more <= 0 && !is_lowered) {
                continue;
            }
            let switch = model.fabric.device_name(place.0).unwrap_or_default();
            let name = &table.name;
            let may =
                format!("vDC `{vdc}` may use {most} entries ({percent} %) of table `{name}` on switch `{switch}`");
            let detail = if more <= 0 {
                format!("{may}, and uses {used}")
            } else {
                let free = most.saturating_sub(used);
                format!("{may}: {more} more are needed, and {free} are free")
            };
            let code = if is_lowered {
                ErrorCode::InUse
            } else {
                ErrorCode::Exhausted
            };
            return Err(ApiError::new(code, detail));
        }
        Ok(())
    }

    /// The tables of a switch in a plan: those whose number of entries changes, by name.
    pub(super) fn table_changes(
        &self,
        model: &Model,
        device: DeviceIndex,
        previewed: &[Previewed],
    ) -> Vec<TableChange> {
        let change = |(table, more): (u32, i64)| {
            let found = self.table(model, (device, table))?;
            let before = self.entries((device, table));
            Some(TableChange {
                table: found.name.clone(),
                before,
                after: unsigned(signed(before) + more),
                size: found.size,
            })
        };
        let changed = changes(previewed).into_iter().filter(|(_, more)| *more != 0);
        let mut all: Vec<TableChange> = changed.filter_map(change).collect();
        all.sort_unstable_by(|a, b| a.table.cmp(&b.table));
        all
    }

    /// How full the tables of switches are, of one switch if one is named. By switch, then by table.
    ///
    /// # Errors
    /// There is no such switch.
    pub(super) fn table_uses(&self, only: Option<&Name>) -> Result<Vec<TableUse>, ApiError> {
        let fabric = self.fabric_now();
        let mut all = Vec::new();
        let switches = fabric.switches().map(|(_, entry)| &entry.spec);
        for spec in switches.filter(|spec| only.is_none_or(|name| spec.name == *name)) {
            let Some(device) = self
                .registry
                .find(&spec.name)
                .and_then(|index| self.registry.get(index))
            else {
                continue;
            };
            let tables = self.tables.role(spec.role);
            let counts = device.entries(tables.keys().copied());
            let uses = tables.values().zip(counts).map(|(table, used)| TableUse {
                switch: spec.name.clone(),
                table: table.name.clone(),
                size: table.size,
                used,
                free: table.size.saturating_sub(used),
            });
            let from = all.len();
            all.extend(uses);
            all[from..].sort_unstable_by(|a: &TableUse, b| a.table.cmp(&b.table));
        }
        match only {
            Some(name) if all.is_empty() && !fabric.switches().any(|(_, entry)| entry.spec.name == *name) => {
                Err(ApiError::not_found(format_args!("switch `{name}`")))
            }
            _ => Ok(all),
        }
    }
}

/// vDCs that get a share or a smaller share by a transaction.
fn lowered_vdcs(applied: &Applied) -> impl Iterator<Item = &Name> {
    let touches_vdc = applied.objects.iter().any(|(key, _)| key.kind == Kind::Vdc);
    let updated = touches_vdc.then(|| applied.updated()).into_iter().flatten();
    updated.filter_map(|(key, before, after)| match (before.spec(), after.spec()) {
        (Spec::Vdc(before), Spec::Vdc(after)) => {
            let (before, after) = (before.limits.table_percent, after.limits.table_percent);
            let is_lowered = after.is_some_and(|after| before.is_none_or(|before| after < before));
            is_lowered.then_some(&key.vdc)
        }
        _ => None,
    })
}

fn lowered(applied: &Applied) -> bool {
    lowered_vdcs(applied).next().is_some()
}
