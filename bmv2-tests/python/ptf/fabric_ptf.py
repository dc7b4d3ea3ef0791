"""What the suites of the fabric's pipelines share."""

import re
import sys

from p4runtime_ptf import P4RuntimeTest
from ptf import testutils
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

# Tables and reasons that the tests so far have used.
met_reasons, met_tables = set(), set()


def header(family, src, dst, ttl=64):
    return IP(src=src, dst=dst, ttl=ttl) if family == 4 else IPv6(src=src, dst=dst, hlim=ttl)


def echo(family, src, dst, ttl=64, size=32):
    request = ICMP(id=7, seq=1) if family == 4 else ICMPv6EchoRequest(id=7, seq=1)
    return header(family, src, dst, ttl) / request / (b"." * size)


def reasons(path):
    """Names and numbers of the program's drop reasons."""
    with open(path, encoding="utf-8") as file:
        body = re.search(r"enum bit<8> drop_reason_t \{(.*?)\n\}", file.read(), re.S).group(1)
    return {name: int(number) for name, number in re.findall(r"^\s*(\w+)\s*=\s*(\d+)", body, re.M) if name != "NONE"}


class Pipeline(P4RuntimeTest):
    """A switch with one of the fabric's programs and all its entries; `underlay` is the IP version of the underlay."""

    underlay = 4

    def setUp(self):
        super().setUp()
        self.reason = reasons(self.params["reasons"])
        self.before = {count: self.counters(count) for count in ("ingress_drops", "egress_drops")}
        self.entries()
        self.dataplane.flush()

    def tearDown(self):
        for table in self.p4info.tables:
            name = table.preamble.alias
            if table.direct_resource_ids and self.entry_packets(name):
                met_tables.add(name)
        super().tearDown()

    @staticmethod
    def mapped(address):
        """An address as in address tables: IPv4 as IPv4-mapped."""
        return address if ":" in address else f"::ffff:{address}"

    def send(self, port, frame):
        data = bytes(frame)
        testutils.send_packet(self, port, data)
        return data

    def expect(self, port, frame):
        self.assertEqual(self.frame(port).hex(), bytes(frame).hex(), f"port {port}")

    def refused(self, name, port, frame, count="ingress_drops"):
        """The frame is dropped for this reason, and counted once."""
        number, before = self.reason[name], self.before[count]
        self.send(port, frame)
        self.until(f"{name} counted", lambda: self.counters(count)[number] != before[number])
        before[number] += 1
        now = self.counters(count)
        self.assertEqual({n: now[i] - before[i] for n, i in self.reason.items() if now[i] != before[i]}, {}, f"{name}: counted beside")
        met_reasons.add(name)

    def nothing_more(self):
        testutils.verify_no_other_packets(self, timeout=0.2)

    def check_coverage(self, uncounted, never=()):
        """The tests so far have met every reason but those in `never`, and every table that has a counter."""
        self.assertEqual(sorted(set(self.reason) - met_reasons - set(never)), [], "drop reasons that nothing met")
        counted = {t.preamble.alias for t in self.p4info.tables if t.direct_resource_ids}
        self.assertEqual({t.preamble.alias for t in self.p4info.tables} - counted, uncounted)
        self.assertEqual(sorted(counted - met_tables), [], "tables without a hit")


def test_of(base):
    """Makes one test for each family of the underlay from a function, in the function's module."""

    def make(run):
        for family in (4, 6):
            name = "".join(part.title() for part in run.__name__.split("_")) + f"IPv{family}"
            what = {"underlay": family, "runTest": run, "__module__": run.__module__, "__doc__": run.__doc__}
            setattr(sys.modules[run.__module__], name, type(name, (base,), what))
        return run

    return make
