//! Recent events, in memory.
//!
//! **Model.** Each vDC has a list of events, and so has the fabric ([`Scope`]). If the same thing happens again (same reason, object and
//! device in one scope), the count of the existing event rises, and it becomes the latest.
//!
//! **Invariants.** A scope keeps at most [`OF_VDC`] or [`OF_FABRIC`] events, and all together [`IN_ALL`]. A new event displaces
//! the oldest of its own scope, so no tenant displaces what others see. A scope without events takes the
//! place from the scope with most events. Numbers rise, and after a start they continue after all earlier numbers. Deleting a
//! vDC deletes its events: a later vDC of the same name sees none of them.
//!
//! **Cost.** A few look-ups for each event.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use vfabric_api::event::{Event, EventReason, Events as Page};
use vfabric_api::ident::Name;

/// Events of a vDC that are kept.
const OF_VDC: usize = 256;
/// Events of the fabric that are kept.
const OF_FABRIC: usize = 4096;
/// Events that are kept in all: some megabytes.
const IN_ALL: usize = 32_768;
/// Longest text of an event, in octets: devices choose some of the words.
const DETAIL: usize = 1024;

/// Whose events: a vDC's, or the fabric's.
type Scope = Option<Name>;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct News {
    /// What kind of event it is.
    pub reason: EventReason,
    /// The vDC that it concerns; none: the fabric.
    pub vdc: Option<Name>,
    /// The object that it is about.
    pub object: Option<String>,
    /// The switch or host.
    pub device: Option<Name>,
    /// In words.
    pub detail: String,
}

impl News {
    /// Of the fabric, about nothing in particular.
    pub fn of_fabric(reason: EventReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            vdc: None,
            object: None,
            device: None,
            detail: detail.into(),
        }
    }
}

/// Two events are the same if these are equal.
type Subject = (Scope, EventReason, Option<String>, Option<Name>);

fn subject(event: &Event) -> Subject {
    (
        event.vdc.clone(),
        event.reason,
        event.object.clone(),
        event.device.clone(),
    )
}

struct Kept {
    by_number: BTreeMap<u64, Event>,
    by_subject: HashMap<Subject, u64>,
    by_scope: HashMap<Scope, BTreeSet<u64>>,
    /// Scopes by how many events they have.
    by_count: BTreeSet<(usize, Scope)>,
    last: u64,
}

impl Kept {
    fn count(&self, scope: &Scope) -> usize {
        self.by_scope.get(scope).map_or(0, BTreeSet::len)
    }

    /// Changes the counts of a scope.
    fn change(&mut self, scope: &Scope, change: impl FnOnce(&mut BTreeSet<u64>)) {
        self.by_count.remove(&(self.count(scope), scope.clone()));
        let numbers = self.by_scope.entry(scope.clone()).or_default();
        change(numbers);
        match numbers.len() {
            0 => {
                self.by_scope.remove(scope);
            }
            count => {
                self.by_count.insert((count, scope.clone()));
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Event> {
        let event = self.by_number.remove(&number)?;
        self.by_subject.remove(&subject(&event));
        self.change(&event.vdc, |numbers| {
            numbers.remove(&number);
        });
        Some(event)
    }

    /// Removes the oldest event of a scope.
    fn remove_oldest(&mut self, scope: &Scope) {
        if let Some(oldest) = self.by_scope.get(scope).and_then(|numbers| numbers.first().copied()) {
            self.remove(oldest);
        }
    }

    fn make_room(&mut self, scope: &Scope) {
        let most = if scope.is_some() { OF_VDC } else { OF_FABRIC };
        while self.count(scope) >= most {
            self.remove_oldest(scope);
        }
        while self.by_number.len() >= IN_ALL {
            let loser = match self.count(scope) {
                0 => self.by_count.last().map(|(_, scope)| scope.clone()).unwrap_or_default(),
                _ => scope.clone(),
            };
            self.remove_oldest(&loser);
        }
    }
}

/// The events that are kept.
pub struct Events {
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        // A thousand numbers for each millisecond: more than one run can use, so that the next run continues with
        // larger ones.
        let last = now_ms().saturating_mul(1000);
        let kept = Kept {
            by_number: BTreeMap::new(),
            by_subject: HashMap::new(),
            by_scope: HashMap::new(),
            by_count: BTreeSet::new(),
            last,
        };
        Self {
            kept: Mutex::new(kept),
            last: watch::Sender::new(last),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A text of at most [`DETAIL`] octets.
fn short(mut text: String) -> String {
    if text.len() > DETAIL {
        let end = (0..=DETAIL)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        text.truncate(end);
    }
    text
}

impl Events {
    fn locked(&self) -> MutexGuard<'_, Kept> {
        // Every update under the lock is complete before anything in it can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event.
    pub fn note(&self, news: News) {
        let time_ms = now_ms();
        let mut kept = self.locked();
        kept.last += 1;
        let number = kept.last;
        let mut event = Event {
            number,
            time_ms,
            first_ms: time_ms,
            count: 1,
            reason: news.reason,
            warning: news.reason.is_warning(),
            vdc: news.vdc,
            object: news.object,
            device: news.device,
            detail: short(news.detail),
        };
        let subject = subject(&event);
        let known = kept.by_subject.get(&subject).copied();
        if let Some(before) = known.and_then(|number| kept.remove(number)) {
            event.first_ms = before.first_ms;
            event.count = before.count.saturating_add(1);
        }
        let scope = event.vdc.clone();
        kept.make_room(&scope);
        kept.change(&scope, |numbers| {
            numbers.insert(number);
        });
        kept.by_subject.insert(subject, number);
        kept.by_number.insert(number, event);
        drop(kept);
        // Numbers are allocated under the lock but published after it, so keep the greatest.
        self.last.send_if_modified(|last| {
            let is_later = number > *last;
            *last = number.max(*last);
            is_later
        });
    }

    /// Deletes the events of a deleted vDC.
    pub fn forget(&self, vdc: &Name) {
        let mut kept = self.locked();
        let numbers = kept.by_scope.get(&Some(vdc.clone())).cloned().unwrap_or_default();
        for number in numbers {
            kept.remove(number);
        }
    }

    /// Events after `after`, in order, at most `limit`; without `after`, the last ones. Costs the events that are kept.
    pub fn page(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Page {
        let kept = self.locked();
        let is_seen = |event: &&Event| sees(event.vdc.as_ref());
        let Some(after) = after else {
            let last = kept.by_number.values().rev().filter(is_seen).take(limit);
            let mut items: Vec<Event> = last.cloned().collect();
            items.reverse();
            return Page { items, upto: kept.last };
        };
        let behind = kept.by_number.range(after.saturating_add(1)..).map(|(_, event)| event);
        let items: Vec<Event> = behind.filter(is_seen).take(limit).cloned().collect();
        let upto = match items.last() {
            Some(last) if items.len() == limit => last.number,
            _ => kept.last.max(after),
        };
        Page { items, upto }
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Waits until there is an event after `after`.
    pub async fn happened(&self, after: u64) {
        // The sender lives as long as this.
        let _ = self.last.subscribe().wait_for(|last| *last > after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(vdc: &str, object: usize) -> News {
        News {
            vdc: vdc.parse().ok(),
            object: Some(format!("attachment {object}")),
            ..News::of_fabric(EventReason::Waiting, "words")
        }
    }

    fn details(page: &Page) -> Vec<(Option<&str>, Option<&str>, u64)> {
        page.items
            .iter()
            .map(|e| (e.vdc.as_ref().map(Name::as_str), e.object.as_deref(), e.count))
            .collect()
    }

    #[test]
    fn the_same_again_is_counted_and_comes_last() {
        let events = Events::default();
        let begin = events.last();
        for object in [1, 2, 1] {
            events.note(waits("v", object));
        }
        let page = events.page(Some(begin), 10, &|_| true);
        let expected = [
            (Some("v"), Some("attachment 2"), 1),
            (Some("v"), Some("attachment 1"), 2),
        ];
        assert_eq!(details(&page), expected);
        assert_eq!(page.upto, begin + 3);
        assert_eq!(events.page(None, 1, &|_| true).items, page.items[1..]);
        let first = events.page(Some(begin), 1, &|_| true);
        assert_eq!((first.items.as_slice(), first.upto), (&page.items[..1], begin + 2));
        assert_eq!(events.page(Some(page.upto), 10, &|_| true).items, []);
        assert_eq!(events.page(Some(begin), 10, &|vdc| vdc.is_none()).items, []);
    }

    #[test]
    fn a_tenant_pushes_out_its_own_events_only() {
        let events = Events::default();
        events.note(waits("w", 0));
        events.note(News::of_fabric(EventReason::StoreFault, "words"));
        for object in 0..2 * OF_VDC {
            events.note(waits("v", object));
        }
        let of = |name: Option<&str>| events.page(None, IN_ALL, &|vdc| vdc.map(Name::as_str) == name).items;
        assert_eq!(of(Some("v")).len(), OF_VDC);
        assert_eq!(
            of(Some("v"))[0].object.as_deref(),
            Some(format!("attachment {OF_VDC}").as_str())
        );
        assert_eq!((of(Some("w")).len(), of(None).len()), (1, 1));
        events.forget(&"v".parse().unwrap());
        assert_eq!(of(Some("v")), []);
        assert_eq!((of(Some("w")).len(), of(None).len()), (1, 1));
    }

    #[test]
    fn all_together_are_bounded_and_everybody_gets_a_place() {
        let events = Events::default();
        let vdcs = IN_ALL / OF_VDC + 10;
        for vdc in 0..vdcs {
            for object in 0..OF_VDC {
                events.note(waits(&format!("v{vdc}"), object));
            }
        }
        let kept = events.locked();
        assert_eq!(kept.by_number.len(), IN_ALL);
        assert_eq!(kept.by_scope.len(), vdcs);
        let counts: usize = kept.by_count.iter().map(|(count, _)| count).sum();
        assert_eq!((counts, kept.by_subject.len()), (IN_ALL, IN_ALL));
    }

    #[test]
    fn words_are_cut_between_characters() {
        let events = Events::default();
        events.note(News::of_fabric(EventReason::DeviceLost, "ä".repeat(DETAIL)));
        let page = events.page(None, 1, &|_| true);
        assert_eq!(page.items[0].detail.len(), DETAIL);
    }

    #[tokio::test]
    async fn a_waiter_for_an_event_is_woken_by_it() {
        let events = std::sync::Arc::new(Events::default());
        let after = events.last();
        let waiting = {
            let events = std::sync::Arc::clone(&events);
            tokio::spawn(async move { events.happened(after).await })
        };
        events.note(waits("v", 1));
        waiting.await.unwrap();
    }
}
