//! The holders of addresses.
//!
//! A lease belongs to a *holder*: a switch of the inventory, whatever software it runs, or a stranger that an operator
//! let in. Each holder has at most one lease, each address at most one holder. An expired lease is remembered until its
//! address is needed, so that its holder gets the same address again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::{Mac, Name};

use super::address::Address;
use crate::settings::Pool;

/// Seconds since 1970. Leases outlive the process, so they need a clock that does too.
pub type Seconds = u64;

/// How long an offer is kept for its client. Clients reply at once; a client behind a relay and a slow line replies
/// within some seconds.
const OFFER_SECONDS: Seconds = 60;
/// How long an address that a client found in use (DECLINE) is not given out.
const DECLINED_SECONDS: Seconds = 300;
/// Most offers and declined addresses that are kept at once; when there are more, nobody gets a new offer until some expire.
const MOST_PENDING: usize = 4096;

/// The holder of a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// A switch of the inventory.
    Switch(Name),
    /// A machine that came in through the enrolment window.
    Stranger(Mac),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(name) => write!(f, "switch {name}"),
            Self::Stranger(mac) => write!(f, "stranger {mac}"),
        }
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.to_string()
    }
}

impl TryFrom<String> for Holder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || format!("`{text}`: expected `switch NAME` or `stranger MAC`");
        match text.split_once(' ') {
            Some(("switch", name)) => Name::from_str(name).map(Self::Switch).map_err(|_| expected()),
            Some(("stranger", mac)) => Mac::from_str(mac).map(Self::Stranger).map_err(|_| expected()),
            _ => Err(expected()),
        }
    }
}

/// An address that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease<A = Ipv4Addr> {
    /// Who has it.
    pub holder: Holder,
    /// The hardware address that requested it last.
    pub mac: Mac,
    /// The address.
    pub address: A,
    /// When it ends.
    pub expires: Seconds,
}

/// Why no address can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress<A: Address = Ipv4Addr> {
    /// The subnet has no pool, and the switch no address of its own in it.
    #[error("the subnet has no pool, and the switch no P4Runtime address in it")]
    NoPool,
    /// Every address of the pool is taken.
    #[error("all {size} addresses of the pool {first} to {last} are taken", size = .0.size(), first = .0.first, last = .0.last)]
    Exhausted(Pool<A>),
    /// The switch's own address is leased to another machine for now.
    #[error("its address {address} is leased to {holder} until that lease ends")]
    Held {
        /// The address.
        address: A,
        /// Who has it.
        holder: Holder,
    },
    /// A client found the address in use.
    #[error("its address {0} was found in use by another machine")]
    Declined(A),
    /// Too many offers wait for their clients.
    #[error("{MOST_PENDING} offers wait for their clients")]
    Busy,
}

/// A change of leases, with everything that is needed to undo it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<A = Ipv4Addr> {
    /// What is new.
    pub put: Lease<A>,
    before: Option<Lease<A>>,
    displaced: Option<Lease<A>>,
}

/// The holders of addresses. No I/O.
#[derive(Debug)]
pub struct Leases<A = Ipv4Addr> {
    by_holder: HashMap<Holder, Lease<A>>,
    by_address: BTreeMap<A, Holder>,
    offers: HashMap<Holder, (A, Seconds)>,
    offered: BTreeMap<A, Holder>,
    declined: BTreeMap<A, Seconds>,
    /// Where the search for a free address begins.
    cursor: u32,
}

impl<A> Default for Leases<A> {
    fn default() -> Self {
        Self {
            by_holder: HashMap::new(),
            by_address: BTreeMap::new(),
            offers: HashMap::new(),
            offered: BTreeMap::new(),
            declined: BTreeMap::new(),
            cursor: 0,
        }
    }
}

impl<A: Address> Leases<A> {
    /// Begins with the leases of an earlier process, oldest first: a later lease replaces earlier ones of its holder
    /// and its address.
    pub fn new(stored: impl IntoIterator<Item = Lease<A>>) -> Self {
        let mut leases = Self::default();
        for lease in stored {
            leases.put(lease);
        }
        leases
    }

    /// All leases, in the order of their addresses.
    pub fn all(&self) -> impl Iterator<Item = &Lease<A>> {
        self.by_address.values().filter_map(|holder| self.by_holder.get(holder))
    }

    /// The lease of a holder, expired or not.
    pub fn of(&self, holder: &Holder) -> Option<&Lease<A>> {
        self.by_holder.get(holder)
    }

    /// The lease of an address, expired or not.
    pub fn at(&self, address: A) -> Option<&Lease<A>> {
        self.by_holder.get(self.by_address.get(&address)?)
    }

    /// The address that was offered to a holder.
    pub fn offer_of(&self, holder: &Holder, now: Seconds) -> Option<A> {
        self.offers
            .get(holder)
            .filter(|(_, until)| *until > now)
            .map(|(a, _)| *a)
    }

    /// Adds a lease. Another holder of the address loses it.
    pub fn put(&mut self, put: Lease<A>) -> Change<A> {
        self.withdraw(&put.holder);
        let displaced = self.by_address.get(&put.address).filter(|h| **h != put.holder).cloned();
        let displaced = displaced.and_then(|holder| self.by_holder.remove(&holder));
        let before = self.by_holder.insert(put.holder.clone(), put.clone());
        if let Some(before) = &before {
            self.by_address.remove(&before.address);
        }
        self.by_address.insert(put.address, put.holder.clone());
        Change { put, before, displaced }
    }

    /// Undoes a change. Changes are undone in the reverse order.
    pub fn undo(&mut self, change: Change<A>) {
        let Change { put, before, displaced } = change;
        self.by_holder.remove(&put.holder);
        self.by_address.remove(&put.address);
        for lease in before.into_iter().chain(displaced) {
            self.by_address.insert(lease.address, lease.holder.clone());
            self.by_holder.insert(lease.holder.clone(), lease);
        }
    }

    /// Withdraws an offer.
    pub fn withdraw(&mut self, holder: &Holder) {
        if let Some((address, _)) = self.offers.remove(holder) {
            self.offered.remove(&address);
        }
    }

    /// A client found an address in use.
    pub fn decline(&mut self, address: A, now: Seconds) {
        if self.declined.len() < MOST_PENDING {
            self.declined.insert(address, now + DECLINED_SECONDS);
        }
    }

    /// Forgets expired offers and declined addresses. Called about once a second.
    pub fn expire(&mut self, now: Seconds) {
        self.declined.retain(|_, until| *until > now);
        let over = self.offers.iter().filter(|(_, (_, until))| *until <= now);
        for holder in over.map(|(holder, _)| holder.clone()).collect::<Vec<_>>() {
            self.withdraw(&holder);
        }
    }

    fn is_declined(&self, address: A, now: Seconds) -> bool {
        self.declined.get(&address).is_some_and(|until| *until > now)
    }

    /// The lease of an address, if another machine has it. A lease of another holder may still belong to the same
    /// machine: a stranger may have been enrolled, or a switch renamed.
    fn held(&self, address: A, holder: &Holder, mac: Mac, now: Seconds) -> Option<&Lease<A>> {
        let lease = self.at(address)?;
        (lease.expires > now && lease.holder != *holder && lease.mac != mac).then_some(lease)
    }

    /// Whether another holder has an address: it is leased to that holder, or offered and not taken yet.
    fn is_anothers(&self, address: A, holder: &Holder, mac: Mac, now: Seconds) -> bool {
        let leased = self.held(address, holder, mac, now).is_some();
        leased
            || self
                .offered
                .get(&address)
                .is_some_and(|h| h != holder && self.offer_of(h, now).is_some())
    }

    /// Whether a holder may have an address: its own one, or a free one of the pool that is not reserved for another.
    pub fn may_have(&self, holder: &Holder, address: A, place: &Place<'_, A>, now: Seconds) -> bool {
        let right = match place.own {
            Some(own) => own == address,
            None => place.pool.is_some_and(|pool| pool.contains(address)) && !(place.kept)(address),
        };
        right && !self.is_declined(address, now) && !self.is_anothers(address, holder, place.mac, now)
    }

    /// Chooses an address for a holder and keeps it for a while.
    ///
    /// # Errors
    /// Why there is no address.
    pub fn offer(
        &mut self,
        holder: &Holder,
        asked: Option<A>,
        place: &Place<'_, A>,
        now: Seconds,
    ) -> Result<A, NoAddress<A>> {
        let address = self.choose(holder, asked, place, now)?;
        if self.offers.len() >= MOST_PENDING && !self.offers.contains_key(holder) {
            self.expire(now);
            if self.offers.len() >= MOST_PENDING {
                return Err(NoAddress::Busy);
            }
        }
        self.withdraw(holder);
        self.offers.insert(holder.clone(), (address, now + OFFER_SECONDS));
        self.offered.insert(address, holder.clone());
        Ok(address)
    }

    fn choose(
        &mut self,
        holder: &Holder,
        asked: Option<A>,
        place: &Place<'_, A>,
        now: Seconds,
    ) -> Result<A, NoAddress<A>> {
        if let Some(address) = place.own {
            if self.is_declined(address, now) {
                return Err(NoAddress::Declined(address));
            }
            return match self.held(address, holder, place.mac, now) {
                Some(lease) => Err(NoAddress::Held {
                    address,
                    holder: lease.holder.clone(),
                }),
                None => Ok(address),
            };
        }
        let pool = place.pool.ok_or(NoAddress::NoPool)?;
        let enrolled = Holder::Stranger(place.mac);
        let before = self.of(holder).or_else(|| self.of(&enrolled)).map(|l| l.address);
        let offered = self.offer_of(holder, now);
        let known = [before, offered, asked].into_iter().flatten();
        if let Some(address) = known.into_iter().find(|a| self.may_have(holder, *a, place, now)) {
            return Ok(address);
        }
        // First an address that nobody had; then the one whose lease ended first.
        let size = pool.size();
        let start = self.cursor % size;
        let all = (0..size).map(|i| pool.first.plus((start + i) % size));
        let mut oldest: Option<(Seconds, A)> = None;
        for address in all.filter(|a| !(place.kept)(*a)) {
            if !self.may_have(holder, address, place, now) {
                continue;
            }
            match self.at(address).map(|l| l.expires) {
                None => {
                    let place = address.number().saturating_sub(pool.first.number());
                    self.cursor = u32::try_from(place).unwrap_or_default().wrapping_add(1);
                    return Ok(address);
                }
                Some(expires) if oldest.is_none_or(|(best, _)| expires < best) => oldest = Some((expires, address)),
                Some(_) => {}
            }
        }
        oldest.map(|(_, address)| address).ok_or(NoAddress::Exhausted(pool))
    }
}

/// The addresses that a holder can get in its subnet.
pub struct Place<'a, A = Ipv4Addr> {
    /// The hardware address of the client.
    pub mac: Mac,
    /// Its own address, if it has one there.
    pub own: Option<A>,
    /// The pool of the subnet.
    pub pool: Option<Pool<A>>,
    /// Addresses that are kept for switches, the server and routers.
    pub kept: &'a dyn Fn(A) -> bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(first: u8, last: u8) -> Pool {
        Pool {
            first: [192, 0, 2, first].into(),
            last: [192, 0, 2, last].into(),
        }
    }

    fn stranger(last: u8) -> Holder {
        Holder::Stranger(Mac([2, 0, 0, 0, 0, last]))
    }

    fn lease(holder: &Holder, address: Ipv4Addr, expires: Seconds) -> Lease {
        Lease {
            holder: holder.clone(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            address,
            expires,
        }
    }

    fn place(pool: Pool) -> Place<'static> {
        Place {
            mac: Mac([2, 0, 0, 0, 0, 0xff]),
            own: None,
            pool: Some(pool),
            kept: &|a| a.octets()[3] == 100,
        }
    }

    #[test]
    fn a_pool_gives_each_address_once_then_says_that_it_is_exhausted_then_reuses_what_ended_first() {
        let mut leases = Leases::default();
        let place = place(pool(100, 103));
        let mut given = Vec::new();
        for i in 1..=3 {
            let address = leases.offer(&stranger(i), None, &place, 0).unwrap();
            leases.put(lease(&stranger(i), address, 100 + Seconds::from(i)));
            given.push(address);
        }
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 3, "100 is kept");
        let error = leases.offer(&stranger(4), None, &place, 50).unwrap_err();
        assert_eq!(
            error.to_string(),
            "all 4 addresses of the pool 192.0.2.100 to 192.0.2.103 are taken"
        );
        let first = leases.of(&stranger(1)).unwrap().address;
        assert_eq!(leases.offer(&stranger(4), None, &place, 200), Ok(first));
        // While its address is offered to somebody else, the former holder gets another one; when it is free, it gets
        // its own again.
        assert_ne!(leases.offer(&stranger(1), None, &place, 200), Ok(first));
        assert_eq!(leases.offer(&stranger(1), None, &place, 300), Ok(first));
    }

    #[test]
    fn an_own_address_is_given_or_named() {
        let mut leases = Leases::default();
        let own = Ipv4Addr::new(192, 0, 2, 9);
        let place = Place {
            mac: Mac([2, 0, 0, 0, 0, 0xff]),
            own: Some(own),
            pool: None,
            kept: &|_| true,
        };
        assert_eq!(
            leases.offer(&stranger(1), Some([192, 0, 2, 8].into()), &place, 0),
            Ok(own)
        );
        leases.put(lease(&stranger(2), own, 10));
        let error = leases.offer(&stranger(1), None, &place, 5).unwrap_err();
        assert!(error.to_string().contains("stranger 02:00:00:00:00:02"), "{error}");
        assert_eq!(leases.offer(&stranger(1), None, &place, 10), Ok(own));
        leases.decline(own, 10);
        assert_eq!(
            leases.offer(&stranger(1), None, &place, 11),
            Err(NoAddress::Declined(own))
        );
        assert_eq!(leases.offer(&stranger(1), None, &place, 10 + DECLINED_SECONDS), Ok(own));
    }

    #[test]
    fn a_machine_keeps_its_address_when_its_name_changes() {
        let mut leases = Leases::default();
        let place = Place {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            ..place(pool(101, 104))
        };
        let address = leases.offer(&stranger(1), None, &place, 0).unwrap();
        leases.put(lease(&stranger(1), address, 100));
        let mut switch = Holder::Switch("leaf1".parse().unwrap());
        for name in ["leaf2", "leaf3"] {
            assert_eq!(leases.offer(&switch, Some(address), &place, 1), Ok(address), "{name}");
            leases.put(lease(&switch, address, 100));
            assert_eq!(leases.all().count(), 1);
            switch = Holder::Switch(name.parse().unwrap());
        }
    }

    #[test]
    fn offers_are_bounded_and_expire() {
        let mut leases = Leases::<Ipv4Addr>::default();
        let place = Place {
            mac: Mac([2, 0, 0, 0, 0, 0xff]),
            own: None,
            pool: Some(Pool {
                first: [10, 0, 0, 1].into(),
                last: [10, 0, 255, 0].into(),
            }),
            kept: &|_| false,
        };
        let holder = |i: usize| Holder::Stranger(Mac([2, 0, 0, 0, (i >> 8) as u8, i as u8]));
        for i in 0..MOST_PENDING {
            leases.offer(&holder(i), None, &place, 0).unwrap();
        }
        assert_eq!(
            leases.offer(&holder(MOST_PENDING), None, &place, 1),
            Err(NoAddress::Busy)
        );
        assert!(leases.offer(&holder(3), None, &place, 1).is_ok());
        assert!(leases.offer(&holder(MOST_PENDING), None, &place, OFFER_SECONDS).is_ok());
    }

    proptest! {
        /// Whatever happens, an address has one holder, and an undone change leaves no trace.
        #[test]
        fn one_address_has_one_holder(steps in proptest::collection::vec((0..6u8, 0..5u8, 0..400u64, any::<bool>()), 1..60)) {
            let mut leases = Leases::default();
            let place = place(pool(101, 104));
            let mut now = 0;
            for (who, what, wait, keep) in steps {
                now += wait;
                let holder = stranger(who);
                match what {
                    0..=2 => {
                        if let Ok(address) = leases.offer(&holder, None, &place, now) {
                            let live = leases.at(address).filter(|l| l.expires > now);
                            prop_assert!(live.is_none_or(|l| l.holder == holder));
                            let before: Vec<Lease> = leases.all().cloned().collect();
                            let change = leases.put(lease(&holder, address, now + 200));
                            if !keep {
                                leases.undo(change);
                                prop_assert_eq!(before, leases.all().cloned().collect::<Vec<_>>());
                            }
                        }
                    }
                    3 => leases.expire(now),
                    _ => leases.decline([192, 0, 2, 101 + who % 4].into(), now),
                }
                let addresses: Vec<Ipv4Addr> = leases.all().map(|l| l.address).collect();
                let mut once = addresses.clone();
                once.dedup();
                prop_assert_eq!(addresses.len(), once.len());
                prop_assert_eq!(leases.by_holder.len(), leases.by_address.len());
            }
        }
    }
}
