"""The fabric's spine pipeline, table by table and drop reason by drop reason, with entries that are written here by hand.

The spine has leaf 3 on port 1 and leaf 4 on ports 3 and 4 (two cables); hosts 1 and 3 are behind them. Every test runs over an
IPv4 and over an IPv6 underlay.

Test parameters, besides those of the base class: `reasons`, the program's file of drop reasons.
"""

from fabric_ptf import Pipeline, echo, header, test_of
from p4runtime_ptf import Lpm
from ptf.testutils import group
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

TO_LEAF3, TO_LEAF4, NOT_OURS = 1, (3, 4), 5
SPINE, LEAF3, LEAF4 = "02:fa:b0:00:00:01", "02:fa:b0:00:00:03", "02:fa:b0:00:00:04"
# The reasons of the program that a spine can have; the others are a leaf's.
OF_SPINES = {
    "MALFORMED",
    "UNKNOWN_PORT",
    "NOT_FOR_ROUTER",
    "LOCAL_PROTOCOL",
    "TTL_EXPIRED",
    "NO_UNDERLAY_ROUTE",
    "NO_NEIGHBOUR",
    "OUTER_ADDRESS",
}


class Spine(Pipeline):
    """The spine with all its entries."""

    def address(self, kind, n):
        """Of a switch (kind 0) or host (kind 1)."""
        return f"10.255.{kind}.{n}" if self.underlay == 4 else f"fd00:255:{kind}::{n}" if kind else f"fd00:255::{n}"

    def entries(self):
        e = self.table_entry
        route = lambda to, path: e("underlay_route", [Lpm("dst", self.mapped(to), 128)], "to_path", {"path": path})
        everything = [e("local_address", {"address": self.mapped(self.address(0, 1))}, "set_local")]
        for leaf, host, leaf_mac, ports in ((3, 1, LEAF3, (TO_LEAF3,)), (4, 3, LEAF4, TO_LEAF4)):
            everything += [route(self.address(0, leaf), leaf), route(self.address(1, host), leaf)]
            for port in ports:
                everything += [
                    e("port_vlan", {"port": port, "vid": 0}, "set_fabric"),
                    e("neighbour", {"port": port}, "rewrite", {"smac": SPINE, "dmac": leaf_mac}),
                ]
        self.insert(*everything)
        for path, ports in ((3, [TO_LEAF3]), (4, list(TO_LEAF4))):
            self.insert(*[self.member("paths", port, "to_fabric_port", {"port": port}) for port in ports])
            self.insert(self.group("paths", path, ports))
            self.insert(e("path", {"path": path}, group=path))

    def tunnelled(self, to, ttl=64, port=49152, by=LEAF3):
        inner = Ether(dst="02:aa:00:00:00:0d", src="02:aa:00:00:00:0b") / echo(4, "10.0.0.11", "10.0.0.13")
        outer = header(self.underlay, self.address(1, 1), to, ttl)
        return Ether(dst=SPINE, src=by) / outer / UDP(sport=port, dport=4789, chksum=0) / VXLAN(vni=10001, flags=8) / inner


test = test_of(Spine)


@test
def transit(self):
    """A tunnel's packet passes whole: link addresses change, the outer TTL falls, and that is all."""
    sent = self.tunnelled(self.address(0, 3), by=LEAF4)
    self.send(TO_LEAF4[0], sent)
    want = self.tunnelled(self.address(0, 3), ttl=63)
    want.dst, want.src = LEAF3, SPINE
    self.expect(TO_LEAF3, want)
    self.nothing_more()


@test
def spreading(self):
    """Flows are spread over both cables; each flow keeps to one."""
    used = set()
    for flow in range(32):
        ports = set()
        for _ in range(2):
            self.send(TO_LEAF3, self.tunnelled(self.address(1, 3), port=50000 + flow))
            found = self.dataplane.poll(device_number=0, timeout=5)
            self.assertIsInstance(found, self.dataplane.PollSuccess)
            ports.add(found.port)
        self.assertEqual(len(ports), 1, f"flow {flow}")
        used |= ports
    self.assertEqual(used, set(TO_LEAF4))


@test
def packet_io(self):
    """The controller's frames leave on the port that it names; LLDP goes to the controller."""
    probe = Ether(dst="01:80:c2:00:00:0e", src=SPINE, type=0x88CC) / (b"!" * 46)
    self.send_packet_out(probe, egress_port=TO_LEAF4[1])
    self.expect(TO_LEAF4[1], probe)
    self.send(TO_LEAF3, probe)
    payload, fields = self.packet_in()
    self.assertEqual((payload, fields["ingress_port"]), (bytes(probe), TO_LEAF3))
    self.nothing_more()


@test
def refusals(self):
    """What a spine does not carry."""
    host = self.address(1, 3)
    self.refused("MALFORMED", TO_LEAF3, bytes(self.tunnelled(host))[:30])
    self.refused("UNKNOWN_PORT", NOT_OURS, self.tunnelled(host))
    self.refused("NOT_FOR_ROUTER", TO_LEAF3, Ether(dst="ff:ff:ff:ff:ff:ff", src=LEAF3) / ARP(op=1, pdst="10.255.0.1"))
    own = header(self.underlay, self.address(1, 1), self.address(0, 1))
    self.refused("LOCAL_PROTOCOL", TO_LEAF3, Ether(dst=SPINE, src=LEAF3) / own / TCP())
    self.refused("TTL_EXPIRED", TO_LEAF3, self.tunnelled(host, ttl=1))
    self.refused("NO_UNDERLAY_ROUTE", TO_LEAF3, self.tunnelled(self.address(1, 99)))
    mapped = IPv6(src="::ffff:10.255.1.1", dst="fd00:255:1::3") / UDP()
    self.refused("OUTER_ADDRESS", TO_LEAF3, Ether(dst=SPINE, src=LEAF3) / mapped)
    self.delete(self.table_entry("neighbour", {"port": TO_LEAF3}, "rewrite", {"smac": SPINE, "dmac": LEAF3}))
    self.refused("NO_NEIGHBOUR", TO_LEAF4[0], self.tunnelled(self.address(0, 3), by=LEAF4), count="egress_drops")
    self.nothing_more()


@group("coverage")
class ZCoverage(Spine):
    """Runs last (`--test-order lexico`): the tests before it have met every table and every reason."""

    def runTest(self):
        # Every frame leaves on a port of a path's group; it has no counter.
        self.check_coverage(uncounted={"path"}, never=set(self.reason) - OF_SPINES)
