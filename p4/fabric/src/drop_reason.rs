//! Why a packet was dropped.

macro_rules! drop_reasons {
    ($($name:ident = $number:literal, $p4:literal, $text:literal;)*) => {
        /// Why the pipeline dropped a packet: `drop_reason_t` of `include/drop_reasons.p4`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $name = $number,)*
        }

        impl DropReason {
            /// All reasons, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason of that number, which is its index in the drop counters.
            pub fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name in the P4 program.
            pub fn p4_name(self) -> &'static str {
                match self {
                    $(Self::$name => $p4,)*
                }
            }

            /// In words.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Stable code for the API: the P4 name in lower case.
            pub fn code(self) -> String {
                self.p4_name().to_ascii_lowercase()
            }
        }
    };
}

drop_reasons! {
    Malformed = 1, "MALFORMED", "cut short, wrong IPv4 or outer UDP checksum, or contradicting itself";
    UnknownPort = 2, "UNKNOWN_PORT", "nothing is connected to this port and VLAN";
    FabricMac = 3, "FABRIC_MAC", "a tenant addressed a MAC address of the fabric's routers";
    NotForRouter = 4, "NOT_FOR_ROUTER", "on an underlay port, but not addressed to this router";
    HostSource = 5, "HOST_SOURCE", "a host sent from an underlay address that is not its own";
    HostProtocol = 6, "HOST_PROTOCOL", "a host sent what hosts may not send in the underlay";
    HostVni = 7, "HOST_VNI", "a host sent into a network in which it has no attachment";
    LocalProtocol = 8, "LOCAL_PROTOCOL", "addressed to this switch, which does not support that protocol";
    UnknownVni = 9, "UNKNOWN_VNI", "a tunnel to this leaf, in a network that this leaf does not have";
    InnerVlan = 10, "INNER_VLAN", "a tagged frame in a tunnel";
    NoRouter = 11, "NO_ROUTER", "to the gateway's MAC address, but not routable";
    NoRoute = 12, "NO_ROUTE", "no such address in the router's networks";
    TtlExpired = 13, "TTL_EXPIRED", "TTL or hop limit used up";
    GatewayProtocol = 14, "GATEWAY_PROTOCOL", "to a gateway's address, which only replies to echo requests";
    NoFloodGroup = 15, "NO_FLOOD_GROUP", "no other member to flood to in that network";
    SplitHorizon = 16, "SPLIT_HORIZON", "would go back to where it came from";
    NoVtep = 17, "NO_VTEP", "the tunnel's far end is not known";
    NoUnderlayRoute = 18, "NO_UNDERLAY_ROUTE", "no route to that underlay address";
    ReservedMac = 19, "RESERVED_MAC", "link-local group address that bridges never forward";
    OwnProbe = 20, "OWN_PROBE", "a station probing for its own address";
    NoNeighbour = 21, "NO_NEIGHBOUR", "no neighbour known on that port";
    NoReplica = 22, "NO_REPLICA", "no receiver has that replica number";
    DoubleTag = 23, "DOUBLE_TAG", "a VLAN tag after that of the access port, or a service tag";
    VxlanReserved = 24, "VXLAN_RESERVED", "a host set reserved bits of the VXLAN header";
    OuterAddress = 25, "OUTER_ADDRESS", "an IPv4-mapped address in an IPv6 header of the underlay";
    Martian = 26, "MARTIAN", "routed, but no station can have its source or destination address";
    SourceMac = 27, "SOURCE_MAC", "on an access port: not a MAC address of its attachment";
    SourceIp = 28, "SOURCE_IP", "on an access port: not an IP address of its attachment";
    SourceNeighbour = 29, "SOURCE_NEIGHBOUR", "on an access port: ARP or neighbour discovery for somebody else";
    RogueServer = 30, "ROGUE_SERVER", "on an access port: from a router or a DHCP server, or a packet that could \
        hide that";
    TooBig = 31, "TOO_BIG", "routed, but larger than the MTU of the network that it goes to";
    FloodLimit = 32, "FLOOD_LIMIT", "its sender exceeds its rate of flooded frames";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_programs() {
        let source = include_str!("../include/drop_reasons.p4");
        let in_p4: Vec<(String, u64)> = source
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.trim().split_once('=')?;
                let digits = rest.trim().split(|c: char| !c.is_ascii_digit()).next()?;
                Some((name.trim().to_owned(), digits.parse().ok()?))
            })
            .filter(|(name, _)| name != "NONE" && !name.contains(' '))
            .collect();
        let here: Vec<(String, u64)> = DropReason::ALL
            .iter()
            .map(|r| (r.p4_name().to_owned(), u64::from(*r as u8)))
            .collect();
        assert_eq!(here, in_p4);
    }
}
