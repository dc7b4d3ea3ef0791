"""The fabric's leaf pipeline, table by table and drop reason by drop reason, with entries that are written here by hand:
a second opinion beside the controller's own. docs/pipeline.md says what each control decides.

The leaf has hosts 1 and 2 on ports 3 and 4, bare-metal machines on ports 10 (untagged, guarded, network A), 11 (VLAN 100,
network B) and 12 (network C, without router), and a spine on port 1; behind it are leaf 2 and host 3. Every test runs over
an IPv4 and over an IPv6 underlay, with IPv4 and IPv6 tenants.

Test parameters, besides those of the base class: `reasons`, the program's file of drop reasons.
"""

from fabric_ptf import Pipeline, echo, header, met_reasons, test_of
from p4runtime_ptf import Lpm
from ptf.testutils import group
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

UPLINK, H1, H2, METAL_A, METAL_B, METAL_C = 1, 3, 4, 10, 11, 12
A, B, C, VRF = 10001, 10002, 10003, 20000
GATEWAY, LEAF, SPINE = "00:00:5e:00:01:01", "02:fa:b0:00:00:03", "02:fa:b0:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
# VTEP numbers: hosts are 10 and more, leaf 2 is 2; 98 and 99 are for mistakes.
LEAF_2, NOWHERE, UNKNOWN = 2, 98, 99
# Access ids of the bare-metal machines, and replica numbers made of them.
ACCESS_A, ACCESS_B, ACCESS_C = 1, 2, 3
ACCESS_REPLICA = 0x8000
FLOOD_LOCAL, FLOOD_FABRIC, FLOOD_WRONG = 1, 2, 3
PATH = 2
MTU_A, MTU_B = 1500, 1400
VLAN_B = 100

def mac(n):
    return f"02:aa:00:00:00:{n:02x}"


def host_mac(n):
    return f"02:00:00:00:01:{n:02x}"


def ip4(net, n):
    return f"10.0.{net - A}.{n}"


def ip6(net, n):
    return f"fd00:0:0:{net - A + 1}::{n:x}"


def ip(family, net, n):
    return ip4(net, n) if family == 4 else ip6(net, n)


def elsewhere(family, n):
    """An address behind workload 22, to which a static route leads."""
    return f"198.51.100.{n}" if family == 4 else f"2001:db8:7::{n or ''}"


class Leaf(Pipeline):
    """The leaf with all its entries."""

    # Addresses of the underlay

    def under(self, v4, v6):
        return v4 if self.underlay == 4 else v6

    def leaf1(self):
        return self.under("10.255.0.3", "fd00:255::3")

    def leaf2(self):
        return self.under("10.255.0.4", "fd00:255::4")

    def host(self, n):
        return self.under(f"10.255.1.{n}", f"fd00:255:1::{n}")

    # Entries

    def entries(self):
        e = self.table_entry
        family = f"ipv{self.underlay}"
        tunnel = lambda dst: {"src": self.leaf1(), "dst": dst}
        route = lambda dst, prefix=128: [Lpm("dst", self.mapped(dst), prefix)]
        everything = [
            e("port_vlan", {"port": UPLINK, "vid": 0}, "set_fabric"),
            e("port_vlan", {"port": H1, "vid": 0}, "set_host"),
            e("port_vlan", {"port": H2, "vid": 0}, "set_host"),
            e("port_vlan", {"port": METAL_A, "vid": 0}, "set_guarded_access", {"bd": A, "vrf": VRF, "access_id": ACCESS_A}),
            e("port_vlan", {"port": METAL_B, "vid": VLAN_B}, "set_access", {"bd": B, "vrf": VRF, "access_id": ACCESS_B}),
            e("port_vlan", {"port": METAL_C, "vid": 0}, "set_access", {"bd": C, "vrf": 0, "access_id": ACCESS_C}),
            e("source_mac", {"bd": A, "access_id": ACCESS_A, "smac": mac(21)}, "permit_mac"),
            e("local_address", {"address": self.mapped(self.leaf1())}, "set_local"),
            e("vni", {"vni": A}, "set_network", {"vrf": VRF}),
            e("vni", {"vni": B}, "set_network", {"vrf": VRF}),
            e("router_mac", {"dmac": GATEWAY}, "set_routed"),
            e("bridge_mac", {"bd": A, "dmac": mac(11)}, "bridge_to_vtep", {"vtep_id": 11}),
            e("bridge_mac", {"bd": A, "dmac": mac(13)}, "bridge_to_vtep", {"vtep_id": 13}),
            e("bridge_mac", {"bd": A, "dmac": mac(21)}, "bridge_to_access", {"port": METAL_A, "vid": 0}),
            e("bridge_mac", {"bd": A, "dmac": mac(98)}, "bridge_to_vtep", {"vtep_id": NOWHERE}),
            e("bridge_mac", {"bd": A, "dmac": mac(99)}, "bridge_to_vtep", {"vtep_id": UNKNOWN}),
            e("bridge_flood", {"bd": A, "from_fabric": 0}, "flood", {"group": FLOOD_LOCAL}),
            e("bridge_flood", {"bd": A, "from_fabric": 1}, "flood", {"group": FLOOD_FABRIC}),
            e("bridge_flood", {"bd": B, "from_fabric": 0}, "flood", {"group": FLOOD_WRONG}),
            e("remote_vtep", {"vtep_id": NOWHERE}, f"tunnel_{family}", tunnel(self.under("10.255.9.9", "fd00:255:9::9"))),
            e("underlay_route", route(self.leaf2()), "to_path", {"path": PATH}),
            e("underlay_route", route(self.host(3)), "to_path", {"path": PATH}),
            e("replica", {"replica": LEAF_2}, f"replicate_{family}", tunnel(self.leaf2())),
            e("replica", {"replica": ACCESS_REPLICA + ACCESS_A}, "replicate_access", {"vid": 0}),
            e("neighbour", {"port": UPLINK}, "rewrite", {"smac": LEAF, "dmac": SPINE}),
            e("flood_rate", {"bd": A, "sender": 11}, "limit_flood"),
            e("arp_reply", {"bd": 0, "address": "10.255.0.3"}, "reply_arp", {"mac": LEAF}),
            e("nd_reply", {"bd": 0, "address": "fd00:255::3"}, "reply_nd", {"mac": LEAF, "router": 1}),
        ]
        for n, port in ((1, H1), (2, H2)):
            everything += [
                e("host_source", {"port": port, "outer_src": self.mapped(self.host(n))}, "set_source_host", {"vtep_id": 10 + n}),
                e("host_vni", {"vtep_id": 10 + n, "vni": A}, "permit"),
                e("host_refusal", {"vtep_id": 10 + n}, "count_refusal"),
                e("underlay_route", route(self.host(n)), "to_host", {"port": port}),
                e("replica", {"replica": 10 + n}, f"replicate_{family}", tunnel(self.host(n))),
                e("neighbour", {"port": port}, "rewrite", {"smac": LEAF, "dmac": host_mac(n)}),
            ]
        everything += [
            e("remote_vtep", {"vtep_id": 10 + n}, f"tunnel_{family}", tunnel(self.host(n))) for n in (1, 2, 3)
        ]
        for f, bits, guard, hosts in ((4, 32, "source_ipv4", "ipv4_host"), (6, 128, "source_ipv6", "ipv6_host")):
            to_vtep = lambda n, net, mtu, vtep: {"vni": net, "vtep_id": vtep, "dmac": mac(n), "mtu": mtu}
            answers, value = ("arp_reply", "reply_arp") if f == 4 else ("nd_reply", "reply_nd")
            flag = lambda router: {} if f == 4 else {"router": router}
            everything += [
                self.guard(guard, f, bits),
                e(hosts, {"vrf": VRF, "dst": ip(f, A, 1)}, "route_to_gateway"),
                e(hosts, {"vrf": VRF, "dst": ip(f, B, 1)}, "route_to_gateway"),
                e(hosts, {"vrf": VRF, "dst": ip(f, B, 14)}, "route_to_vtep", to_vtep(14, B, MTU_B, 13)),
                e(hosts, {"vrf": VRF, "dst": ip(f, A, 11)}, "route_to_vtep", to_vtep(11, A, MTU_A, 11)),
                e(hosts, {"vrf": VRF, "dst": ip(f, A, 21)}, "route_to_access", {"port": METAL_A, "vid": 0, "dmac": mac(21), "mtu": MTU_A}),
                e(hosts, {"vrf": VRF, "dst": ip(f, B, 22)}, "route_to_access", {"port": METAL_B, "vid": VLAN_B, "dmac": mac(22), "mtu": MTU_B}),
                e(answers, {"bd": A, "address": ip(f, A, 13)}, value, {"mac": mac(13), **flag(0)}),
                e(answers, {"bd": A, "address": ip(f, A, 21)}, value, {"mac": mac(21), **flag(0)}),
                e(answers, {"bd": A, "address": ip(f, A, 1)}, value, {"mac": GATEWAY, **flag(1)}),
            ]
            site = [self.Exact("vrf", VRF), Lpm("dst", elsewhere(f, 0), 24 if f == 4 else 64)]
            everything.append(e(hosts.replace("host", "route"), site, "route_to_access", {"port": METAL_B, "vid": VLAN_B, "dmac": mac(22), "mtu": MTU_B}))
            size, mask = (24, 0xFF) if f == 4 else (64, (1 << 64) - 1)
            for net in (A, B):
                key = [self.Exact("bd", net), Lpm("src", ip(f, net, 0), size)]
                everything.append(e(f"icmp_source_ipv{f}", key, f"error_from_ipv{f}", {"address": ip(f, net, 1), "hosts": mask}))
        self.insert(*everything)
        self.insert(self.member("paths", UPLINK, "to_fabric_port", {"port": UPLINK}))
        self.insert(self.group("paths", PATH, [UPLINK]))
        self.insert(e("path", {"path": PATH}, group=PATH))
        here = [(H1, 11), (H2, 12), (METAL_A, ACCESS_REPLICA + ACCESS_A)]
        self.insert(self.multicast_group(FLOOD_LOCAL, here + [(UPLINK, LEAF_2)]))
        self.insert(self.multicast_group(FLOOD_FABRIC, here))
        self.insert(self.multicast_group(FLOOD_WRONG, [(H2, 77)]))

    def guard(self, table, family, bits):
        key = [self.Exact("access_id", ACCESS_A), self.Exact("smac", mac(21)), Lpm("src", ip(family, A, 21), bits)]
        return self.table_entry(table, key, "permit_ip")

    # Frames

    def outer(self, src, dst, ttl=64):
        return header(self.underlay, src, dst, ttl)

    def tunnelled(self, src, dst, vni, inner, ttl=64, macs=(LEAF, SPINE), **vxlan):
        """A frame in a tunnel between two underlay addresses."""
        to, by = macs
        port = UDP(sport=49152, dport=4789, chksum=0)
        return Ether(dst=to, src=by) / self.outer(src, dst, ttl) / port / VXLAN(vni=vni, flags=8, **vxlan) / inner

    def of_host1(self, vni, inner, to=None, **more):
        return self.tunnelled(self.host(1), to or self.leaf1(), vni, inner, macs=(LEAF, host_mac(1)), **more)

    # Expected results

    def expect_tunnelled(self, port, dst, vni, inner, macs, src=None, ttl=64):
        """The next frame of a port is a tunnelled one; its source port is a hash of the flow."""
        got = Ether(self.frame(port))
        layer = IP if self.underlay == 4 else IPv6
        self.assertEqual((got.dst, got.src), macs)
        outer = got[layer]
        self.assertEqual((outer.src, outer.dst), (src or self.leaf1(), dst))
        self.assertEqual(outer.ttl if self.underlay == 4 else outer.hlim, ttl)
        self.assertEqual((got[UDP].dport, got[VXLAN].vni), (4789, vni))
        self.assertEqual(bytes(got[VXLAN].payload).hex(), bytes(inner).hex())

test = test_of(Leaf)


@test
def transit(self):
    """A host's tunnel to a host elsewhere passes; the outer TTL falls."""
    for f in (4, 6):
        inner = Ether(dst=mac(13), src=mac(11)) / echo(f, ip(f, A, 11), ip(f, A, 13))
        self.send(H1, self.of_host1(A, inner, to=self.host(3)))
        self.expect_tunnelled(UPLINK, self.host(3), A, inner, (SPINE, LEAF), src=self.host(1), ttl=63)
    self.nothing_more()


@test
def static_routes(self):
    """To an address that no attachment has, by the longest prefix."""
    tag = Dot1Q(vlan=VLAN_B)
    for f in (4, 6):
        there = elsewhere(f, 9)
        self.send(METAL_A, Ether(dst=GATEWAY, src=mac(21)) / echo(f, ip(f, A, 21), there))
        self.expect(METAL_B, Ether(dst=mac(22), src=GATEWAY) / tag / echo(f, ip(f, A, 21), there, ttl=63))
    self.nothing_more()


@test
def routing(self):
    """Between networks, from tunnel to tunnel and to access ports, in one pass."""
    for f in (4, 6):
        asked = Ether(dst=GATEWAY, src=mac(11)) / echo(f, ip(f, A, 11), ip(f, B, 14))
        routed = Ether(dst=mac(14), src=GATEWAY) / echo(f, ip(f, A, 11), ip(f, B, 14), ttl=63)
        self.send(H1, self.of_host1(A, asked))
        self.expect_tunnelled(UPLINK, self.host(3), B, routed, (SPINE, LEAF))
        asked = Ether(dst=GATEWAY, src=mac(21)) / echo(f, ip(f, A, 21), ip(f, B, 22))
        self.send(METAL_A, asked)
        tag = Dot1Q(vlan=VLAN_B)
        self.expect(METAL_B, Ether(dst=mac(22), src=GATEWAY) / tag / echo(f, ip(f, A, 21), ip(f, B, 22), ttl=63))
        self.send(METAL_B, Ether(dst=GATEWAY, src=mac(22)) / tag / echo(f, ip(f, B, 22), ip(f, A, 21)))
        self.expect(METAL_A, Ether(dst=mac(21), src=GATEWAY) / echo(f, ip(f, B, 22), ip(f, A, 21), ttl=63))
    self.nothing_more()


@test
def bridging(self):
    """Inside a network: to hosts here and elsewhere, and to bare metal."""
    for f in (4, 6):
        for n, port, macs in ((11, H1, (host_mac(1), LEAF)), (13, UPLINK, (SPINE, LEAF))):
            frame = Ether(dst=mac(n), src=mac(21)) / echo(f, ip(f, A, 21), ip(f, A, n))
            self.send(METAL_A, frame)
            self.expect_tunnelled(port, self.host(n - 10), A, frame, macs)
        frame = Ether(dst=mac(21), src=mac(13)) / echo(f, ip(f, A, 13), ip(f, A, 21))
        self.send(UPLINK, self.tunnelled(self.host(3), self.leaf1(), A, frame))
        self.expect(METAL_A, frame)
    self.nothing_more()


@test
def flooding(self):
    """One copy for each VTEP and access port; from other leaves to local ones only."""
    cry = Ether(dst=BROADCAST, src=mac(11), type=0x88B5) / (b"?" * 46)
    self.send(H1, self.of_host1(A, cry))
    self.expect_tunnelled(H2, self.host(2), A, cry, (host_mac(2), LEAF))
    self.expect_tunnelled(UPLINK, self.leaf2(), A, cry, (SPINE, LEAF))
    self.expect(METAL_A, cry)
    cry = Ether(dst=BROADCAST, src=mac(13), type=0x88B5) / (b"?" * 46)
    self.send(UPLINK, self.tunnelled(self.leaf2(), self.leaf1(), A, cry))
    for n, port in ((1, H1), (2, H2)):
        self.expect_tunnelled(port, self.host(n), A, cry, (host_mac(n), LEAF))
    self.expect(METAL_A, cry)
    self.nothing_more()


@test
def edge_replies(self):
    """ARP and neighbour discovery are answered by the leaf; gateways and loopbacks answer echo requests."""
    for owner, n, router in ((mac(13), 13, 0), (GATEWAY, 1, 1)):
        asked = ARP(op=1, hwsrc=mac(21), psrc=ip4(A, 21), pdst=ip4(A, n))
        self.send(METAL_A, Ether(dst=BROADCAST, src=mac(21)) / asked)
        said = ARP(op=2, hwsrc=owner, psrc=ip4(A, n), hwdst=mac(21), pdst=ip4(A, 21))
        self.expect(METAL_A, Ether(dst=mac(21), src=owner) / said)
        group_ip, group_mac = f"ff02::1:ff00:{n:x}", f"33:33:ff:00:00:{n:02x}"
        asked = IPv6(src=ip6(A, 21), dst=group_ip, hlim=255) / ICMPv6ND_NS(tgt=ip6(A, n)) / ICMPv6NDOptSrcLLAddr(lladdr=mac(21))
        self.send(METAL_A, Ether(dst=group_mac, src=mac(21)) / asked)
        got = Ether(self.frame(METAL_A))
        said = got[ICMPv6ND_NA]
        self.assertEqual((got.dst, got.src, said.tgt, said.R, said.S, said.O), (mac(21), owner, ip6(A, n), router, 1, 1))
    for f, reply in ((4, ICMP), (6, ICMPv6EchoReply)):
        self.send(METAL_A, Ether(dst=GATEWAY, src=mac(21)) / echo(f, ip(f, A, 21), ip(f, A, 1)))
        got = Ether(self.frame(METAL_A))
        self.assertTrue(got.haslayer(reply))
        self.assertEqual((got.dst, got.src), (mac(21), GATEWAY))
    self.send(H1, Ether(dst=LEAF, src=host_mac(1)) / echo(self.underlay, self.host(1), self.leaf1()))
    got = Ether(self.frame(H1))
    self.assertEqual((got.dst, got.src), (host_mac(1), LEAF))
    self.nothing_more()


@test
def packet_io(self):
    """The controller's frames leave on the port that it names; LLDP from fabric ports goes to the controller."""
    probe = Ether(dst="01:80:c2:00:00:0e", src=LEAF, type=0x88CC) / (b"!" * 46)
    self.send_packet_out(probe, egress_port=H2)
    self.expect(H2, probe)
    self.send(UPLINK, probe)
    payload, fields = self.packet_in()
    self.assertEqual((payload, fields["ingress_port"]), (bytes(probe), UPLINK))
    self.nothing_more()


@test
def admission_refuses(self):
    """What hosts, access ports and unknown ports may not send."""
    inner = Ether(dst=mac(13), src=mac(11)) / echo(4, ip4(A, 11), ip4(A, 13))
    h1, leaf = self.host(1), Ether(dst=LEAF, src=host_mac(1))
    self.refused("MALFORMED", H1, bytes(self.of_host1(A, inner))[:40])
    self.refused("UNKNOWN_PORT", METAL_B, Ether(dst=mac(14), src=mac(22)) / echo(4, ip4(B, 22), ip4(B, 14)))
    self.refused("FABRIC_MAC", METAL_A, Ether(dst=LEAF, src=mac(21)) / echo(4, ip4(A, 21), ip4(A, 13)))
    self.refused("HOST_SOURCE", H1, self.tunnelled(self.host(2), self.leaf1(), A, inner, macs=(LEAF, host_mac(1))))
    self.refused("HOST_PROTOCOL", H1, leaf / self.outer(h1, self.host(3)) / TCP())
    self.refused("HOST_VNI", H1, self.of_host1(B, inner))
    self.refused("VXLAN_RESERVED", H1, self.of_host1(A, inner, reserved2=1))
    self.refused("INNER_VLAN", H1, self.of_host1(A, Ether(dst=mac(13), src=mac(11)) / Dot1Q(vlan=5) / inner.payload))
    tags = Dot1Q(vlan=VLAN_B) / Dot1Q(vlan=5)
    self.refused("DOUBLE_TAG", METAL_B, Ether(dst=mac(14), src=mac(22)) / tags / echo(4, ip4(B, 22), ip4(B, 14)))
    self.refused("NOT_FOR_ROUTER", H1, Ether(dst=BROADCAST, src=host_mac(1)) / ARP(op=1, hwsrc=host_mac(1), psrc="10.255.1.1", pdst="10.255.1.2"))
    fake = Ether(dst=LEAF, src=SPINE) / IPv6(src="::ffff:10.255.1.1", dst="fd00:255::3") / UDP(sport=1, dport=4789) / VXLAN(vni=A, flags=8) / inner
    self.refused("OUTER_ADDRESS", UPLINK, fake)
    self.refused("UNKNOWN_VNI", UPLINK, self.tunnelled(self.leaf2(), self.leaf1(), C, inner))
    self.refused("LOCAL_PROTOCOL", UPLINK, Ether(dst=LEAF, src=SPINE) / self.outer(self.host(3), self.leaf1()) / TCP())
    self.nothing_more()


@test
def source_guard_refuses(self):
    """A guarded machine can send only from its own addresses, and cannot act as a router or DHCP server."""
    to = Ether(dst=mac(13), src=mac(21))
    for f in (4, 6):
        self.refused("SOURCE_MAC", METAL_A, Ether(dst=mac(13), src=mac(66)) / echo(f, ip(f, A, 21), ip(f, A, 13)))
        self.refused("SOURCE_IP", METAL_A, to / echo(f, ip(f, A, 66), ip(f, A, 13)))
    self.refused("SOURCE_NEIGHBOUR", METAL_A, Ether(dst=BROADCAST, src=mac(21)) / ARP(op=1, hwsrc=mac(66), psrc=ip4(A, 21), pdst=ip4(A, 13)))
    stranger = ICMPv6ND_NS(tgt=ip6(A, 13)) / ICMPv6NDOptSrcLLAddr(lladdr=mac(66))
    self.refused("SOURCE_NEIGHBOUR", METAL_A, Ether(dst="33:33:ff:00:00:0d", src=mac(21)) / IPv6(src=ip6(A, 21), dst="ff02::1:ff00:d", hlim=255) / stranger)
    self.refused("ROGUE_SERVER", METAL_A, Ether(dst=BROADCAST, src=mac(21)) / IP(src=ip4(A, 21), dst="255.255.255.255") / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP(options=[("message-type", "offer"), "end"]))
    self.refused("ROGUE_SERVER", METAL_A, Ether(dst="33:33:00:00:00:01", src=mac(21)) / IPv6(src=ip6(A, 21), dst="ff02::1", hlim=255) / ICMPv6ND_RA())
    self.nothing_more()


@test
def routing_refuses(self):
    """Packets that cannot be routed. Where the RFCs ask for it, the sender gets an error (RFC 1812, RFC 4443)."""
    for f in (4, 6):
        me = ip(f, A, 21)
        to_gateway = Ether(dst=GATEWAY, src=mac(21))
        datagram = lambda dst, ttl=64, size=32: to_gateway / header(f, me, dst, ttl) / UDP(sport=5, dport=6) / (b"." * size)
        for name, frame, error, code, icmp6 in (
            ("NO_ROUTE", datagram(ip(f, B, 200)), 3, 1, ICMPv6DestUnreach),
            ("TTL_EXPIRED", datagram(ip(f, B, 22), ttl=1), 11, 0, ICMPv6TimeExceeded),
            ("TOO_BIG", datagram(ip(f, B, 22), size=MTU_B), 3, 4, ICMPv6PacketTooBig),
            ("GATEWAY_PROTOCOL", datagram(ip(f, A, 1)), 3, 3, ICMPv6DestUnreach),
        ):
            self.refused(name, METAL_A, frame)
            got = Ether(self.frame(METAL_A))
            self.assertEqual((got.dst, got.src), (mac(21), GATEWAY), name)
            if f == 4:
                self.assertEqual((got[IP].src, got[IP].dst, got[ICMP].type, got[ICMP].code), (ip4(A, 1), me, error, code))
            else:
                self.assertEqual((got[IPv6].src, got[IPv6].dst), (ip6(A, 1), me))
                self.assertTrue(got.haslayer(icmp6), f"{name}: {got.summary()}")
        # These cause no error.
        self.refused("GATEWAY_PROTOCOL", METAL_A, to_gateway / header(f, me, ip(f, A, 1)) / TCP())
        tag, loopback = Dot1Q(vlan=VLAN_B), "127.0.0.1" if f == 4 else "::1"
        self.refused("MARTIAN", METAL_B, Ether(dst=GATEWAY, src=mac(22)) / tag / echo(f, loopback, ip(f, A, 21)))
        self.refused("MARTIAN", METAL_B, Ether(dst=GATEWAY, src=mac(22)) / tag / echo(f, ip(f, B, 22), loopback))
        self.refused("NO_ROUTER", METAL_C, Ether(dst=GATEWAY, src=mac(23)) / echo(f, ip(f, C, 23), ip(f, A, 21)))
    self.nothing_more()


@test
def bridging_refuses(self):
    """Packets without a destination, or that would return to where they came from."""
    frame = lambda dst, src=mac(21), n=21: Ether(dst=dst, src=src) / echo(4, ip4(A, n), ip4(A, 13))
    self.refused("RESERVED_MAC", METAL_A, Ether(dst="01:80:c2:00:00:00", src=mac(21), type=0x88B5) / (b"." * 46))
    self.refused("NO_FLOOD_GROUP", METAL_C, Ether(dst=BROADCAST, src=mac(23), type=0x88B5) / (b"." * 46))
    self.refused("SPLIT_HORIZON", METAL_A, frame(mac(21)))
    stray = Ether(dst=mac(13), src=mac(14)) / echo(6, ip6(A, 14), ip6(A, 13))
    self.refused("SPLIT_HORIZON", UPLINK, self.tunnelled(self.leaf2(), self.leaf1(), A, stray))
    self.refused("NO_VTEP", METAL_A, frame(mac(99)))
    self.refused("NO_UNDERLAY_ROUTE", METAL_A, frame(mac(98)))
    own = ARP(op=1, hwsrc=mac(21), psrc="0.0.0.0", pdst=ip4(A, 21))
    self.refused("OWN_PROBE", METAL_A, Ether(dst=BROADCAST, src=mac(21)) / own)
    asks = IPv6(src="::", dst="ff02::1:ff00:15", hlim=255) / ICMPv6ND_NS(tgt=ip6(A, 21))
    self.refused("OWN_PROBE", METAL_A, Ether(dst="33:33:ff:00:00:15", src=mac(21)) / asks)
    self.nothing_more()


@test
def egress_refuses(self):
    """Copies that cannot be sent are counted by reason, too."""
    cry = Ether(dst=BROADCAST, src=mac(22)) / Dot1Q(vlan=VLAN_B, type=0x88B5) / (b"?" * 46)
    self.refused("NO_REPLICA", METAL_B, cry, count="egress_drops")
    neighbour = self.table_entry("neighbour", {"port": H1}, "rewrite", {"smac": LEAF, "dmac": host_mac(1)})
    self.delete(neighbour)
    frame = Ether(dst=mac(11), src=mac(21)) / echo(6, ip6(A, 21), ip6(A, 11))
    self.refused("NO_NEIGHBOUR", METAL_A, frame, count="egress_drops")
    self.nothing_more()


@test
def flood_limit(self):
    """A sender that floods too much is limited to its rate."""
    slow = self.table_entry("flood_rate", {"bd": A, "sender": 11}, "limit_flood")
    meter = slow.table_entry.meter_config
    meter.cir = meter.pir = meter.cburst = meter.pburst = 1
    self.modify(slow)
    cry = Ether(dst=BROADCAST, src=mac(11), type=0x88B5) / (b"?" * 46)
    number = self.reason["FLOOD_LIMIT"]
    for _ in range(20):
        self.send(H1, self.of_host1(A, cry))
    before = self.before["ingress_drops"][number]
    self.until("FLOOD_LIMIT counted", lambda: self.counters("ingress_drops")[number] > before)
    met_reasons.add("FLOOD_LIMIT")
    self.expect(METAL_A, cry)
    self.dataplane.flush()


@group("coverage")
class ZCoverage(Leaf):
    """Runs last (`--test-order lexico`): the tests before it have met every table and every reason."""

    def runTest(self):
        # Frames to leaf 2 and host 3 leave on a port of its group; it has no counter.
        self.check_coverage(uncounted={"path"})
