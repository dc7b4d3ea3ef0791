//! [`FabricService`] behind a pointer, so that handlers are plain functions.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use crate::error::ApiError;
use crate::event::Events;
use crate::history::{Changes, Diff, History, Revision};
use crate::ident::{Label, Name};
use crate::image::{Content, Image, NewImage};
use crate::intent::Intent;
use crate::inventory::Inventory;
use crate::labels::Selector;
use crate::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use crate::machine::{Install, InstallSpec, Reboot, RebootSpec};
use crate::provisioning::Provisioning;
use crate::service::{ApplyOptions, Backup, Committed, FabricService, Key, Kind, Origin, Page, Rollback, Transaction};
use crate::status::{
    Applied, DeviceEntity, Drops, FabricStatus, HostStatus, LinkStatus, ObjectEntity, SwitchStatus, TableUse, View,
};

type Answer<'a, T> = BoxFuture<'a, Result<T, ApiError>>;

pub(super) trait ErasedService: Send + Sync {
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed>;
    fn apply(&self, intent: Intent, options: ApplyOptions) -> Answer<'_, Committed>;
    fn rollback(&self, rollback: Rollback) -> Answer<'_, Committed>;
    fn history(&self, before: Option<u64>, limit: usize) -> Answer<'_, History>;
    fn revision(&self, revision: u64) -> Answer<'_, Revision>;
    fn diff(&self, from: u64, to: u64) -> Answer<'_, Diff>;
    fn changes(&self, after: u64, limit: usize) -> Answer<'_, Changes>;
    fn revision_now(&self) -> u64;
    fn changed(&self, after: u64) -> BoxFuture<'_, ()>;
    fn events(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Events;
    fn event_now(&self) -> u64;
    fn happened(&self, after: u64) -> BoxFuture<'_, ()>;
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, View>;
    fn list<'a>(
        &'a self,
        kind: Kind,
        vdc: Option<&'a Name>,
        selector: &'a Selector,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Page<View>>;
    fn wait_applied(&self, revision: u64, timeout: Duration) -> BoxFuture<'_, Applied>;
    fn fabric(&self) -> BoxFuture<'_, FabricStatus>;
    fn inventory(&self) -> BoxFuture<'_, Inventory>;
    fn switches(&self) -> BoxFuture<'_, Vec<SwitchStatus>>;
    fn provisioning(&self) -> BoxFuture<'_, Vec<Provisioning>>;
    fn hosts(&self) -> BoxFuture<'_, Vec<HostStatus>>;
    fn make_host_token<'a>(&'a self, host: &'a Name, spec: EnrolmentTokenSpec) -> Answer<'a, HostToken>;
    fn make_switch_token<'a>(&'a self, switch: &'a Name, spec: EnrolmentTokenSpec) -> Answer<'a, SwitchToken>;
    fn reboot<'a>(&'a self, switch: &'a Name, spec: RebootSpec, origin: Origin) -> Answer<'a, Reboot>;
    fn install<'a>(&'a self, switch: &'a Name, spec: InstallSpec, origin: Origin) -> Answer<'a, Install>;
    fn replace_machine<'a>(&'a self, switch: &'a Name, spec: ReplaceSpec, origin: Origin) -> Answer<'a, Lifecycle>;
    fn retire<'a>(&'a self, switch: &'a Name, spec: RetireSpec, origin: Origin) -> Answer<'a, Lifecycle>;
    fn links(&self) -> BoxFuture<'_, Vec<LinkStatus>>;
    fn drops(&self) -> BoxFuture<'_, Drops>;
    fn health(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
    fn metrics(&self) -> BoxFuture<'_, String>;
    fn backup(&self) -> Answer<'_, Backup>;
    fn images(&self) -> Answer<'_, Vec<Image>>;
    fn put_image(&self, image: NewImage, content: Content) -> Answer<'_, Image>;
    fn delete_image(&self, name: Label, force: bool) -> Answer<'_, ()>;
    fn tables<'a>(&'a self, switch: Option<&'a Name>) -> Answer<'a, Vec<TableUse>>;
    fn entities<'a>(&'a self, device: &'a Name) -> Answer<'a, Vec<DeviceEntity>>;
    fn entities_of<'a>(&'a self, key: &'a Key) -> Answer<'a, Vec<ObjectEntity>>;
}

impl<S: FabricService> ErasedService for S {
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        FabricService::commit(self, transaction).boxed()
    }
    fn apply(&self, intent: Intent, options: ApplyOptions) -> Answer<'_, Committed> {
        FabricService::apply(self, intent, options).boxed()
    }
    fn rollback(&self, rollback: Rollback) -> Answer<'_, Committed> {
        FabricService::rollback(self, rollback).boxed()
    }
    fn history(&self, before: Option<u64>, limit: usize) -> Answer<'_, History> {
        FabricService::history(self, before, limit).boxed()
    }
    fn revision(&self, revision: u64) -> Answer<'_, Revision> {
        FabricService::revision(self, revision).boxed()
    }
    fn diff(&self, from: u64, to: u64) -> Answer<'_, Diff> {
        FabricService::diff(self, from, to).boxed()
    }
    fn changes(&self, after: u64, limit: usize) -> Answer<'_, Changes> {
        FabricService::changes(self, after, limit).boxed()
    }
    fn revision_now(&self) -> u64 {
        FabricService::revision_now(self)
    }
    fn changed(&self, after: u64) -> BoxFuture<'_, ()> {
        FabricService::changed(self, after).boxed()
    }
    fn events(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Events {
        FabricService::events(self, after, limit, sees)
    }
    fn event_now(&self) -> u64 {
        FabricService::event_now(self)
    }
    fn happened(&self, after: u64) -> BoxFuture<'_, ()> {
        FabricService::happened(self, after).boxed()
    }
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, View> {
        FabricService::get(self, key).boxed()
    }
    fn list<'a>(
        &'a self,
        kind: Kind,
        vdc: Option<&'a Name>,
        selector: &'a Selector,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Page<View>> {
        FabricService::list(self, kind, vdc, selector, after, limit).boxed()
    }
    fn wait_applied(&self, revision: u64, timeout: Duration) -> BoxFuture<'_, Applied> {
        FabricService::wait_applied(self, revision, timeout).boxed()
    }
    fn health(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        FabricService::health(self).boxed()
    }
    fn metrics(&self) -> BoxFuture<'_, String> {
        FabricService::metrics(self).boxed()
    }
    fn fabric(&self) -> BoxFuture<'_, FabricStatus> {
        FabricService::fabric(self).boxed()
    }
    fn inventory(&self) -> BoxFuture<'_, Inventory> {
        FabricService::inventory(self).boxed()
    }
    fn provisioning(&self) -> BoxFuture<'_, Vec<Provisioning>> {
        FabricService::provisioning(self).boxed()
    }
    fn switches(&self) -> BoxFuture<'_, Vec<SwitchStatus>> {
        FabricService::switches(self).boxed()
    }
    fn hosts(&self) -> BoxFuture<'_, Vec<HostStatus>> {
        FabricService::hosts(self).boxed()
    }
    fn make_host_token<'a>(&'a self, host: &'a Name, spec: EnrolmentTokenSpec) -> Answer<'a, HostToken> {
        FabricService::make_host_token(self, host, spec).boxed()
    }
    fn make_switch_token<'a>(&'a self, switch: &'a Name, spec: EnrolmentTokenSpec) -> Answer<'a, SwitchToken> {
        FabricService::make_switch_token(self, switch, spec).boxed()
    }
    fn reboot<'a>(&'a self, switch: &'a Name, spec: RebootSpec, origin: Origin) -> Answer<'a, Reboot> {
        FabricService::reboot(self, switch, spec, origin).boxed()
    }
    fn install<'a>(&'a self, switch: &'a Name, spec: InstallSpec, origin: Origin) -> Answer<'a, Install> {
        FabricService::install(self, switch, spec, origin).boxed()
    }
    fn replace_machine<'a>(&'a self, switch: &'a Name, spec: ReplaceSpec, origin: Origin) -> Answer<'a, Lifecycle> {
        FabricService::replace_machine(self, switch, spec, origin).boxed()
    }
    fn retire<'a>(&'a self, switch: &'a Name, spec: RetireSpec, origin: Origin) -> Answer<'a, Lifecycle> {
        FabricService::retire(self, switch, spec, origin).boxed()
    }
    fn links(&self) -> BoxFuture<'_, Vec<LinkStatus>> {
        FabricService::links(self).boxed()
    }
    fn drops(&self) -> BoxFuture<'_, Drops> {
        FabricService::drops(self).boxed()
    }
    fn backup(&self) -> Answer<'_, Backup> {
        FabricService::backup(self).boxed()
    }
    fn images(&self) -> Answer<'_, Vec<Image>> {
        FabricService::images(self).boxed()
    }
    fn put_image(&self, image: NewImage, content: Content) -> Answer<'_, Image> {
        FabricService::put_image(self, image, content).boxed()
    }
    fn delete_image(&self, name: Label, force: bool) -> Answer<'_, ()> {
        FabricService::delete_image(self, name, force).boxed()
    }
    fn tables<'a>(&'a self, switch: Option<&'a Name>) -> Answer<'a, Vec<TableUse>> {
        FabricService::tables(self, switch).boxed()
    }
    fn entities_of<'a>(&'a self, key: &'a Key) -> Answer<'a, Vec<ObjectEntity>> {
        FabricService::entities_of(self, key).boxed()
    }
    fn entities<'a>(&'a self, device: &'a Name) -> Answer<'a, Vec<DeviceEntity>> {
        FabricService::entities(self, device).boxed()
    }
}
