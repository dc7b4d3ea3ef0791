# SPDX-License-Identifier: Apache-2.0
"""What the tests stand on: certificates, a controller, and Ansible.

The binaries are in the folder that VFABRIC_BIN names, by default the checkout's `target/debug`.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HERE = Path(__file__).resolve().parent
COLLECTIONS = HERE.parent
COLLECTION = COLLECTIONS / "ansible_collections" / "vfabric" / "fabric"
CHECKOUT = COLLECTIONS.parent
BIN = Path(os.environ.get("VFABRIC_BIN") or CHECKOUT / "target" / "debug")
# Ansible's commands, beside the Python that runs the tests.
SCRIPTS = Path(sys.executable).parent
# Seconds for a daemon to serve, on a machine that does much else.
START = 60


class Pki:
    """A folder with an authority of a fabric and certificates by it."""

    def __init__(self, folder, fabric="lab"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fabric = fabric
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of %s" % fabric)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        ski = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = self.builder(self.name, self.key).add_extension(x509.BasicConstraints(True, 0), True)
        builder = builder.add_extension(usage, True).add_extension(ski, False)
        self.ca = self.write("ca.pem", self.pem(builder.sign(self.key, hashes.SHA256())))

    def builder(self, subject, key):
        """A certificate that begins a while ago and ends tomorrow."""
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(
            now + datetime.timedelta(days=1)
        )

    def issue(self, subject, names=(), addresses=()):
        """Certificate and key of a subject, such as `host/host1`, as paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.UniformResourceIdentifier("spiffe://%s/%s" % (self.fabric, subject))]
        alternatives += [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self.builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]), key)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = builder.add_extension(usage, True)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(authority, False)
        file = subject.replace("/", "-")
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        cert = self.write(file + ".pem", self.pem(builder.sign(self.key, hashes.SHA256())))
        return cert, self.write(file + ".key", private)

    def write(self, name, content):
        """Writes a file that only its owner reads."""
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    @staticmethod
    def pem(certificate):
        """A certificate as text."""
        return certificate.public_bytes(serialization.Encoding.PEM)


def free_port():
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def binary(name):
    """The path of a binary of the project."""
    path = BIN / name
    if not path.exists():
        raise FileNotFoundError("%s is missing: build the workspace, or name its folder in VFABRIC_BIN" % path)
    return path


class Controller:
    """A controller of the lab's fabric whose devices are not there."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.pki = Pki(self.folder / "pki")
        self.cert, self.key = self.pki.issue("controller", ["localhost"], ["127.0.0.1"])
        self.token = secrets.token_hex(32)
        self.token_file = self.pki.write("token", ("# the tests\n%s\n" % self.token).encode())
        self.port = free_port()
        self.agent_port = free_port()
        self.server = "https://127.0.0.1:%d" % self.port
        self.topology = CHECKOUT / "fabricctl" / "lab" / "topology.yaml"
        self.config = self.folder / "client.yaml"
        self.config.write_text(
            yaml.safe_dump({"server": self.server, "ca": "pki/ca.pem", "token": "pki/token"}), encoding="utf-8"
        )
        self.log = self.folder / "controller.log"
        self.process = None

    def start(self):
        """Starts it, and waits until it serves."""
        command = [
            binary("fabric-controller"),
            *("--topology", self.topology, "--data-dir", self.folder / "data"),
            *("--listen", "127.0.0.1:%d" % self.port, "--agent-listen", "127.0.0.1:%d" % self.agent_port),
            *("--tls-ca", self.pki.ca, "--tls-cert", self.cert, "--tls-key", self.key),
            *("--token-file", self.token_file),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_healthy(self.server, self.pki.ca, self.process, self.log)

    def stop(self):
        """Ends it."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=START)
            self.process = None

    def get(self, path):
        """Reads the API, with nothing of the collection."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": "Bearer " + self.token})
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        with urllib.request.urlopen(request, timeout=30, context=context) as response:
            return json.load(response)

    def revision(self):
        """The revision of the intent."""
        return self.get("/v1/fabric")["revision"]


def wait_healthy(server, ca, process, log):
    """Waits until a controller serves; fails with its last words if it ends."""
    context = ssl.create_default_context(cafile=str(ca))
    end = time.monotonic() + START
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(server + "/v1/health", timeout=5, context=context):
                return
        if process.poll() is not None or time.monotonic() > end:
            words = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError("the controller does not serve: %s" % words)
        time.sleep(0.1)


class Run:
    """What ansible-playbook did."""

    def __init__(self, code, output, lines):
        self.code = code
        self.output = output
        self.lines = lines

    def of(self, task):
        """The result of the task of that name."""
        found = [line for line in self.lines if line["task"] == task]
        if not found:
            raise KeyError("no task `%s` in %s" % (task, self.output))
        return dict(found[-1]["result"], failed=found[-1]["kind"] == "failed")

    def changed(self):
        """Names of the tasks that count as changed."""
        return [line["task"] for line in self.lines if line["result"].get("changed")]

    def failed(self):
        """Results of the tasks that failed."""
        return [line["result"] for line in self.lines if line["kind"] in ("failed", "unreachable")]


def environment(folder, **more):
    """The environment of Ansible's commands: nothing of the user's own."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "VFABRIC_"))}
    return dict(
        keep,
        PATH="%s:%s" % (SCRIPTS, keep.get("PATH", "/usr/bin:/bin")),
        ANSIBLE_HOME=str(Path(folder) / "ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_CALLBACK_PLUGINS=str(HERE / "callback_plugins"),
        ANSIBLE_CALLBACKS_ENABLED="record",
        ANSIBLE_NOCOLOR="1",
        # Modules are sent to their interpreter's standard input: half the processes.
        ANSIBLE_PIPELINING="1",
        ANSIBLE_PYTHON_INTERPRETER=sys.executable,
        ANSIBLE_CONFIG=str(COLLECTIONS / "ansible.cfg"),
        **more,
    )


def playbook(folder, plays, *flags, before=(), env=None):
    """Runs ansible-playbook.

    :arg plays: a playbook, as a path or as data.
    :arg before: what to run it with, such as a command that enters another root.
    """
    folder = Path(folder)
    record = folder / "record.jsonl"
    record.unlink(missing_ok=True)
    if not isinstance(plays, (str, Path)):
        path = folder / "playbook.yml"
        path.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
        plays = path
    command = [*before, str(SCRIPTS / "ansible-playbook"), str(plays), *flags]
    done = subprocess.run(
        command,
        env=environment(folder, RECORD_FILE=str(record), **(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
        text=True,
    )
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return Run(done.returncode, done.stdout, [json.loads(line) for line in lines])


def play(tasks, **more):
    """A play on this machine with these tasks."""
    return [dict({"hosts": "localhost", "gather_facts": False, "tasks": tasks}, **more)]
