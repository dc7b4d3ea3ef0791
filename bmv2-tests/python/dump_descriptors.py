"""Print the protobuf descriptors that an installed Python package ships, as JSON.

usage: dump_descriptors.py MODULE...

Every MODULE is a generated module (such as p4.v1.p4runtime_pb2). The output
has one object per message, enum and service of the modules' files, by full
name, in the shape that `bmv2-tests/tests/wire_format.rs` reads.
"""

import importlib
import json
import os
import sys

# The p4runtime package was generated for protobuf's pure Python runtime.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

from google.protobuf import descriptor_pb2  # noqa: E402


def full(package, name):
    """The full name of something declared in a package or message."""
    return f"{package}.{name}" if package else name


def add_enum(out, scope, enum):
    out["enums"][full(scope, enum.name)] = {v.name: v.number for v in enum.value}


def add_message(out, scope, message):
    name = full(scope, message.name)
    fields = {}
    for field in message.field:
        oneof = None
        if field.HasField("oneof_index"):
            oneof = message.oneof_decl[field.oneof_index].name
        fields[field.name] = {
            "number": field.number,
            "label": field.label,
            "type": field.type,
            "type_name": field.type_name.lstrip("."),
            "oneof": oneof,
        }
    out["messages"][name] = fields
    for nested in message.nested_type:
        add_message(out, name, nested)
    for enum in message.enum_type:
        add_enum(out, name, enum)


def add_service(out, package, service):
    out["services"][full(package, service.name)] = {
        m.name: {
            "input": m.input_type.lstrip("."),
            "output": m.output_type.lstrip("."),
            "client_streaming": m.client_streaming,
            "server_streaming": m.server_streaming,
        }
        for m in service.method
    }


def main(modules):
    out = {"messages": {}, "enums": {}, "services": {}}
    for module in modules:
        raw = importlib.import_module(module).DESCRIPTOR.serialized_pb
        file = descriptor_pb2.FileDescriptorProto.FromString(raw)
        for message in file.message_type:
            add_message(out, file.package, message)
        for enum in file.enum_type:
            add_enum(out, file.package, enum)
        for service in file.service:
            add_service(out, file.package, service)
    json.dump(out, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
