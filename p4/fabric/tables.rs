// Generated from P4Info; do not edit.

/// What each port, or VLAN of an access port, is for; VLAN 0 is for untagged frames.
pub mod port_vlan {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0001;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.admission.port.port_vlan";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 8192;

    /// What an entry of `port_vlan` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `port`, 9 bits.
        pub port: Bits<9>,
        /// Match field `vid`, 12 bits.
        pub vid: Bits<12>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "port_vlan";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.port.put(fields, 1);
            let fields = self.vid.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                port: Field::get(fields, 1, "port")?,
                vid: Field::get(fields, 2, "vid")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "port {}, vid {}", Field::show(&self.port), Field::show(&self.vid))
        }
    }

    /// What an entry of `port_vlan` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// A tenant's bare-metal machine: frames belong to network `bd`, whose router is `vrf`.
        SetAccess {
            /// Parameter `bd`, 24 bits.
            bd: Bits<24>,
            /// Parameter `vrf`, 24 bits.
            vrf: Bits<24>,
            /// Parameter `access_id`, 16 bits.
            access_id: Bits<16>,
        },
        /// The uplink of a host.
        SetHost,
        /// A link to another switch.
        SetFabric,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::SetAccess { bd, vrf, access_id } => ActionCall::new(0x0100_0001, [(1, bd.bytes()), (2, vrf.bytes()), (3, access_id.bytes())]),
                Self::SetHost => ActionCall::bare(0x0100_0002),
                Self::SetFabric => ActionCall::bare(0x0100_0003),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0001 => Ok(Self::SetAccess { bd: param(call, 1, "bd")?, vrf: param(call, 2, "vrf")?, access_id: param(call, 3, "access_id")? }),
                0x0100_0002 => Ok(Self::SetHost),
                0x0100_0003 => Ok(Self::SetFabric),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::SetAccess { bd, vrf, access_id } => write!(f, "set_access(bd {bd}, vrf {vrf}, access_id {access_id})"),
                Self::SetHost => write!(f, "set_host()"),
                Self::SetFabric => write!(f, "set_fabric()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The underlay addresses of the host behind each host port.
pub mod host_source {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0002;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.admission.host.host_source";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 1024;

    /// What an entry of `host_source` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `port`, 9 bits.
        pub port: Bits<9>,
        /// Match field `outer_src`, 128 bits.
        pub outer_src: Bits<128>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "host_source";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.port.put(fields, 1);
            let fields = self.outer_src.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                port: Field::get(fields, 1, "port")?,
                outer_src: Field::get(fields, 2, "outer_src")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "port {}, outer_src {}", Field::show(&self.port), Field::show(&self.outer_src))
        }
    }

    /// What an entry of `host_source` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The sender is the host with this VTEP number.
        SetSourceHost {
            /// Parameter `vtep_id`, 16 bits.
            vtep_id: Bits<16>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::SetSourceHost { vtep_id } => ActionCall::new(0x0100_0005, [(1, vtep_id.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0005 => Ok(Self::SetSourceHost { vtep_id: param(call, 1, "vtep_id")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::SetSourceHost { vtep_id } => write!(f, "set_source_host(vtep_id {vtep_id})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The networks that each host under this leaf has attachments of.
pub mod host_vni {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0003;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.admission.host.host_vni";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `host_vni` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vtep_id`, 16 bits.
        pub vtep_id: Bits<16>,
        /// Match field `vni`, 24 bits.
        pub vni: Bits<24>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "host_vni";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vtep_id.put(fields, 1);
            let fields = self.vni.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vtep_id: Field::get(fields, 1, "vtep_id")?,
                vni: Field::get(fields, 2, "vni")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vtep_id {}, vni {}", Field::show(&self.vtep_id), Field::show(&self.vni))
        }
    }

    /// What an entry of `host_vni` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The host has an attachment of this network.
        Permit,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::Permit => ActionCall::bare(0x0100_0007),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0007 => Ok(Self::Permit),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Permit => write!(f, "permit()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The hosts under this leaf: the counter tells the frames refused for their VNI.
pub mod host_refusal {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0012;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.admission.host.host_refusal";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 1024;

    /// What an entry of `host_refusal` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vtep_id`, 16 bits.
        pub vtep_id: Bits<16>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "host_refusal";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vtep_id.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vtep_id: Field::get(fields, 1, "vtep_id")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vtep_id {}", Field::show(&self.vtep_id))
        }
    }

    /// What an entry of `host_refusal` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// Counts for this host.
        CountRefusal,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::CountRefusal => ActionCall::bare(0x0100_0024),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0024 => Ok(Self::CountRefusal),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::CountRefusal => write!(f, "count_refusal()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The switch's own loopback addresses, which are also a leaf's VTEP addresses.
pub mod local_address {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0004;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.own_address.local_address";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 16;

    /// What an entry of `local_address` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `address`, 128 bits.
        pub address: Bits<128>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "local_address";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.address.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                address: Field::get(fields, 1, "address")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "address {}", Field::show(&self.address))
        }
    }

    /// What an entry of `local_address` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The address is ours.
        SetLocal,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::SetLocal => ActionCall::bare(0x0100_0009),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0009 => Ok(Self::SetLocal),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::SetLocal => write!(f, "set_local()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The networks that have an attachment on this leaf or on a host under it.
pub mod vni {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0005;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.termination.vni";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 65536;

    /// What an entry of `vni` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vni`, 24 bits.
        pub vni: Bits<24>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "vni";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vni.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vni: Field::get(fields, 1, "vni")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vni {}", Field::show(&self.vni))
        }
    }

    /// What an entry of `vni` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The network is here; its router is `vrf`, 0 if it has none.
        SetNetwork {
            /// Parameter `vrf`, 24 bits.
            vrf: Bits<24>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::SetNetwork { vrf } => ActionCall::new(0x0100_000a, [(1, vrf.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000a => Ok(Self::SetNetwork { vrf: param(call, 1, "vrf")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::SetNetwork { vrf } => write!(f, "set_network(vrf {vrf})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// IPv4 addresses of a network: of its attachments and of its gateway.
pub mod arp_reply {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0006;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.edge_reply.arp_reply";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `arp_reply` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `bd`, 24 bits.
        pub bd: Bits<24>,
        /// Match field `address`, 32 bits.
        pub address: Bits<32>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "arp_reply";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.bd.put(fields, 1);
            let fields = self.address.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                bd: Field::get(fields, 1, "bd")?,
                address: Field::get(fields, 2, "address")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "bd {}, address {}", Field::show(&self.bd), Field::show(&self.address))
        }
    }

    /// What an entry of `arp_reply` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The address belongs to this MAC address.
        ReplyArp {
            /// Parameter `mac`, 48 bits.
            mac: Bits<48>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::ReplyArp { mac } => ActionCall::new(0x0100_000c, [(1, mac.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000c => Ok(Self::ReplyArp { mac: param(call, 1, "mac")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::ReplyArp { mac } => write!(f, "reply_arp(mac {mac})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// IPv6 addresses of a network: of its attachments and of its gateway.
pub mod nd_reply {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0007;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.edge_reply.nd_reply";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `nd_reply` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `bd`, 24 bits.
        pub bd: Bits<24>,
        /// Match field `address`, 128 bits.
        pub address: Bits<128>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "nd_reply";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.bd.put(fields, 1);
            let fields = self.address.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                bd: Field::get(fields, 1, "bd")?,
                address: Field::get(fields, 2, "address")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "bd {}, address {}", Field::show(&self.bd), Field::show(&self.address))
        }
    }

    /// What an entry of `nd_reply` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The address belongs to this MAC address; `router` is the R flag of the answer.
        ReplyNd {
            /// Parameter `mac`, 48 bits.
            mac: Bits<48>,
            /// Parameter `router`, 1 bits.
            router: Bits<1>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::ReplyNd { mac, router } => ActionCall::new(0x0100_000d, [(1, mac.bytes()), (2, router.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000d => Ok(Self::ReplyNd { mac: param(call, 1, "mac")?, router: param(call, 2, "router")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::ReplyNd { mac, router } => write!(f, "reply_nd(mac {mac}, router {router})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The MAC address that gateways have.
pub mod router_mac {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0008;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.route.router_mac";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 16;

    /// What an entry of `router_mac` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `dmac`, 48 bits.
        pub dmac: Bits<48>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "router_mac";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.dmac.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                dmac: Field::get(fields, 1, "dmac")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "dmac {}", Field::show(&self.dmac))
        }
    }

    /// What an entry of `router_mac` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The frame is for the router.
        SetRouted,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::SetRouted => ActionCall::bare(0x0100_000e),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000e => Ok(Self::SetRouted),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::SetRouted => write!(f, "set_routed()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// IPv4 addresses of the attachments and gateways of each router on this leaf.
pub mod ipv4_host {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0009;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.route.ipv4_host";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `ipv4_host` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vrf`, 24 bits.
        pub vrf: Bits<24>,
        /// Match field `dst`, 32 bits.
        pub dst: Bits<32>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "ipv4_host";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vrf.put(fields, 1);
            let fields = self.dst.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vrf: Field::get(fields, 1, "vrf")?,
                dst: Field::get(fields, 2, "dst")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vrf {}, dst {}", Field::show(&self.vrf), Field::show(&self.dst))
        }
    }

    /// What an entry of `ipv4_host` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// Behind VTEP `vtep_id`, in network `vni`, at MAC address `dmac`.
        RouteToVtep {
            /// Parameter `vni`, 24 bits.
            vni: Bits<24>,
            /// Parameter `vtep_id`, 16 bits.
            vtep_id: Bits<16>,
            /// Parameter `dmac`, 48 bits.
            dmac: Bits<48>,
        },
        /// On an access port of this leaf, with VLAN tag `vid` (0 for none), at `dmac`.
        RouteToAccess {
            /// Parameter `port`, 9 bits.
            port: Bits<9>,
            /// Parameter `vid`, 12 bits.
            vid: Bits<12>,
            /// Parameter `dmac`, 48 bits.
            dmac: Bits<48>,
        },
        /// The address of a gateway: it is this leaf.
        RouteToGateway,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::RouteToVtep { vni, vtep_id, dmac } => ActionCall::new(0x0100_000f, [(1, vni.bytes()), (2, vtep_id.bytes()), (3, dmac.bytes())]),
                Self::RouteToAccess { port, vid, dmac } => ActionCall::new(0x0100_0010, [(1, port.bytes()), (2, vid.bytes()), (3, dmac.bytes())]),
                Self::RouteToGateway => ActionCall::bare(0x0100_0011),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000f => Ok(Self::RouteToVtep { vni: param(call, 1, "vni")?, vtep_id: param(call, 2, "vtep_id")?, dmac: param(call, 3, "dmac")? }),
                0x0100_0010 => Ok(Self::RouteToAccess { port: param(call, 1, "port")?, vid: param(call, 2, "vid")?, dmac: param(call, 3, "dmac")? }),
                0x0100_0011 => Ok(Self::RouteToGateway),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::RouteToVtep { vni, vtep_id, dmac } => write!(f, "route_to_vtep(vni {vni}, vtep_id {vtep_id}, dmac {dmac})"),
                Self::RouteToAccess { port, vid, dmac } => write!(f, "route_to_access(port {port}, vid {vid}, dmac {dmac})"),
                Self::RouteToGateway => write!(f, "route_to_gateway()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// IPv6 addresses of the attachments and gateways of each router on this leaf.
pub mod ipv6_host {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000a;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.route.ipv6_host";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `ipv6_host` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vrf`, 24 bits.
        pub vrf: Bits<24>,
        /// Match field `dst`, 128 bits.
        pub dst: Bits<128>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "ipv6_host";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vrf.put(fields, 1);
            let fields = self.dst.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vrf: Field::get(fields, 1, "vrf")?,
                dst: Field::get(fields, 2, "dst")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vrf {}, dst {}", Field::show(&self.vrf), Field::show(&self.dst))
        }
    }

    /// What an entry of `ipv6_host` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// Behind VTEP `vtep_id`, in network `vni`, at MAC address `dmac`.
        RouteToVtep {
            /// Parameter `vni`, 24 bits.
            vni: Bits<24>,
            /// Parameter `vtep_id`, 16 bits.
            vtep_id: Bits<16>,
            /// Parameter `dmac`, 48 bits.
            dmac: Bits<48>,
        },
        /// On an access port of this leaf, with VLAN tag `vid` (0 for none), at `dmac`.
        RouteToAccess {
            /// Parameter `port`, 9 bits.
            port: Bits<9>,
            /// Parameter `vid`, 12 bits.
            vid: Bits<12>,
            /// Parameter `dmac`, 48 bits.
            dmac: Bits<48>,
        },
        /// The address of a gateway: it is this leaf.
        RouteToGateway,
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::RouteToVtep { vni, vtep_id, dmac } => ActionCall::new(0x0100_000f, [(1, vni.bytes()), (2, vtep_id.bytes()), (3, dmac.bytes())]),
                Self::RouteToAccess { port, vid, dmac } => ActionCall::new(0x0100_0010, [(1, port.bytes()), (2, vid.bytes()), (3, dmac.bytes())]),
                Self::RouteToGateway => ActionCall::bare(0x0100_0011),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_000f => Ok(Self::RouteToVtep { vni: param(call, 1, "vni")?, vtep_id: param(call, 2, "vtep_id")?, dmac: param(call, 3, "dmac")? }),
                0x0100_0010 => Ok(Self::RouteToAccess { port: param(call, 1, "port")?, vid: param(call, 2, "vid")?, dmac: param(call, 3, "dmac")? }),
                0x0100_0011 => Ok(Self::RouteToGateway),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::RouteToVtep { vni, vtep_id, dmac } => write!(f, "route_to_vtep(vni {vni}, vtep_id {vtep_id}, dmac {dmac})"),
                Self::RouteToAccess { port, vid, dmac } => write!(f, "route_to_access(port {port}, vid {vid}, dmac {dmac})"),
                Self::RouteToGateway => write!(f, "route_to_gateway()"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// MAC addresses of the attachments of each network on this leaf.
pub mod bridge_mac {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000b;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.bridge.bridge_mac";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 131072;

    /// What an entry of `bridge_mac` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `bd`, 24 bits.
        pub bd: Bits<24>,
        /// Match field `dmac`, 48 bits.
        pub dmac: Bits<48>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "bridge_mac";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.bd.put(fields, 1);
            let fields = self.dmac.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                bd: Field::get(fields, 1, "bd")?,
                dmac: Field::get(fields, 2, "dmac")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "bd {}, dmac {}", Field::show(&self.bd), Field::show(&self.dmac))
        }
    }

    /// What an entry of `bridge_mac` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// Behind VTEP `vtep_id`.
        BridgeToVtep {
            /// Parameter `vtep_id`, 16 bits.
            vtep_id: Bits<16>,
        },
        /// On an access port of this leaf, with VLAN tag `vid` (0 for none).
        BridgeToAccess {
            /// Parameter `port`, 9 bits.
            port: Bits<9>,
            /// Parameter `vid`, 12 bits.
            vid: Bits<12>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::BridgeToVtep { vtep_id } => ActionCall::new(0x0100_0013, [(1, vtep_id.bytes())]),
                Self::BridgeToAccess { port, vid } => ActionCall::new(0x0100_0014, [(1, port.bytes()), (2, vid.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0013 => Ok(Self::BridgeToVtep { vtep_id: param(call, 1, "vtep_id")? }),
                0x0100_0014 => Ok(Self::BridgeToAccess { port: param(call, 1, "port")?, vid: param(call, 2, "vid")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::BridgeToVtep { vtep_id } => write!(f, "bridge_to_vtep(vtep_id {vtep_id})"),
                Self::BridgeToAccess { port, vid } => write!(f, "bridge_to_access(port {port}, vid {vid})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// Two groups per network: for frames from local members to all, for frames from other leaves to local members only.
pub mod bridge_flood {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000c;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.bridge.bridge_flood";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 65536;

    /// What an entry of `bridge_flood` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `bd`, 24 bits.
        pub bd: Bits<24>,
        /// Match field `from_fabric`, 1 bits.
        pub from_fabric: Bits<1>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "bridge_flood";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.bd.put(fields, 1);
            let fields = self.from_fabric.put(fields, 2);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                bd: Field::get(fields, 1, "bd")?,
                from_fabric: Field::get(fields, 2, "from_fabric")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "bd {}, from_fabric {}", Field::show(&self.bd), Field::show(&self.from_fabric))
        }
    }

    /// What an entry of `bridge_flood` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// One copy to each replica of the group.
        Flood {
            /// Parameter `group`, 16 bits.
            group: Bits<16>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::Flood { group } => ActionCall::new(0x0100_0015, [(1, group.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0015 => Ok(Self::Flood { group: param(call, 1, "group")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Flood { group } => write!(f, "flood(group {group})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// Where each VTEP is.
pub mod remote_vtep {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000d;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.overlay.tunnel.remote_vtep";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 32768;

    /// What an entry of `remote_vtep` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `vtep_id`, 16 bits.
        pub vtep_id: Bits<16>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "remote_vtep";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.vtep_id.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                vtep_id: Field::get(fields, 1, "vtep_id")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "vtep_id {}", Field::show(&self.vtep_id))
        }
    }

    /// What an entry of `remote_vtep` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// From our address `src` to the VTEP at `dst`, over IPv4.
        TunnelIpv4 {
            /// Parameter `src`, 32 bits.
            src: Bits<32>,
            /// Parameter `dst`, 32 bits.
            dst: Bits<32>,
        },
        /// From our address `src` to the VTEP at `dst`, over IPv6.
        TunnelIpv6 {
            /// Parameter `src`, 128 bits.
            src: Bits<128>,
            /// Parameter `dst`, 128 bits.
            dst: Bits<128>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::TunnelIpv4 { src, dst } => ActionCall::new(0x0100_0017, [(1, src.bytes()), (2, dst.bytes())]),
                Self::TunnelIpv6 { src, dst } => ActionCall::new(0x0100_0018, [(1, src.bytes()), (2, dst.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0017 => Ok(Self::TunnelIpv4 { src: param(call, 1, "src")?, dst: param(call, 2, "dst")? }),
                0x0100_0018 => Ok(Self::TunnelIpv6 { src: param(call, 1, "src")?, dst: param(call, 2, "dst")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::TunnelIpv4 { src, dst } => write!(f, "tunnel_ipv4(src {src}, dst {dst})"),
                Self::TunnelIpv6 { src, dst } => write!(f, "tunnel_ipv6(src {src}, dst {dst})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// Loopbacks of switches and VTEP addresses of hosts; IPv4 addresses are IPv4-mapped.
pub mod underlay_route {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000e;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.underlay.underlay_route";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 65536;

    /// What an entry of `underlay_route` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `dst`, 128 bits.
        pub dst: Lpm<128>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "underlay_route";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.dst.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                dst: Field::get(fields, 1, "dst")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "dst {}", Field::show(&self.dst))
        }
    }

    /// What an entry of `underlay_route` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// The address is that of the host on this port.
        ToHost {
            /// Parameter `port`, 9 bits.
            port: Bits<9>,
        },
        /// The address is behind another switch.
        ToPath {
            /// Parameter `path`, 16 bits.
            path: Bits<16>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::ToHost { port } => ActionCall::new(0x0100_001a, [(1, port.bytes())]),
                Self::ToPath { path } => ActionCall::new(0x0100_001b, [(1, path.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_001a => Ok(Self::ToHost { port: param(call, 1, "port")? }),
                0x0100_001b => Ok(Self::ToPath { path: param(call, 1, "path")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::ToHost { port } => write!(f, "to_host(port {port})"),
                Self::ToPath { path } => write!(f, "to_path(path {path})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The ways to each switch of the fabric; a path has the number of the switch it leads to.
pub mod path {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_000f;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafIngress.underlay.path";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 1024;

    /// What an entry of `path` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `path`, 16 bits.
        pub path: Bits<16>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "path";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.path.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                path: Field::get(fields, 1, "path")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "path {}", Field::show(&self.path))
        }
    }

    /// What an entry of `path` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// One way of a path.
        ToFabricPort {
            /// Parameter `port`, 9 bits.
            port: Bits<9>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::ToFabricPort { port } => ActionCall::new(0x0100_001c, [(1, port.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_001c => Ok(Self::ToFabricPort { port: param(call, 1, "port")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::ToFabricPort { port } => write!(f, "to_fabric_port(port {port})"),
            }
        }
    }
    /// P4Info id of the table's action profile.
    pub const PROFILE_ID: u32 = 0x1100_0001;
}

/// What each replica number stands for on this leaf.
pub mod replica {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0010;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafEgress.replicate.replica";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 65536;

    /// What an entry of `replica` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `replica`, 16 bits.
        pub replica: Bits<16>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "replica";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.replica.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                replica: Field::get(fields, 1, "replica")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "replica {}", Field::show(&self.replica))
        }
    }

    /// What an entry of `replica` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// To a VTEP, from our address `src` to its address `dst`.
        ReplicateIpv4 {
            /// Parameter `src`, 32 bits.
            src: Bits<32>,
            /// Parameter `dst`, 32 bits.
            dst: Bits<32>,
        },
        /// The same over IPv6.
        ReplicateIpv6 {
            /// Parameter `src`, 128 bits.
            src: Bits<128>,
            /// Parameter `dst`, 128 bits.
            dst: Bits<128>,
        },
        /// To an access port, with VLAN tag `vid` (0 for none).
        ReplicateAccess {
            /// Parameter `vid`, 12 bits.
            vid: Bits<12>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::ReplicateIpv4 { src, dst } => ActionCall::new(0x0100_001e, [(1, src.bytes()), (2, dst.bytes())]),
                Self::ReplicateIpv6 { src, dst } => ActionCall::new(0x0100_001f, [(1, src.bytes()), (2, dst.bytes())]),
                Self::ReplicateAccess { vid } => ActionCall::new(0x0100_0020, [(1, vid.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_001e => Ok(Self::ReplicateIpv4 { src: param(call, 1, "src")?, dst: param(call, 2, "dst")? }),
                0x0100_001f => Ok(Self::ReplicateIpv6 { src: param(call, 1, "src")?, dst: param(call, 2, "dst")? }),
                0x0100_0020 => Ok(Self::ReplicateAccess { vid: param(call, 1, "vid")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::ReplicateIpv4 { src, dst } => write!(f, "replicate_ipv4(src {src}, dst {dst})"),
                Self::ReplicateIpv6 { src, dst } => write!(f, "replicate_ipv6(src {src}, dst {dst})"),
                Self::ReplicateAccess { vid } => write!(f, "replicate_access(vid {vid})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// The one switch or host on the other side of each underlay port.
pub mod neighbour {
    #[allow(unused_imports)] // not every table has every kind of field
    use crate::binding::*;

    /// P4Info id of the table.
    pub const ID: u32 = 0x0200_0011;
    /// Full name of the table in the program.
    pub const NAME: &str = "LeafEgress.link_rewrite.neighbour";
    /// Room for entries, as the program asks for it.
    pub const SIZE: usize = 512;

    /// What an entry of `neighbour` matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Key {
        /// Match field `port`, 9 bits.
        pub port: Bits<9>,
    }

    impl KeyFields for Key {
        const TABLE_ID: u32 = ID;
        const TABLE: &'static str = "neighbour";

        fn to_match(self) -> MatchBuilder {
            let fields = Match::builder();
            let fields = self.port.put(fields, 1);
            fields
        }

        fn from_match(fields: &Match) -> Result<Self, DecodeError> {
            Ok(Self {
                port: Field::get(fields, 1, "port")?,
            })
        }
    }

    impl std::fmt::Display for Key {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "port {}", Field::show(&self.port))
        }
    }

    /// What an entry of `neighbour` does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Action {
        /// Underlay packets leave this port from our MAC address to the neighbour's.
        Rewrite {
            /// Parameter `smac`, 48 bits.
            smac: Bits<48>,
            /// Parameter `dmac`, 48 bits.
            dmac: Bits<48>,
        },
    }

    impl ActionParams for Action {
        fn to_call(self) -> ActionCall {
            match self {
                Self::Rewrite { smac, dmac } => ActionCall::new(0x0100_0022, [(1, smac.bytes()), (2, dmac.bytes())]),
            }
        }

        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {
            match call.action_id() {
                0x0100_0022 => Ok(Self::Rewrite { smac: param(call, 1, "smac")?, dmac: param(call, 2, "dmac")? }),
                id => Err(DecodeError::UnknownAction { id }),
            }
        }
    }

    impl std::fmt::Display for Action {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Rewrite { smac, dmac } => write!(f, "rewrite(smac {smac}, dmac {dmac})"),
            }
        }
    }

    impl Key {
        /// The table entry that does `action` for this key.
        pub fn entry(self, action: Action) -> Entity {
            table_entry(self, 0, action)
        }
    }
}

/// Table, key and action of a table entry in words; `None` for what is no entry of a
/// table of this program or does not fit it.
pub fn describe(entity: &crate::binding::Entity) -> Option<crate::binding::Described> {
    match entity.key().table_id()? {
        port_vlan::ID => crate::binding::described::<port_vlan::Key, port_vlan::Action>(entity),
        host_source::ID => crate::binding::described::<host_source::Key, host_source::Action>(entity),
        host_vni::ID => crate::binding::described::<host_vni::Key, host_vni::Action>(entity),
        host_refusal::ID => crate::binding::described::<host_refusal::Key, host_refusal::Action>(entity),
        local_address::ID => crate::binding::described::<local_address::Key, local_address::Action>(entity),
        vni::ID => crate::binding::described::<vni::Key, vni::Action>(entity),
        arp_reply::ID => crate::binding::described::<arp_reply::Key, arp_reply::Action>(entity),
        nd_reply::ID => crate::binding::described::<nd_reply::Key, nd_reply::Action>(entity),
        router_mac::ID => crate::binding::described::<router_mac::Key, router_mac::Action>(entity),
        ipv4_host::ID => crate::binding::described::<ipv4_host::Key, ipv4_host::Action>(entity),
        ipv6_host::ID => crate::binding::described::<ipv6_host::Key, ipv6_host::Action>(entity),
        bridge_mac::ID => crate::binding::described::<bridge_mac::Key, bridge_mac::Action>(entity),
        bridge_flood::ID => crate::binding::described::<bridge_flood::Key, bridge_flood::Action>(entity),
        remote_vtep::ID => crate::binding::described::<remote_vtep::Key, remote_vtep::Action>(entity),
        underlay_route::ID => crate::binding::described::<underlay_route::Key, underlay_route::Action>(entity),
        path::ID => crate::binding::described::<path::Key, path::Action>(entity),
        replica::ID => crate::binding::described::<replica::Key, replica::Action>(entity),
        neighbour::ID => crate::binding::described::<neighbour::Key, neighbour::Action>(entity),
        _ => None,
    }
}

/// Indirect counters of the program, by P4Info id.
pub mod counters {
    /// Refused packets by drop_reason_t.
    pub const INGRESS_DROPS: u32 = 0x1200_0002;
    /// Copies that could not be sent, by drop_reason_t.
    pub const EGRESS_DROPS: u32 = 0x1200_0003;
}

/// Direct counters of the program, by P4Info id.
pub mod direct_counters {
    /// `LeafIngress.admission.port.port_vlan_counter`.
    pub const PORT_VLAN_COUNTER: u32 = 0x1300_0001;
    /// `LeafIngress.admission.host.host_source_counter`.
    pub const HOST_SOURCE_COUNTER: u32 = 0x1300_0002;
    /// `LeafIngress.admission.host.host_vni_counter`.
    pub const HOST_VNI_COUNTER: u32 = 0x1300_0003;
    /// `LeafIngress.admission.host.host_refusal_counter`.
    pub const HOST_REFUSAL_COUNTER: u32 = 0x1300_0011;
    /// `LeafIngress.own_address.local_address_counter`.
    pub const LOCAL_ADDRESS_COUNTER: u32 = 0x1300_0004;
    /// `LeafIngress.termination.vni_counter`.
    pub const VNI_COUNTER: u32 = 0x1300_0005;
    /// `LeafIngress.overlay.edge_reply.arp_reply_counter`.
    pub const ARP_REPLY_COUNTER: u32 = 0x1300_0006;
    /// `LeafIngress.overlay.edge_reply.nd_reply_counter`.
    pub const ND_REPLY_COUNTER: u32 = 0x1300_0007;
    /// `LeafIngress.overlay.route.router_mac_counter`.
    pub const ROUTER_MAC_COUNTER: u32 = 0x1300_0008;
    /// `LeafIngress.overlay.route.ipv4_host_counter`.
    pub const IPV4_HOST_COUNTER: u32 = 0x1300_0009;
    /// `LeafIngress.overlay.route.ipv6_host_counter`.
    pub const IPV6_HOST_COUNTER: u32 = 0x1300_000a;
    /// `LeafIngress.overlay.bridge.bridge_mac_counter`.
    pub const BRIDGE_MAC_COUNTER: u32 = 0x1300_000b;
    /// `LeafIngress.overlay.bridge.bridge_flood_counter`.
    pub const BRIDGE_FLOOD_COUNTER: u32 = 0x1300_000c;
    /// `LeafIngress.overlay.tunnel.remote_vtep_counter`.
    pub const REMOTE_VTEP_COUNTER: u32 = 0x1300_000d;
    /// `LeafIngress.underlay.underlay_route_counter`.
    pub const UNDERLAY_ROUTE_COUNTER: u32 = 0x1300_000e;
    /// `LeafEgress.replicate.replica_counter`.
    pub const REPLICA_COUNTER: u32 = 0x1300_000f;
    /// `LeafEgress.link_rewrite.neighbour_counter`.
    pub const NEIGHBOUR_COUNTER: u32 = 0x1300_0010;
}

/// Metadata ids of `packet_in`.
pub mod packet_in {
    /// Id of `ingress_port`, 9 bits.
    pub const INGRESS_PORT: u32 = 1;
    /// Id of `reason`, 7 bits.
    pub const REASON: u32 = 2;
}

/// Metadata ids of `packet_out`.
pub mod packet_out {
    /// Id of `egress_port`, 9 bits.
    pub const EGRESS_PORT: u32 = 1;
    /// Id of `pad`, 7 bits.
    pub const PAD: u32 = 2;
}

/// Serialisable enum `punt_reason_t` of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PuntReason {
    /// `NONE`.
    None = 0,
    /// `LLDP`.
    Lldp = 1,
}

