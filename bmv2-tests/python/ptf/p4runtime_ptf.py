"""A base class for PTF tests that program a switch over P4Runtime (specification 1.3 and later).

A test names tables, fields, actions and parameters as the program does; numbers come from the P4Info. What a test has
written is deleted again after it. Test parameters (`--test-params`):

    grpcaddr   where the switch serves P4Runtime                  [127.0.0.1:9559]
    p4info     P4Info, text or binary                             required
    config     device config: BMv2 JSON                           required
    device_id                                                     [1]
    cpu_port   port of packet-in and packet-out                   [510]

`send_request_add_entry_to_action` and the classes Exact, Lpm, Ternary, Range and Optional are named as in the base tests
that the field passes around, so that tests written for those need few changes or none.
"""

import queue
import threading
import time

import grpc
import ptf
import ptf.testutils as testutils
from google.protobuf import text_format
from google.rpc import code_pb2
from p4.config.v1 import p4info_pb2
from p4.v1 import p4runtime_pb2, p4runtime_pb2_grpc
from ptf.base_tests import BaseTest

# Time limit for any single reply; far more than a switch needs, even on a busy machine.
PATIENCE = 10
DEFAULTS = {"grpcaddr": "127.0.0.1:9559", "device_id": "1", "cpu_port": "510"}


def octets(value, bits):
    """The canonical bytestring of a value: an int, bytes, or an address as text (section 8.4)."""
    if isinstance(value, str):
        value = int.from_bytes(address_octets(value), "big")
    elif isinstance(value, bytes):
        value = int.from_bytes(value, "big")
    if value < 0 or value >> bits:
        raise ValueError(f"{value} does not fit into {bits} bits")
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def address_octets(text):
    """Octets of a MAC, IPv4 or IPv6 address."""
    import ipaddress

    if text.count(":") == 5 and "::" not in text:
        return bytes(int(part, 16) for part in text.split(":"))
    return ipaddress.ip_address(text).packed


class Exact:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def fill(self, field, bits):
        field.exact.value = octets(self.value, bits)


class Lpm:
    def __init__(self, name, value, prefix):
        self.name, self.value, self.prefix = name, value, prefix

    def fill(self, field, bits):
        field.lpm.value = octets(self.value, bits)
        field.lpm.prefix_len = self.prefix


class Ternary:
    def __init__(self, name, value, mask):
        self.name, self.value, self.mask = name, value, mask

    def fill(self, field, bits):
        field.ternary.value = octets(self.value, bits)
        field.ternary.mask = octets(self.mask, bits)


class Range:
    def __init__(self, name, low, high):
        self.name, self.low, self.high = name, low, high

    def fill(self, field, bits):
        field.range.low = octets(self.low, bits)
        field.range.high = octets(self.high, bits)


class Optional:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def fill(self, field, bits):
        field.optional.value = octets(self.value, bits)


class P4RuntimeError(Exception):
    """The refusals of a switch, update by update."""

    def __init__(self, error):
        self.code = error.code()
        reasons = [error.details()]
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                from google.rpc import status_pb2

                status = status_pb2.Status.FromString(value)
                for number, detail in enumerate(status.details):
                    one = p4runtime_pb2.Error()
                    detail.Unpack(one)
                    if one.canonical_code:
                        name = code_pb2.Code.Name(one.canonical_code)
                        reasons.append(f"update {number}: {name}: {one.message}")
        super().__init__("; ".join(filter(None, reasons)))


class P4RuntimeTest(BaseTest):
    """Connects, becomes primary, and sets the program, before each test."""

    Exact, Lpm, Ternary, Range, Optional = Exact, Lpm, Ternary, Range, Optional

    def setUp(self):
        super().setUp()
        self.params = {**DEFAULTS, **testutils.test_params_get()}
        self.device_id = int(self.params["device_id"])
        self.cpu_port = int(self.params["cpu_port"])
        self.dataplane = ptf.dataplane_instance
        self.dataplane.flush()
        self.p4info = self._read_p4info(self.params["p4info"])
        self._undo = []
        self._packets = queue.Queue()
        self._outgoing = queue.Queue()
        self.election_id = time.time_ns()
        self.channel = grpc.insecure_channel(
            self.params["grpcaddr"], options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self.stub = p4runtime_pb2_grpc.P4RuntimeStub(self.channel)
        self._become_primary()
        self._set_program()

    def tearDown(self):
        try:
            for update in reversed(self._undo):
                self._write([update])
        finally:
            self._outgoing.put(None)
            self._reader.join(PATIENCE)
            self.channel.close()
            super().tearDown()

    def __lt__(self, other):
        # For `--test-order lexico`, which sorts tests; those of unittest have no order.
        return self.id() < other.id()

    # Session

    @staticmethod
    def _read_p4info(path):
        p4info = p4info_pb2.P4Info()
        with open(path, "rb") as file:
            data = file.read()
        if path.endswith((".txt", ".txtpb", ".prototext")):
            text_format.Parse(data.decode(), p4info)
        else:
            p4info.ParseFromString(data)
        return p4info

    def _become_primary(self):
        stream = self.stub.StreamChannel(iter(self._outgoing.get, None))
        arbitrated = queue.Queue()

        def read():
            try:
                for message in stream:
                    (arbitrated if message.HasField("arbitration") else self._packets).put(message)
            except grpc.RpcError as error:
                arbitrated.put(error)

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        hello = p4runtime_pb2.StreamMessageRequest()
        hello.arbitration.device_id = self.device_id
        self._elect(hello.arbitration.election_id)
        self._outgoing.put(hello)
        answer = arbitrated.get(timeout=PATIENCE)
        if isinstance(answer, Exception):
            raise answer
        if answer.arbitration.status.code != code_pb2.OK:
            self.fail(f"not primary: {answer.arbitration.status.message}")

    def _elect(self, election_id):
        election_id.high, election_id.low = self.election_id >> 64, self.election_id & (1 << 64) - 1

    def _set_program(self):
        """Sets the program unless the switch has it: the cookie is made of both files."""
        import zlib

        with open(self.params["config"], "rb") as file:
            config = file.read()
        cookie = zlib.crc32(config + self.p4info.SerializeToString(deterministic=True)) | 1
        ask = p4runtime_pb2.GetForwardingPipelineConfigRequest(device_id=self.device_id)
        ask.response_type = ask.COOKIE_ONLY
        try:
            found = self.stub.GetForwardingPipelineConfig(ask, timeout=PATIENCE)
            if found.config.cookie.cookie == cookie:
                return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
        request = p4runtime_pb2.SetForwardingPipelineConfigRequest(device_id=self.device_id)
        self._elect(request.election_id)
        request.action = request.VERIFY_AND_COMMIT
        request.config.p4info.CopyFrom(self.p4info)
        request.config.p4_device_config = config
        request.config.cookie.cookie = cookie
        self.stub.SetForwardingPipelineConfig(request, timeout=PATIENCE)

    # Names

    def object(self, kind, name):
        """An object of the P4Info, by its name, its alias or any end of its name."""
        for found in getattr(self.p4info, kind):
            full = found.preamble.name
            if name in (full, found.preamble.alias) or full.endswith("." + name):
                return found
        self.fail(f"the program has no `{name}` among its {kind}")

    def fill_action(self, action, name, values):
        """Fills in an action; `values` is a dict of parameters, or a list of pairs."""
        info = self.object("actions", name)
        action.action_id = info.preamble.id
        values = dict(values)
        for param in info.params:
            action.params.add(param_id=param.id, value=octets(values.pop(param.name), param.bitwidth))
        if values:
            self.fail(f"action {name} has no parameters {list(values)}")

    def fill_match(self, entry, table, match):
        """Fills in a key; `match` is a list of Exact, Lpm ..., or a dict of exact values."""
        if isinstance(match, dict):
            match = [Exact(name, value) for name, value in match.items()]
        fields = {field.name: field for field in table.match_fields}
        for part in match or ():
            field = fields[part.name]
            part.fill(entry.match.add(field_id=field.id), field.bitwidth)

    def table_entry(self, table, match, action=None, values=(), priority=0, group=None):
        """An entity for a table entry, with an action or a group of the table's selector."""
        info = self.object("tables", table)
        entity = p4runtime_pb2.Entity()
        entry = entity.table_entry
        entry.table_id, entry.priority = info.preamble.id, priority
        self.fill_match(entry, info, match)
        if group is not None:
            entry.action.action_profile_group_id = group
        elif action is not None:
            self.fill_action(entry.action.action, action, values)
        return entity

    # Writing

    def _write(self, updates):
        request = p4runtime_pb2.WriteRequest(device_id=self.device_id, updates=updates)
        self._elect(request.election_id)
        try:
            return self.stub.Write(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise P4RuntimeError(error) from None

    def insert(self, *entities):
        """Inserts entities in one batch; they are deleted after the test."""
        update = lambda kind, entity: p4runtime_pb2.Update(type=kind, entity=entity)
        self._write([update(p4runtime_pb2.Update.INSERT, entity) for entity in entities])
        self._undo.extend(update(p4runtime_pb2.Update.DELETE, entity) for entity in entities)
        self._take_rates_away_later(entities)

    def modify(self, *entities):
        """Modifies entities."""
        self._write([p4runtime_pb2.Update(type=p4runtime_pb2.Update.MODIFY, entity=entity) for entity in entities])
        self._take_rates_away_later(entities)

    def delete(self, *entities):
        """Deletes entities; those of this test need no deletion after it."""
        without = [self._without_rates(entity) for entity in entities]
        for update in self._undo:
            if update in without:
                self._write([update])
        self._write([p4runtime_pb2.Update(type=p4runtime_pb2.Update.DELETE, entity=entity) for entity in entities])
        self._undo = [update for update in self._undo if update.entity not in entities and update not in without]

    def _take_rates_away_later(self, entities):
        """Entries lose the rates of their meters before they are deleted.

        simple_switch_grpc leaves the rates of a deleted entry to the next entry in its place, which should have none.
        """
        self._undo.extend(self._without_rates(e) for e in entities if e.table_entry.HasField("meter_config"))

    @staticmethod
    def _without_rates(entity):
        """The update that takes an entry's rates away: a meter without config (section 9.1.7)."""
        update = p4runtime_pb2.Update(type=p4runtime_pb2.Update.MODIFY)
        entry = update.entity.direct_meter_entry.table_entry
        entry.table_id, entry.priority = entity.table_entry.table_id, entity.table_entry.priority
        entry.match.extend(entity.table_entry.match)
        return update

    def multicast_group(self, group, replicas):
        """An entity for a multicast group; `replicas` are pairs of port and instance."""
        entity = p4runtime_pb2.Entity()
        entry = entity.packet_replication_engine_entry.multicast_group_entry
        entry.multicast_group_id = group
        for port, instance in replicas:
            entry.replicas.add(egress_port=port, instance=instance)
        return entity

    def member(self, profile, member, action, values=()):
        """An entity for a member of an action profile."""
        entity = p4runtime_pb2.Entity()
        entry = entity.action_profile_member
        entry.action_profile_id, entry.member_id = self.object("action_profiles", profile).preamble.id, member
        self.fill_action(entry.action, action, values)
        return entity

    def group(self, profile, group, members):
        """An entity for a group of an action profile, all of the same weight."""
        entity = p4runtime_pb2.Entity()
        entry = entity.action_profile_group
        entry.action_profile_id, entry.group_id = self.object("action_profiles", profile).preamble.id, group
        for member in members:
            entry.members.add(member_id=member, weight=1)
        return entity

    def send_request_add_entry_to_action(self, t_name, mk, a_name, params=(), priority=0):
        """Inserts a table entry."""
        self.insert(self.table_entry(t_name, mk, a_name, params or (), priority))

    def send_request_add_entry_to_group(self, t_name, mk, grp_id):
        """Inserts a table entry with a group of the table's selector."""
        self.insert(self.table_entry(t_name, mk, group=grp_id))

    # Reading

    def read(self, *entities):
        """Reads entities."""
        request = p4runtime_pb2.ReadRequest(device_id=self.device_id, entities=entities)
        return [e for answer in self.stub.Read(request, timeout=PATIENCE) for e in answer.entities]

    def counters(self, name):
        """Packets of all cells of a counter, by index."""
        entity = p4runtime_pb2.Entity()
        entity.counter_entry.counter_id = self.object("counters", name).preamble.id
        cells = (found.counter_entry for found in self.read(entity))
        return {cell.index.index: cell.data.packet_count for cell in cells}

    def entry_packets(self, table):
        """Packets that matched entries of a table, for all entries together; the table needs a direct counter."""
        entity = p4runtime_pb2.Entity()
        entity.direct_counter_entry.table_entry.table_id = self.object("tables", table).preamble.id
        return sum(e.direct_counter_entry.data.packet_count for e in self.read(entity))

    # Packets

    def send_packet_out(self, payload, **metadata):
        """Sends a packet out, with the fields of the header `packet_out`."""
        request = p4runtime_pb2.StreamMessageRequest()
        request.packet.payload = bytes(payload)
        for info in self.p4info.controller_packet_metadata:
            if info.preamble.name == "packet_out":
                for field in info.metadata:
                    value = octets(metadata.pop(field.name, 0), field.bitwidth)
                    request.packet.metadata.add(metadata_id=field.id, value=value)
        if metadata:
            self.fail(f"packet_out has no fields {list(metadata)}")
        self._outgoing.put(request)

    def packet_in(self, timeout=PATIENCE):
        """The next packet-in: its payload and a dict of the fields of the header `packet_in`."""
        names = {}
        for info in self.p4info.controller_packet_metadata:
            if info.preamble.name == "packet_in":
                names = {field.id: field.name for field in info.metadata}
        end = time.monotonic() + timeout
        while True:
            message = self._packets.get(timeout=max(0.0, end - time.monotonic()))
            if message.HasField("packet"):
                packet = message.packet
                fields = {names[m.metadata_id]: int.from_bytes(m.value, "big") for m in packet.metadata}
                return packet.payload, fields

    def frame(self, port, timeout=PATIENCE):
        """The next frame that left on a port."""
        found = self.dataplane.poll(device_number=0, port_number=port, timeout=timeout)
        if not isinstance(found, self.dataplane.PollSuccess):
            self.fail(f"no frame left by port {port}")
        return bytes(found.packet)

    def until(self, what, is_so):
        """Waits until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > end:
                self.fail(f"{what}: not within {PATIENCE} s")
            time.sleep(0.01)
