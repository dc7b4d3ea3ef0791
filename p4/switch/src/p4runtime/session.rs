//! Client arbitration (P4Runtime specification, section 5) as a pure state machine.
//!
//! The caller reports the events of streams ([`Sessions::arbitrate`], [`Sessions::close`]) and carries out the
//! [`Outcome`]: notifications in the order in which they must be sent. Nothing here knows about gRPC, locks or time.
//!
//! Election ids are compared among peers of one [`Authority`]: an operator's bid, however high, never blocks
//! the controller, and a controller's bid deposes an operator.
//!
//! Invariants: among live streams of one role and authority an election id is held at most once; at most one stream of a
//! role is primary; a primary's election id equals the highest one ever accepted for its role and authority, which never
//! falls; an operator becomes primary only while no controller bids.

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

/// Streams that one role may have open at a time. A fabric has a handful of controllers; more streams come from a
/// runaway client.
pub const MAX_STREAMS_PER_ROLE: usize = 64;

/// Roles remembered at a time. A role outlives its streams (its highest election id must be remembered), so a client
/// that invents role names must not grow memory without limit.
pub const MAX_ROLES: usize = 256;

/// Longest accepted role name, in bytes.
pub const MAX_ROLE_NAME_LEN: usize = 256;

/// A 128-bit election id; ordered as one number (`high` is more significant).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElectionId(pub u128);

impl ElectionId {
    /// Joins the two halves of `p4.v1.Uint128`.
    pub fn new(high: u64, low: u64) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }

    /// The upper 64 bits.
    pub fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The lower 64 bits.
    pub fn low(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for ElectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one open `StreamChannel` for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A peer's authority in the election, as decided by its certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// A person who acts while there is no controller.
    Operator,
    /// The controller, and everybody if certificates are not used.
    #[default]
    Controller,
}

/// A client's `MasterArbitrationUpdate`, with its role config already read.
#[derive(Debug, Clone)]
pub struct Arbitration<C> {
    /// Of the client.
    pub authority: Authority,
    /// The device that the client wants to control.
    pub device_id: u64,
    /// Role name; empty is the default role.
    pub role: String,
    /// The role's definition; `None` means full access.
    pub config: Option<C>,
    /// `None` never becomes primary (section 16.2.1).
    pub election_id: Option<ElectionId>,
}

/// The state of the role in a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The receiver is primary (`OK`).
    Primary,
    /// Somebody else is primary (`ALREADY_EXISTS`).
    Backup,
    /// Nobody is primary (`NOT_FOUND`).
    NoPrimary,
}

/// One `MasterArbitrationUpdate` to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<C> {
    /// Receiver.
    pub stream: StreamId,
    /// Role name; empty is the default role.
    pub role: String,
    /// Config most recently received from a primary of the role.
    pub config: Option<C>,
    /// Highest election id seen for the role; `None` until there was a primary.
    pub election_id: Option<ElectionId>,
    /// The receiver's position.
    pub standing: Standing,
}

/// What the caller must do after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<C> {
    /// Sent at once, in this order.
    pub notify_now: Vec<Notification<C>>,
    /// Sent after every write that the previous primary started has ended (section 5.3, rule 1.b).
    pub notify_after_writes: Option<Notification<C>>,
}

impl<C> Default for Outcome<C> {
    fn default() -> Self {
        Self {
            notify_now: Vec::new(),
            notify_after_writes: None,
        }
    }
}

/// Why an arbitration message ends its stream.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// `NOT_FOUND`.
    #[error("unknown device id {0}")]
    UnknownDevice(u64),
    /// `FAILED_PRECONDITION`.
    #[error("this stream was opened for device id {assigned}, not {requested}")]
    DeviceChanged {
        /// The device id that the stream first named.
        assigned: u64,
        /// The device id that the stream names now.
        requested: u64,
    },
    /// `FAILED_PRECONDITION`.
    #[error("this stream holds role {assigned:?}; open another stream for role {requested:?}")]
    RoleChanged {
        /// The role that the stream first named.
        assigned: String,
        /// The role that the stream names now.
        requested: String,
    },
    /// `INVALID_ARGUMENT`.
    #[error("election id {0} is in use by another live controller of this role")]
    DuplicateElectionId(ElectionId),
    /// `RESOURCE_EXHAUSTED`.
    #[error("this role already has {MAX_STREAMS_PER_ROLE} open streams of such clients")]
    TooManyStreams,
    /// `RESOURCE_EXHAUSTED`.
    #[error("this device already has {MAX_ROLES} roles")]
    TooManyRoles,
    /// `INVALID_ARGUMENT`.
    #[error("a role name may have at most {MAX_ROLE_NAME_LEN} bytes")]
    RoleNameTooLong,
}

/// Why a request that needs the primary was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// `NOT_FOUND`.
    #[error("unknown role {0:?}")]
    UnknownRole(String),
    /// `PERMISSION_DENIED`.
    #[error("not the primary of role {role:?}{}", .election_id.map(|e| format!(" (election id {e})")).unwrap_or_default())]
    NotPrimary {
        /// The role that was named.
        role: String,
        /// The election id that was given.
        election_id: Option<ElectionId>,
    },
}

#[derive(Debug)]
struct Live {
    id: StreamId,
    authority: Authority,
    election_id: Option<ElectionId>,
}

#[derive(Debug)]
struct Role<C> {
    config: Option<C>,
    /// Highest accepted election id of controllers, ...
    highest: Option<ElectionId>,
    /// ... and of operators.
    highest_of_operators: Option<ElectionId>,
    /// Authority of the primary, or of the last one.
    reigning: Authority,
    primary: Option<StreamId>,
    /// Live streams in order of arrival.
    streams: Vec<Live>,
}

impl<C> Default for Role<C> {
    fn default() -> Self {
        Self {
            config: None,
            highest: None,
            highest_of_operators: None,
            reigning: Authority::Controller,
            primary: None,
            streams: Vec::new(),
        }
    }
}

impl<C: Clone> Role<C> {
    fn highest_of(&self, authority: Authority) -> Option<ElectionId> {
        match authority {
            Authority::Controller => self.highest,
            Authority::Operator => self.highest_of_operators,
        }
    }

    fn has_bidding_controller(&self) -> bool {
        let bids = |live: &Live| live.authority == Authority::Controller && live.election_id.is_some();
        self.streams.iter().any(bids)
    }

    fn notification(&self, name: &str, stream: StreamId) -> Notification<C> {
        let receiver = self.streams.iter().find(|live| live.id == stream);
        // A controller ignores operators: it need not outbid one.
        let seen = receiver.map_or(self.reigning, |live| live.authority.max(self.reigning));
        let standing = match self.primary {
            Some(primary) if primary == stream => Standing::Primary,
            Some(_) if seen == self.reigning => Standing::Backup,
            Some(_) | None => Standing::NoPrimary,
        };
        Notification {
            stream,
            role: name.to_owned(),
            config: self.config.clone(),
            election_id: self.highest_of(seen),
            standing,
        }
    }

    fn notify_all_but(&self, name: &str, except: Option<StreamId>) -> Vec<Notification<C>> {
        let live = self.streams.iter().map(|live| live.id);
        live.filter(|stream| Some(*stream) != except)
            .map(|stream| self.notification(name, stream))
            .collect()
    }
}

/// All sessions of one device. `C` is the role config.
#[derive(Debug)]
pub struct Sessions<C> {
    device_id: u64,
    roles: HashMap<String, Role<C>>,
    role_of: HashMap<StreamId, String>,
}

impl<C: Clone + PartialEq> Sessions<C> {
    /// No stream yet.
    pub fn new(device_id: u64) -> Self {
        Self {
            device_id,
            roles: HashMap::new(),
            role_of: HashMap::new(),
        }
    }

    /// The device that these sessions control.
    pub fn device_id(&self) -> u64 {
        self.device_id
    }

    /// Handles one `MasterArbitrationUpdate`.
    ///
    /// # Errors
    /// The stream must be ended with the error (the shell then calls [`Sessions::close`]).
    pub fn arbitrate(&mut self, stream: StreamId, request: Arbitration<C>) -> Result<Outcome<C>, SessionError> {
        self.check(stream, &request)?;
        let Arbitration {
            authority,
            role: name,
            config,
            election_id,
            ..
        } = request;
        // A controller of any role counts: without a role config, each role may change everything.
        let outranked = authority == Authority::Operator && self.roles.values().any(Role::has_bidding_controller);
        let role = self.roles.entry(name.clone()).or_default();
        match role.streams.iter_mut().find(|live| live.id == stream) {
            Some(live) => live.election_id = election_id,
            None => {
                role.streams.push(Live {
                    id: stream,
                    authority,
                    election_id,
                });
                self.role_of.insert(stream, name.clone());
            }
        }

        let mut outcome = Outcome::default();
        let wins = election_id.is_some() && !outranked && election_id >= role.highest_of(authority);
        if wins {
            let unchanged =
                role.primary == Some(stream) && role.highest_of(authority) == election_id && role.config == config;
            role.primary = Some(stream);
            role.reigning = authority;
            match authority {
                Authority::Controller => role.highest = election_id,
                Authority::Operator => role.highest_of_operators = election_id,
            }
            role.config = config;
            // A repeated update changes nothing for the others; a new one is reported to all of them.
            if !unchanged {
                outcome.notify_now = role.notify_all_but(&name, Some(stream));
            }
            outcome.notify_after_writes = Some(role.notification(&name, stream));
            if authority == Authority::Controller {
                outcome.notify_now.extend(self.depose_operators());
            }
        } else if role.primary == Some(stream) {
            role.primary = None;
            outcome.notify_now = role.notify_all_but(&name, None);
        } else {
            outcome.notify_now = vec![role.notification(&name, stream)];
        }
        Ok(outcome)
    }

    /// Ends the primacy of operators in all roles; returns what their roles learn.
    fn depose_operators(&mut self) -> Vec<Notification<C>> {
        let reigns = |role: &Role<C>| role.reigning == Authority::Operator && role.primary.is_some();
        let theirs = self.roles.iter_mut().filter(|(_, role)| reigns(role));
        theirs
            .flat_map(|(name, role)| {
                role.primary = None;
                role.notify_all_but(name, None)
            })
            .collect()
    }

    fn check(&self, stream: StreamId, request: &Arbitration<C>) -> Result<(), SessionError> {
        let assigned = self.role_of.get(&stream);
        if request.device_id != self.device_id {
            return Err(match assigned {
                Some(_) => SessionError::DeviceChanged {
                    assigned: self.device_id,
                    requested: request.device_id,
                },
                None => SessionError::UnknownDevice(request.device_id),
            });
        }
        if let Some(assigned) = assigned
            && *assigned != request.role
        {
            return Err(SessionError::RoleChanged {
                assigned: assigned.clone(),
                requested: request.role.clone(),
            });
        }
        if request.role.len() > MAX_ROLE_NAME_LEN {
            return Err(SessionError::RoleNameTooLong);
        }
        let Some(role) = self.roles.get(&request.role) else {
            // The default role is the controller's, and is there however many others are.
            return if self.roles.len() >= MAX_ROLES && !request.role.is_empty() {
                Err(SessionError::TooManyRoles)
            } else {
                Ok(())
            };
        };
        if let Some(wanted) = request.election_id
            && role.streams.iter().any(|live| {
                live.id != stream && live.authority == request.authority && live.election_id == Some(wanted)
            })
        {
            return Err(SessionError::DuplicateElectionId(wanted));
        }
        let equals = role.streams.iter().filter(|live| live.authority == request.authority);
        if assigned.is_none() && equals.count() >= MAX_STREAMS_PER_ROLE {
            return Err(SessionError::TooManyStreams);
        }
        Ok(())
    }

    /// Forgets a stream; the others of its role learn of it if it was primary.
    pub fn close(&mut self, stream: StreamId) -> Outcome<C> {
        let mut outcome = Outcome::default();
        let Some(name) = self.role_of.remove(&stream) else {
            return outcome;
        };
        if let Some(role) = self.roles.get_mut(&name) {
            role.streams.retain(|live| live.id != stream);
            if role.primary == Some(stream) {
                role.primary = None;
                outcome.notify_now = role.notify_all_but(&name, None);
            }
        }
        outcome
    }

    /// Checks that a request comes from the role's primary (section 12, checks 1 and 2) and returns the role's config.
    ///
    /// # Errors
    /// [`AccessError::UnknownRole`] for a role that no stream ever named, [`AccessError::NotPrimary`] otherwise.
    pub fn authorise(&self, role: &str, election_id: Option<ElectionId>) -> Result<Option<&C>, AccessError> {
        let denied = || AccessError::NotPrimary {
            role: role.to_owned(),
            election_id,
        };
        let known = match self.roles.get(role) {
            Some(known) => known,
            // The default role always exists; it merely has no primary yet.
            None if role.is_empty() => return Err(denied()),
            None => return Err(AccessError::UnknownRole(role.to_owned())),
        };
        match (known.primary, election_id) {
            (Some(_), Some(given)) if known.highest_of(known.reigning) == Some(given) => Ok(known.config.as_ref()),
            _ => Err(denied()),
        }
    }

    /// The config of a role that some stream has named; `Err` for any other. The default role always exists.
    pub fn role_config(&self, role: &str) -> Result<Option<&C>, AccessError> {
        match self.roles.get(role) {
            Some(known) => Ok(known.config.as_ref()),
            None if role.is_empty() => Ok(None),
            None => Err(AccessError::UnknownRole(role.to_owned())),
        }
    }

    /// If `stream` is primary: the config of its role.
    pub fn primary_config(&self, stream: StreamId) -> Option<Option<&C>> {
        let role = self.roles.get(self.role_of.get(&stream)?)?;
        (role.primary == Some(stream)).then_some(role.config.as_ref())
    }

    /// The primary stream of every role that has one, with the role's config.
    pub fn primaries(&self) -> impl Iterator<Item = (StreamId, Option<&C>)> {
        self.roles
            .values()
            .filter_map(|role| role.primary.map(|stream| (stream, role.config.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: u64 = 7;

    fn sessions() -> Sessions<u8> {
        Sessions::new(DEVICE)
    }

    fn request(role: &str, election_id: impl Into<Option<u128>>) -> Arbitration<u8> {
        Arbitration {
            authority: Authority::Controller,
            device_id: DEVICE,
            role: role.into(),
            config: None,
            election_id: election_id.into().map(ElectionId),
        }
    }

    fn standings(notifications: &[Notification<u8>]) -> Vec<(u64, Standing)> {
        notifications.iter().map(|n| (n.stream.0, n.standing)).collect()
    }

    fn operator(election_id: u128) -> Arbitration<u8> {
        Arbitration {
            authority: Authority::Operator,
            ..request("", election_id)
        }
    }

    #[test]
    fn an_operator_never_stands_in_the_controllers_way() {
        let mut s = sessions();
        let alone = s.arbitrate(StreamId(1), operator(u128::MAX)).unwrap();
        assert_eq!(alone.notify_after_writes.unwrap().standing, Standing::Primary);
        assert!(s.authorise("", Some(ElectionId(u128::MAX))).is_ok());

        let controller = s.arbitrate(StreamId(2), request("", 5)).unwrap();
        assert_eq!(controller.notify_after_writes.unwrap().standing, Standing::Primary);
        assert_eq!(standings(&controller.notify_now), [(1, Standing::Backup)]);
        assert!(
            s.authorise("", Some(ElectionId(u128::MAX))).is_err(),
            "the operator is deposed"
        );
        assert!(s.authorise("", Some(ElectionId(5))).is_ok());
        let again = s.arbitrate(StreamId(1), operator(u128::MAX)).unwrap();
        assert_eq!(standings(&again.notify_now), [(1, Standing::Backup)]);
        s.arbitrate(StreamId(3), request("", u128::MAX)).unwrap();
        s.close(StreamId(3));

        // A controller that comes back with too low an id learns the highest bid of controllers, not of operators.
        s.close(StreamId(2));
        s.arbitrate(StreamId(1), operator(u128::MAX)).unwrap();
        assert!(
            s.authorise("", Some(ElectionId(u128::MAX))).is_ok(),
            "the operator is primary again"
        );
        let back = s.arbitrate(StreamId(4), request("", 9)).unwrap();
        assert_eq!(standings(&back.notify_now), [(4, Standing::NoPrimary)]);
        assert_eq!(back.notify_now[0].election_id, Some(ElectionId(u128::MAX)));
        let outbid = s.arbitrate(StreamId(4), request("", u128::MAX)).unwrap();
        assert_eq!(outbid.notify_after_writes.unwrap().standing, Standing::Primary);
    }

    #[test]
    fn an_operator_gains_nothing_by_another_role() {
        let mut s = sessions();
        let of_role = |role: &str| Arbitration {
            role: role.into(),
            ..operator(u128::MAX)
        };
        s.arbitrate(StreamId(1), of_role("mine")).unwrap();
        assert!(s.authorise("mine", Some(ElectionId(u128::MAX))).is_ok());
        let controller = s.arbitrate(StreamId(2), request("", 5)).unwrap();
        assert_eq!(controller.notify_after_writes.unwrap().standing, Standing::Primary);
        assert_eq!(standings(&controller.notify_now), [(1, Standing::NoPrimary)]);
        for (stream, role) in [(1, "mine"), (3, "another")] {
            s.arbitrate(StreamId(stream), of_role(role)).unwrap();
            assert!(
                s.authorise(role, Some(ElectionId(u128::MAX))).is_err(),
                "{role}: an operator is primary beside the controller"
            );
        }
        assert!(s.authorise("", Some(ElectionId(5))).is_ok());
        s.close(StreamId(2));
        s.arbitrate(StreamId(1), of_role("mine")).unwrap();
        assert!(
            s.authorise("mine", Some(ElectionId(u128::MAX))).is_ok(),
            "the controller is gone"
        );
    }

    #[test]
    fn streams_and_roles_of_operators_leave_room_for_the_controller() {
        let mut s = sessions();
        for i in 0..MAX_STREAMS_PER_ROLE as u64 {
            s.arbitrate(StreamId(i), operator(i.into())).unwrap();
        }
        let one_more = s.arbitrate(StreamId(500), operator(500));
        assert_eq!(one_more, Err(SessionError::TooManyStreams));
        let controller = s.arbitrate(StreamId(501), request("", 1)).unwrap();
        assert_eq!(controller.notify_after_writes.unwrap().standing, Standing::Primary);

        let mut s = sessions();
        for i in 0..MAX_ROLES as u64 {
            let role = i.to_string();
            s.arbitrate(StreamId(i), Arbitration { role, ..operator(1) }).unwrap();
        }
        let controller = s.arbitrate(StreamId(5000), request("", 1)).unwrap();
        assert_eq!(controller.notify_after_writes.unwrap().standing, Standing::Primary);
    }

    #[test]
    fn the_greatest_id_of_a_controller_that_left_locks_nobody_out() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", u128::MAX)).unwrap();
        s.close(StreamId(1));
        let low = s.arbitrate(StreamId(2), request("", 5)).unwrap();
        assert_eq!(standings(&low.notify_now), [(2, Standing::NoPrimary)]);
        let same = s.arbitrate(StreamId(2), request("", u128::MAX)).unwrap();
        assert_eq!(same.notify_after_writes.unwrap().standing, Standing::Primary);
    }

    #[test]
    fn highest_id_wins_and_others_learn_before_the_winner() {
        let mut s = sessions();
        let first = s.arbitrate(StreamId(1), request("", 5)).unwrap();
        assert!(first.notify_now.is_empty());
        assert_eq!(first.notify_after_writes.unwrap().standing, Standing::Primary);

        let second = s.arbitrate(StreamId(2), request("", 9)).unwrap();
        assert_eq!(standings(&second.notify_now), [(1, Standing::Backup)]);
        assert_eq!(second.notify_now[0].election_id, Some(ElectionId(9)));
        assert_eq!(second.notify_after_writes.unwrap().stream, StreamId(2));
        assert!(s.authorise("", Some(ElectionId(5))).is_err());
        assert!(s.authorise("", Some(ElectionId(9))).is_ok());
    }

    #[test]
    fn lower_id_is_a_backup_and_only_it_is_notified() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", 5)).unwrap();
        let lower = s.arbitrate(StreamId(2), request("", 4)).unwrap();
        assert_eq!(standings(&lower.notify_now), [(2, Standing::Backup)]);
        assert!(lower.notify_after_writes.is_none());
    }

    #[test]
    fn a_lost_primary_is_not_replaced_until_somebody_reaches_its_id() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", 5)).unwrap();
        s.arbitrate(StreamId(2), request("", 4)).unwrap();
        assert_eq!(standings(&s.close(StreamId(1)).notify_now), [(2, Standing::NoPrimary)]);
        assert!(s.authorise("", Some(ElectionId(5))).is_err());
        let again = s.arbitrate(StreamId(2), request("", 4)).unwrap();
        assert_eq!(standings(&again.notify_now), [(2, Standing::NoPrimary)]);
        let raised = s.arbitrate(StreamId(2), request("", 5)).unwrap();
        assert_eq!(raised.notify_after_writes.unwrap().standing, Standing::Primary);
    }

    #[test]
    fn a_primary_that_downgrades_itself_leaves_nobody_primary() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", 5)).unwrap();
        s.arbitrate(StreamId(2), request("", 4)).unwrap();
        let down = s.arbitrate(StreamId(1), request("", 3)).unwrap();
        assert_eq!(
            standings(&down.notify_now),
            [(1, Standing::NoPrimary), (2, Standing::NoPrimary)]
        );
        assert_eq!(down.notify_now[0].election_id, Some(ElectionId(5)));
    }

    #[test]
    fn duplicate_ids_are_refused_but_a_stream_may_repeat_its_own() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", 5)).unwrap();
        assert_eq!(
            s.arbitrate(StreamId(2), request("", 5)),
            Err(SessionError::DuplicateElectionId(ElectionId(5)))
        );
        s.arbitrate(StreamId(1), request("", 5)).unwrap();
        // Another role may use the same id, and two streams may both leave it unset.
        s.arbitrate(StreamId(3), request("monitor", 5)).unwrap();
        s.arbitrate(StreamId(4), request("", None)).unwrap();
        s.arbitrate(StreamId(5), request("", None)).unwrap();
    }

    #[test]
    fn zero_is_an_election_id_and_unset_is_not() {
        let mut s = sessions();
        let unset = s.arbitrate(StreamId(1), request("", None)).unwrap();
        assert_eq!(standings(&unset.notify_now), [(1, Standing::NoPrimary)]);
        assert_eq!(unset.notify_now[0].election_id, None);
        let zero = s.arbitrate(StreamId(2), request("", 0)).unwrap();
        assert_eq!(zero.notify_after_writes.unwrap().standing, Standing::Primary);
        assert!(s.authorise("", None).is_err());
    }

    #[test]
    fn all_128_bits_count() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("", u128::from(u64::MAX))).unwrap();
        let higher = s.arbitrate(StreamId(2), request("", 1u128 << 64)).unwrap();
        assert_eq!(higher.notify_after_writes.unwrap().stream, StreamId(2));
        assert_eq!(ElectionId::new(1, 2), ElectionId((1 << 64) + 2));
    }

    #[test]
    fn device_and_role_stay_with_the_stream() {
        let mut s = sessions();
        let mut stranger = request("", 1);
        stranger.device_id = 8;
        assert_eq!(
            s.arbitrate(StreamId(1), stranger.clone()),
            Err(SessionError::UnknownDevice(8))
        );
        s.arbitrate(StreamId(1), request("", 1)).unwrap();
        assert!(matches!(
            s.arbitrate(StreamId(1), stranger),
            Err(SessionError::DeviceChanged { .. })
        ));
        assert!(matches!(
            s.arbitrate(StreamId(1), request("other", 1)),
            Err(SessionError::RoleChanged { .. })
        ));
    }

    #[test]
    fn roles_are_separate() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("a", 5)).unwrap();
        s.arbitrate(StreamId(2), request("b", 3)).unwrap();
        assert!(s.authorise("b", Some(ElectionId(3))).is_ok());
        assert!(matches!(
            s.authorise("b", Some(ElectionId(5))),
            Err(AccessError::NotPrimary { .. })
        ));
        assert!(matches!(
            s.authorise("c", Some(ElectionId(5))),
            Err(AccessError::UnknownRole(_))
        ));
        assert!(matches!(
            s.authorise("", Some(ElectionId(5))),
            Err(AccessError::NotPrimary { .. })
        ));
        assert_eq!(s.primaries().count(), 2);
    }

    #[test]
    fn a_new_config_from_the_primary_is_news_to_all() {
        let mut s = sessions();
        s.arbitrate(StreamId(1), request("a", 5)).unwrap();
        s.arbitrate(StreamId(2), request("a", 4)).unwrap();
        let mut with_config = request("a", 5);
        with_config.config = Some(1);
        let changed = s.arbitrate(StreamId(1), with_config.clone()).unwrap();
        assert_eq!(standings(&changed.notify_now), [(2, Standing::Backup)]);
        assert_eq!(changed.notify_now[0].config, Some(1));
        let repeated = s.arbitrate(StreamId(1), with_config).unwrap();
        assert!(repeated.notify_now.is_empty());
    }

    #[test]
    fn streams_and_roles_are_bounded() {
        let mut s = sessions();
        for i in 0..MAX_STREAMS_PER_ROLE as u64 {
            s.arbitrate(StreamId(i), request("", u128::from(i))).unwrap();
        }
        assert_eq!(
            s.arbitrate(StreamId(1000), request("", 1000)),
            Err(SessionError::TooManyStreams)
        );
        s.close(StreamId(0));
        s.arbitrate(StreamId(1000), request("", 1000)).unwrap();
        for i in 1..MAX_ROLES as u64 {
            s.arbitrate(StreamId(2000 + i), request(&i.to_string(), 1)).unwrap();
        }
        assert_eq!(
            s.arbitrate(StreamId(9000), request("one more", 1)),
            Err(SessionError::TooManyRoles)
        );
    }
}
