"""Writes and reads one object of every kind with finsy, and exchanges every stream message.

Arguments: address, device config, P4Info. Ends with status 0 only if every check held. With a fourth argument
"list", differences are printed as lines "differs ..." and the run goes on: for servers that are known to differ.
"""

import asyncio
import sys
from pathlib import Path

import finsy as fy
from finsy.p4entity import P4MeterCounterData, P4ValueSetMember, encode_updates
from finsy.proto import p4r

ADDRESS, CONFIG, P4INFO = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

# A wait that ends a test that would otherwise hang; nothing measures it.
PATIENCE_S = 20


LIST = sys.argv[4:] == ["list"]


def differs(what, how):
    """Fails the run, or lists a difference."""
    if not LIST:
        raise AssertionError(f"{what}: {how}")
    print("differs", what, "|", " ".join(how.split())[:300])


def check(what, have, want):
    """Compares two values."""
    if have != want:
        differs(what, f"have {have!r}, want {want!r}")
    else:
        print("ok", what)


async def refused(what, code, awaitable):
    """Fails the run unless the server refuses with the code."""
    try:
        await awaitable
    except fy.P4ClientError as error:
        details = [sub.canonical_code for sub in error.details.values()]
        if code in (details or [error.code]):
            print("ok", what)
        else:
            differs(what, f"refused with {details or [error.code]} instead of {code!r}")
        return
    differs(what, "was accepted")


async def read(sw, entity):
    """All entities that a read returns."""
    return [found async for found in sw.read(entity)]


def messages(sw, entities):
    """Entities as messages, in which aliases cannot differ."""
    return [entity.encode(sw.p4info) for entity in entities]


async def round_trip(sw, what, entity, request=None):
    """Inserts an entity and reads the same back."""
    await sw.insert([entity])
    check(f"{what}: read back", messages(sw, await read(sw, request or entity)), messages(sw, [entity]))


async def tables(sw):
    """Match kinds, priorities, cookies, default entries, constant tables, limits."""
    code = fy.GRPCStatusCode
    l2 = fy.P4TableEntry("ingress.l2", match=fy.P4TableMatch(dst=0x0102030405), action=fy.P4TableAction("send", port=5), metadata=b"cookie")
    await round_trip(sw, "exact", l2)
    await refused("exact: insert twice", code.ALREADY_EXISTS, sw.insert([l2]))
    changed = fy.P4TableEntry("ingress.l2", match=fy.P4TableMatch(dst=0x0102030405), action=fy.P4TableAction("flood", group=7))
    await sw.modify([changed])
    check("exact: modified", await read(sw, l2), [])
    check("exact: without cookie", messages(sw, await read(sw, fy.P4TableEntry("ingress.l2"))), messages(sw, [changed]))
    await sw.delete([l2])
    await refused("exact: delete twice", code.NOT_FOUND, sw.delete([l2]))
    default_only = fy.P4TableEntry("ingress.l2", match=fy.P4TableMatch(dst=1), action=fy.P4TableAction("drop"))
    await refused("@defaultonly in an entry", code.PERMISSION_DENIED, sw.insert([default_only]))
    default = fy.P4TableEntry("ingress.l2", action=fy.P4TableAction("punt", reason=3), is_default_action=True)
    await sw.modify([default])
    check("default entry", messages(sw, await read(sw, fy.P4TableEntry("ingress.l2", is_default_action=True))), messages(sw, [default]))
    table_only = fy.P4TableEntry("ingress.l2", action=fy.P4TableAction("mirror"), is_default_action=True)
    await refused("@tableonly as default", code.PERMISSION_DENIED, sw.modify([table_only]))

    def route(prefix):
        return fy.P4TableEntry("ingress.route", match=fy.P4TableMatch(dst=prefix), action=fy.P4TableAction("routed", port=1))

    await round_trip(sw, "LPM", route("10.0.0.0/8"))
    more = [route(f"10.{i}.0.0/16") for i in range(1, 8)]
    await sw.insert([entry for entry in more])
    await refused("a full table", code.RESOURCE_EXHAUSTED, sw.insert([route("192.168.0.0/16")]))
    check("wildcard read", len(await read(sw, fy.P4TableEntry("ingress.route"))), 8)
    counted = fy.P4DirectCounterEntry("ingress.route_counter", table_entry=route("10.0.0.0/8"), data=fy.P4CounterData(byte_count=100, packet_count=2))
    await sw.modify([counted])
    found = await read(sw, fy.P4DirectCounterEntry("ingress.route_counter", table_entry=route("10.0.0.0/8")))
    check("direct counter", found[0].data, counted.data)

    acl = fy.P4TableEntry(
        "ingress.acl",
        match=fy.P4TableMatch(src="10.0.0.0/&255.0.0.0", length="64...1500", protocol=17, ingress_port=3),
        priority=5,
        action=fy.P4TableAction("metered"),
    )
    await round_trip(sw, "ternary, range and optional", acl)
    no_priority = fy.P4TableEntry("ingress.acl", match=fy.P4TableMatch(ingress_port=1), action=fy.P4TableAction("drop"))
    await refused("no priority", code.INVALID_ARGUMENT, sw.insert([no_priority]))
    rates = fy.P4MeterConfig(cir=10, cburst=20, pir=30, pburst=40)
    metered = fy.P4DirectMeterEntry(table_entry=acl, config=rates)
    await sw.modify([metered])
    found = await read(sw, fy.P4DirectMeterEntry(table_entry=acl))
    check("direct meter", found[0].config, rates)
    await sw.modify([fy.P4DirectMeterEntry(table_entry=acl)])
    found = await read(sw, fy.P4DirectMeterEntry(table_entry=acl))
    check("direct meter: reset", found[0].config, None)

    fixed = await read(sw, fy.P4TableEntry("ingress.fixed"))
    check("constant entries", sorted((e.priority, e.is_const) for e in fixed), [(1, True), (2, True)])
    await refused("a constant table", code.PERMISSION_DENIED, sw.delete([fixed[0].__class__("ingress.fixed", match=fixed[0].match, priority=fixed[0].priority)]))


async def profiles(sw):
    """Members, groups, one-shots and what refers to them."""
    code = fy.GRPCStatusCode

    def member(profile, number):
        return fy.P4ActionProfileMember(profile, member_id=number, action=fy.P4TableAction("send", port=number))

    await round_trip(sw, "member", member("ingress.neighbours", 1))
    indirect = fy.P4TableEntry("ingress.nexthop", match=fy.P4TableMatch({"class": 1}), action=fy.P4IndirectAction(member_id=1))
    await round_trip(sw, "entry with a member", indirect)
    await refused("a member in use", code.FAILED_PRECONDITION, sw.delete([member("ingress.neighbours", 1)]))
    dangling = fy.P4TableEntry("ingress.nexthop", match=fy.P4TableMatch({"class": 2}), action=fy.P4IndirectAction(member_id=9))
    await refused("a member that does not exist", code.NOT_FOUND, sw.insert([dangling]))

    spread = {"match": fy.P4TableMatch(dst="10.0.0.1")}
    one_shot = fy.P4TableEntry(
        "ingress.spread",
        action=fy.P4IndirectAction([(2, fy.P4TableAction("send", port=1)), (1, fy.P4TableAction("send", port=2))]),
        **spread,
    )
    await round_trip(sw, "one-shot", one_shot)
    await refused("members beside one-shots", code.INVALID_ARGUMENT, sw.insert([member("ingress.paths", 1)]))
    await sw.delete([one_shot])
    await sw.insert([member("ingress.paths", 1), member("ingress.paths", 2)])
    members = [fy.P4Member(1, weight=1), fy.P4Member(2, weight=(3, 2))]
    group = fy.P4ActionProfileGroup("ingress.paths", group_id=4, max_size=8, members=members)
    await round_trip(sw, "group", group)
    grouped = fy.P4TableEntry("ingress.spread", action=fy.P4IndirectAction(group_id=4), **spread)
    await round_trip(sw, "entry with a group", grouped)
    await refused("a group in use", code.FAILED_PRECONDITION, sw.delete([group]))


async def multicast_groups(sw):
    """Replicas and cookies."""
    multicast = fy.P4MulticastGroupEntry(1, replicas=[1, (2, 7)], metadata=b"m")
    await sw.insert([multicast])
    found = await read(sw, fy.P4MulticastGroupEntry(1))
    check("multicast group", [(found[0].multicast_group_id, len(found[0].replicas), found[0].metadata)], [(1, 2, b"m")])


async def clone_sessions(sw):
    """Replicas, class of service, truncation."""
    clone = fy.P4CloneSessionEntry(100, class_of_service=2, packet_length_bytes=128, replicas=[510])
    await sw.insert([clone])
    found = await read(sw, fy.P4CloneSessionEntry())
    check("clone session", [(c.session_id, c.class_of_service, c.packet_length_bytes) for c in found], [(100, 2, 128)])


async def counters(sw):
    """Cells, whole arrays, bounds."""
    code = fy.GRPCStatusCode
    counter = fy.P4CounterEntry("ingress.port_counter", index=3, data=fy.P4CounterData(byte_count=9, packet_count=1))
    await sw.modify([counter])
    check("counter", messages(sw, await read(sw, fy.P4CounterEntry("ingress.port_counter", index=3))), messages(sw, [counter]))
    check("counters", len(await read(sw, fy.P4CounterEntry("ingress.port_counter"))), 16)
    past_end = fy.P4CounterEntry("ingress.port_counter", index=16, data=fy.P4CounterData())
    await refused("a cell past the end", code.OUT_OF_RANGE, sw.modify([past_end]))


async def meters(sw):
    """Cells."""
    meter = fy.P4MeterEntry("ingress.port_meter", index=3, config=fy.P4MeterConfig(cir=1, cburst=2, pir=3, pburst=4))
    await sw.modify([meter])
    check("meter", messages(sw, await read(sw, fy.P4MeterEntry("ingress.port_meter", index=3))), messages(sw, [meter]))
    zero = P4MeterCounterData(green=fy.P4CounterData(), yellow=fy.P4CounterData(), red=fy.P4CounterData())
    found = await read(sw, fy.P4MeterEntry("ingress.port_meter", index=3, counter_data=zero))
    check("meter: counters by colour", found[0].counter_data, zero)
    await sw.modify([fy.P4MeterEntry("ingress.port_meter", index=3, config=meter.config, counter_data=zero)])
    one = P4MeterCounterData(green=fy.P4CounterData(packet_count=1), yellow=zero.yellow, red=zero.red)
    await refused("a meter counter that is not 0", fy.GRPCStatusCode.INVALID_ARGUMENT, sw.modify([fy.P4MeterEntry("ingress.port_meter", index=3, counter_data=one)]))


async def registers(sw):
    """Cells."""
    register = fy.P4RegisterEntry("ingress.state", index=2, data=77)
    await sw.modify([register])
    check("register", messages(sw, await read(sw, fy.P4RegisterEntry("ingress.state", index=2))), messages(sw, [register]))


async def value_sets(sw):
    """Members."""
    members = [P4ValueSetMember(0x86DD), P4ValueSetMember(0x88CC)]
    values = fy.P4ValueSetEntry("parse.ip_types", members=members)
    await sw.modify([values])
    found = await read(sw, fy.P4ValueSetEntry("parse.ip_types", members=[]))
    check("value set", len(found[0].members), 2)


async def batches(sw):
    """Errors of single updates, and all-or-none."""
    entry = lambda n: fy.P4TableEntry("ingress.l2", match=fy.P4TableMatch(dst=n), action=fy.P4TableAction("send", port=1))
    await sw.insert([entry(10)])
    try:
        await sw.insert([entry(11), entry(10), entry(12)])
        raise AssertionError("a batch with a duplicate was accepted")
    except fy.P4ClientError as error:
        check("the failed update is named", list(error.details), [1])
    check("the others were done", len(await read(sw, fy.P4TableEntry("ingress.l2"))), 3)
    for atomicity in ("ROLLBACK_ON_ERROR", "DATAPLANE_ATOMIC"):
        request = p4r.WriteRequest(
            device_id=sw.device_id,
            election_id=p4r.Uint128(low=10),
            updates=encode_updates([+entry(20), +entry(10)], sw.p4info),
            atomicity=getattr(p4r.WriteRequest.Atomicity, atomicity),
        )
        try:
            await sw._p4client.request(request)
            raise AssertionError(f"{atomicity}: a batch with a duplicate was accepted")
        except fy.P4ClientError:
            pass
        check(f"{atomicity}: nothing was done", len(await read(sw, fy.P4TableEntry("ingress.l2"))), 3)


async def streams(sw):
    """Packet-in, packet-out, digests, idle timeouts."""
    digest = fy.P4DigestEntry("learn_t", max_list_size=1, max_timeout_ns=1_000_000, ack_timeout_ns=0)
    await round_trip(sw, "digest", digest, fy.P4DigestEntry("learn_t"))

    async def first(stream, act):
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        await act()
        return await asyncio.wait_for(waiting, PATIENCE_S)

    frame = bytes.fromhex("ffffffffffff0202020202020806") + bytes(46)
    packets = sw.read_packets()
    packet = await first(packets, lambda: sw.write([fy.P4PacketOut(frame, egress_port=1, pad=0)]))
    check("packet-in after packet-out", packet.payload, frame)
    digests = sw.read_digests("learn_t")
    learned = await first(digests, lambda: sw.write([fy.P4PacketOut(frame, egress_port=1, pad=0)]))
    check("digest list", learned.data[0]["src"], 0x020202020202)
    await sw.write([fy.P4DigestListAck("learn_t", learned.list_id)])
    aged = fy.P4TableEntry("ingress.source", match=fy.P4TableMatch(src=5), action=fy.P4TableAction("NoAction"), idle_timeout_ns=50_000_000)
    idle = await first(sw.read_idle_timeouts(), lambda: sw.insert([aged]))
    check("idle timeout", idle.table_entry[0].match, aged.match)


SCENARIOS = [
    tables,
    profiles,
    multicast_groups,
    clone_sessions,
    counters,
    meters,
    registers,
    value_sets,
    batches,
    streams,
]


async def main():
    """Connects, sets the pipeline, runs every scenario."""
    done = asyncio.Event()

    async def ready(sw):
        for scenario in SCENARIOS:
            try:
                await scenario(sw)
            except Exception as error:
                if not LIST:
                    raise
                details = getattr(error, "details", None)
                differs(scenario.__name__, f"ended early: {error!r} {details}")
        done.set()

    options = fy.SwitchOptions(p4info=P4INFO, p4blob=CONFIG, ready_handler=ready, fail_fast=True)
    running = asyncio.create_task(fy.Switch("sw1", ADDRESS, options).run())
    finished = asyncio.create_task(done.wait())
    await asyncio.wait([running, finished], return_when=asyncio.FIRST_COMPLETED)
    if not done.is_set():
        await running
        raise AssertionError("the switch went away")
    running.cancel()
    print("all checks held")


asyncio.run(main())
