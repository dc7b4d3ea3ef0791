"""Writes and reads one object of every kind that p4runtime-shell knows.

Arguments: address, device config, P4Info. Ends with status 0 only if every check held.
"""

import sys

import p4runtime_sh.shell as sh
from p4runtime_sh.p4runtime import P4RuntimeWriteException

ADDRESS, CONFIG, P4INFO = sys.argv[1:4]


def check(what, have, want):
    """Fails the run unless two values are equal."""
    if have != want:
        raise AssertionError(f"{what}: have {have!r}, want {want!r}")
    print("ok", what)


def refused(what, action):
    """Fails the run unless the server refuses the write."""
    try:
        action()
    except P4RuntimeWriteException:
        print("ok", what)
        return
    raise AssertionError(f"{what}: was accepted")


def tables():
    """Match kinds, priorities, default entries, constant tables, direct resources."""
    entry = sh.TableEntry("ingress.l2")(action="ingress.send")
    entry.match["hdr.ethernet.dst"] = "00:00:00:00:00:05"
    entry.action["port"] = "1"
    entry.insert()
    refused("insert twice", entry.insert)
    entry.action["port"] = "2"
    entry.modify()
    found = list(sh.TableEntry("ingress.l2").read())
    check("exact", [e.action["port"].value for e in found], [b"\x02"])
    entry.delete()
    check("deleted", list(sh.TableEntry("ingress.l2").read()), [])

    default = sh.TableEntry("ingress.l2")(action="ingress.punt", is_default=True)
    default.action["reason"] = "5"
    default.modify()
    found = list(sh.TableEntry("ingress.l2")(is_default=True).read())
    check("default entry", found[0].action["reason"].value, b"\x05")

    route = sh.TableEntry("ingress.route")(action="ingress.routed")
    route.match["hdr.ipv4.dst"] = "10.0.0.0/8"
    route.action["port"] = "1"
    route.insert()
    counter = sh.DirectCounterEntry("ingress.route_counter")
    counter.table_entry.match["hdr.ipv4.dst"] = "10.0.0.0/8"
    counter.byte_count = 100
    counter.packet_count = 2
    counter.modify()
    check("direct counter", [c.byte_count for c in counter.read()], [100])

    acl = sh.TableEntry("ingress.acl")(action="ingress.metered")
    acl.match["hdr.ipv4.src"] = "10.0.0.0&&&255.0.0.0"
    acl.match["hdr.ipv4.length"] = "64..1500"
    acl.match["hdr.ipv4.protocol"] = "17"
    acl.match["std.ingress_port"] = "3"
    acl.priority = 9
    acl.insert()
    found = list(sh.TableEntry("ingress.acl").read())
    check("ternary, range, optional", [(e.priority, e.match["std.ingress_port"].exact.value) for e in found], [(9, b"\x03")])
    check("constant entries", len(list(sh.TableEntry("ingress.fixed").read())), 2)


def profiles():
    """Members, groups, one-shots."""
    member = sh.ActionProfileMember("ingress.neighbours")(member_id=1, action="ingress.send")
    member.action["port"] = "1"
    member.insert()
    nexthop = sh.TableEntry("ingress.nexthop")
    nexthop.match["meta.class"] = "1"
    nexthop.member_id = 1
    nexthop.insert()
    refused("a member in use", member.delete)

    spread = sh.TableEntry("ingress.spread")
    spread.match["hdr.ipv4.dst"] = "10.0.0.1"
    one = sh.Action("ingress.send")
    one["port"] = "1"
    spread.oneshot.add(one, weight=2)
    spread.insert()
    check("one-shot", len(list(sh.TableEntry("ingress.spread").read())), 1)
    spread.delete()
    for number in (1, 2):
        member = sh.ActionProfileMember("ingress.paths")(member_id=number, action="ingress.send")
        member.action["port"] = str(number)
        member.insert()
    group = sh.ActionProfileGroup("ingress.paths")(group_id=3)
    group.add(1, weight=1)
    group.add(2, weight=2)
    group.insert()
    found = list(sh.ActionProfileGroup("ingress.paths").read())
    check("group", [(g.group_id, len(g.members)) for g in found], [(3, 2)])


def others():
    """Arrays and replication."""
    counter = sh.CounterEntry("ingress.port_counter")
    counter.index = 3
    counter.packet_count = 7
    counter.modify()
    check("counter", [c.packet_count for c in counter.read()], [7])
    meter = sh.MeterEntry("ingress.port_meter")
    meter.index = 3
    meter.cir, meter.cburst, meter.pir, meter.pburst = 1, 2, 3, 4
    meter.modify()
    check("meter", [(m.cir, m.pburst) for m in meter.read()], [(1, 4)])
    multicast = sh.MulticastGroupEntry(1)
    multicast.add(1, 1).add(2, 2)
    multicast.insert()
    check("multicast group", [len(m.replicas) for m in sh.MulticastGroupEntry(1).read()], [2])
    clone = sh.CloneSessionEntry(5)
    clone.add(510, 1)
    clone.insert()
    check("clone session", [c.session_id for c in sh.CloneSessionEntry(5).read()], [5])


def packets():
    """A packet-out, which the test's target sends back."""
    received = sh.PacketIn()
    out = sh.PacketOut(b"\xff" * 60, **{"egress_port": "1", "pad": "0"})
    out.send()
    found = []
    received.sniff(found.append, timeout=3)
    check("packet-in after packet-out", [packet.packet.payload for packet in found], [b"\xff" * 60])


sh.setup(device_id=1, grpc_addr=ADDRESS, election_id=(0, 1), config=sh.FwdPipeConfig(P4INFO, CONFIG), verbose=False)
try:
    tables()
    profiles()
    others()
    packets()
finally:
    sh.teardown()
print("all checks held")
