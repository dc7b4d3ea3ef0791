"""Enrols by unary Bootz calls, and shows certificates that must be refused.

Arguments: address, and a directory with `bootz.fds` (descriptors), `ca.pem` (of the fabric), `owner.pem`, and a
directory with `idevid.pem` and `idevid.key` for each device. Ends with status 0 only if every check held.
"""

import base64
import pathlib
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ADDRESS, DIR = sys.argv[1], pathlib.Path(sys.argv[2])

POOL = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString((DIR / "bootz.fds").read_bytes()).file:
    POOL.AddSerializedFile(file.SerializeToString())


def message(name):
    """The class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


REQUEST = message("bootz.GetBootstrapDataRequest")
RESPONSE = message("bootz.GetBootstrapDataResponse")
SIGNED = message("bootz.BootstrapDataSigned")
REPORT = message("bootz.ReportStatusRequest")
EMPTY = message("bootz.EmptyResponse")


def check(what, have, want):
    """Fails the run unless two values are equal."""
    if have != want:
        raise AssertionError(f"{what}: have {have!r}, want {want!r}")
    print("ok", what)


class Device:
    """A device that shows the certificate of a directory."""

    def __init__(self, name):
        own = DIR / name
        credentials = grpc.ssl_channel_credentials(
            (DIR / "ca.pem").read_bytes(),
            (own / "idevid.key").read_bytes(),
            (own / "idevid.pem").read_bytes(),
        )
        options = [("grpc.ssl_target_name_override", "localhost")]
        self.channel = grpc.secure_channel(ADDRESS, credentials, options)

    def call(self, method, request, response):
        """One unary call."""
        call = self.channel.unary_unary(
            f"/bootz.Bootstrap/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=60, wait_for_ready=True)

    def get(self, serial="AF40", nonce="QQ=="):
        """Bootstrap data."""
        request = REQUEST(nonce=nonce)
        request.chassis_descriptor.manufacturer = "Acme"
        request.chassis_descriptor.part_number = "x86_64-acme_s1-r0"
        request.chassis_descriptor.serial_number = serial
        return self.call("GetBootstrapData", request, RESPONSE)

    def report(self, status):
        """A report."""
        return self.call("ReportStatus", REPORT(status=status, status_message="serving"), EMPTY)


def refused(what, words, action):
    """Fails the run unless the server refuses with these words."""
    try:
        action()
    except grpc.RpcError as error:
        check(f"{what}: code", error.code(), grpc.StatusCode.PERMISSION_DENIED)
        if words not in error.details():
            raise AssertionError(f"{what}: {error.details()!r} without {words!r}") from error
        print("ok", what)
        return
    raise AssertionError(f"{what}: was accepted")


right = Device("right")
for _ in range(2):
    answer = right.get()
    owner = x509.load_pem_x509_certificate((DIR / "owner.pem").read_bytes()).public_key()
    owner.verify(
        base64.b64decode(answer.response_signature),
        answer.serialized_bootstrap_data,
        padding.PKCS1v15(),
        hashes.SHA256(),
    )
    check("voucher and owner's certificate", bool(answer.ownership_voucher and answer.ownership_certificate), True)
    data = SIGNED.FromString(answer.serialized_bootstrap_data)
    check("nonce", data.nonce, "QQ==")
    check("serial numbers", [r.serial_num for r in data.responses], ["AF40"])
    check("settings", b'"hostname":"leaf1"' in data.responses[0].boot_config.vendor_config, True)
    check("profiles", [p.ssl_profile_id for p in data.responses[0].certz_profiles.profiles], ["vfabric"])
for status in (3, 1):
    check(f"report {status}", right.report(status), EMPTY())
refused("a chassis of another serial number", "a clone?", lambda: right.get(serial="AF41"))
refused("no nonce", "does not ask for a voucher", lambda: right.get(nonce=""))
refused("an expired certificate", "vouches for the IDevID certificate", Device("expired").get)
refused("a foreign manufacturer", "vouches for the IDevID certificate", Device("foreign").get)
refused("a clone", "bound to another device", Device("clone").get)
refused("a clone's report", "bound to another device", lambda: Device("clone").report(1))
refused("a stranger", "ZZ99 is not in the inventory", lambda: Device("stranger").get(serial="ZZ99"))
print("all checks held")
