"""P4 switches and hosts for Mininet.

From the command line:

    mn --custom vfabric_mininet.py --topo single,3 --switch p4,program=router.p4

From a script:

    from mininet.net import Mininet
    from vfabric_mininet import ExerciseTopo, P4Host, P4RuntimeSwitch

    net = Mininet(topo=ExerciseTopo("exercises/triangle"), switch=P4RuntimeSwitch, host=P4Host, controller=None)

The programs `p4-switch`, `p4-compiler` and `exercise` are looked for in $VFABRIC_BIN, in target/release and target/debug
of this checkout (not from `mn`, which does not know where this file is), and in $PATH. Works with Mininet 2.3 as Debian has it. Never call `mn -c`: it kills by name.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from mininet.node import Host, Switch
from mininet.topo import Topo

FIRST_GRPC_PORT = 50051
FIRST_THRIFT_PORT = 9090
START_SECONDS = 20
# Number of folders in which a topology's files are searched: its own, and those above it. `mn --custom` takes over
# every name of this file, so none may be one of Mininet's own, such as LEVELS.
FOLDERS_UP = 3


class P4Error(Exception):
    """A switch cannot be started, or refuses its program or entries."""


def program(name):
    """Path of one of this project's programs."""
    folders = []
    if "VFABRIC_BIN" in os.environ:
        folders.append(pathlib.Path(os.environ["VFABRIC_BIN"]))
    # `mn --custom` runs this text without a file.
    if "__file__" in globals():
        checkout = pathlib.Path(__file__).resolve().parents[2]
        folders += [checkout / "target" / profile for profile in ("release", "debug")]
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    found = shutil.which(name)
    if not found:
        raise P4Error(f"{name} is not in {', '.join(map(str, folders))} or $PATH; name its folder in $VFABRIC_BIN")
    return found


def near(base, named):
    """A file that a topology names: relative to its folder or to one above it."""
    for folder in [base, *base.parents][:FOLDERS_UP]:
        if (folder / named).is_file():
            return folder / named
    raise P4Error(f"no {named} in {base} or above it")


def whole_checksums(node):
    """Makes packets leave with complete checksums, as on a cable, because nothing after a software switch completes them."""
    for intf in node.intfList():
        if intf.name != "lo":
            node.cmd(f"ethtool -K {intf.name} tx off")


class P4Host(Host):
    """A host without IPv6, whose packets have complete checksums."""

    def config(self, **params):
        result = super().config(**params)
        self.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        whole_checksums(self)
        return result


class P4RuntimeSwitch(Switch):
    """A P4 switch with a P4Runtime server.

    program       P4 source, or BMv2 JSON (then `p4info` is needed for `runtime_json`)
    p4info        P4Info of a JSON program, in text format
    runtime_json  what the switch is to hold, in the form of p4lang's tutorials
    cli_input     commands for simple_switch_CLI
    sw_path       the switch [p4-switch]; simple_switch_grpc works too
    device_id     P4Runtime device id [0, 1, 2 ... in the order of creation]
    grpc_ip       address of P4Runtime [127.0.0.1]
    grpc_port     TCP port of P4Runtime [50051 + device_id]
    thrift_port   TCP port for simple_switch_CLI, 0 for none [9090 + device_id]
    cpu_port      port of packets from and to a controller [none]
    pcap_dump     folder for captures of each port [none]
    log_file      the switch's log [NAME.log in a temporary folder]

    With `inNamespace=True` the switch has a network namespace of its own, and its servers are on the loopback address there.
    """

    created = 0

    # Mininet asks for parameters by these names.
    def __init__(self, name, program=None, p4info=None, runtime_json=None, cli_input=None, sw_path=None,
                 device_id=None, grpc_ip="127.0.0.1", grpc_port=None, thrift_port=None, cpu_port=None, pcap_dump=None,
                 log_file=None, **kwargs):
        super().__init__(name, **kwargs)
        self.device_id = P4RuntimeSwitch.created if device_id is None else int(device_id)
        P4RuntimeSwitch.created += 1
        self.grpc_ip, self.grpc_port = grpc_ip, int(grpc_port or FIRST_GRPC_PORT + self.device_id)
        self.thrift_port = int(FIRST_THRIFT_PORT + self.device_id if thrift_port is None else thrift_port)
        self.program, self.p4info, self.runtime_json = program, p4info, runtime_json
        self.cli_input, self.sw_path, self.cpu_port, self.pcap_dump = cli_input, sw_path, cpu_port, pcap_dump
        self.files = tempfile.TemporaryDirectory(prefix=f"vfabric-{name}-")
        self.log_file = log_file or os.path.join(self.files.name, f"{name}.log")
        self.process = None

    def compiled(self):
        """BMv2 JSON and P4Info of the program."""
        if not self.program or not str(self.program).endswith(".p4"):
            return self.program, self.p4info
        stem = pathlib.Path(self.program).stem
        output = os.path.join(self.files.name, f"{stem}.json")
        info = os.path.join(self.files.name, f"{stem}.p4info.txtpb")
        compiler = [program("p4-compiler"), str(self.program), "-o", self.files.name, "--p4info"]
        done = subprocess.run(compiler, capture_output=True, text=True, check=False)
        if done.returncode:
            raise P4Error(f"{self.name}: {done.stderr.strip()}")
        return output, info

    def start(self, controllers):
        """Starts the switch and gives it its program and entries; returns when it forwards."""
        if self.inNamespace:
            self.cmd("ip link set lo up")
        whole_checksums(self)
        output, info = self.compiled()
        command = [self.sw_path or program("p4-switch"), "--device-id", str(self.device_id)]
        if self.thrift_port:
            command += ["--thrift-port", str(self.thrift_port)]
        # Port 0 is for control, as Mininet has it.
        for port, intf in sorted(self.intfs.items()):
            if port:
                command += ["-i", f"{port}@{intf.name}"]
        if self.pcap_dump:
            command += ["--pcap", str(self.pcap_dump)]
        # A runtime file also names the program.
        command += ["--no-p4"] if self.runtime_json or not output else [str(output)]
        command += ["--", "--grpc-server-addr", f"{self.grpc_ip}:{self.grpc_port}"]
        if self.cpu_port:
            command += ["--cpu-port", str(self.cpu_port)]
        with open(self.log_file, "wb") as log:
            self.process = self.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait()
        if self.runtime_json:
            self.load(output, info)
        if self.cli_input:
            self.command_line()

    def load(self, output, info):
        """Writes a runtime file to the switch."""
        command = [program("exercise"), "load", "--address", f"{self.grpc_ip}:{self.grpc_port}"]
        command += ["--device-id", str(self.device_id), str(self.runtime_json)]
        if output:
            command += ["--json", str(output)]
        if info:
            command += ["--p4info", str(info)]
        said, errors, status = self.pexec(command)
        if status:
            raise P4Error(f"{self.name}: {(errors or said).strip()}")

    def command_line(self):
        """Passes commands to the switch under the name that it knows."""
        link = os.path.join(self.files.name, "simple_switch_CLI")
        os.symlink(program("p4-switch"), link)
        with open(self.cli_input, "rb") as commands:
            cli = self.popen([link, "--thrift-port", str(self.thrift_port)], stdin=commands,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said = cli.communicate()[0].decode(errors="replace")
        wrong = [line for line in said.splitlines() if "Error" in line or "Invalid" in line]
        if wrong or cli.returncode:
            raise P4Error(f"{self.name}: {self.cli_input}: {wrong[0] if wrong else said.strip()}")

    def wait(self):
        """Waits until the switch serves on all of its ports."""
        deadline = time.monotonic() + START_SECONDS
        # TCP sockets of the switch's namespace: local address, then the state; 0A is LISTEN (proc(5)).
        table = pathlib.Path(f"/proc/{self.pid}/net/tcp")
        wanted = {f"{port:04X}" for port in (self.grpc_port, self.thrift_port) if port}
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            sockets = [line.split() for line in table.read_text().splitlines()[1:]]
            listening = {words[1].rpartition(":")[2] for words in sockets if words[3] == "0A"}
            if wanted <= listening:
                return
            time.sleep(0.02)
        log = pathlib.Path(self.log_file).read_text(errors="replace").strip()
        raise P4Error(f"{self.name} does not serve:\n{log}")

    def stop(self, deleteIntfs=True):
        """Stops the switch."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        super().stop(deleteIntfs)

    def terminate(self):
        super().terminate()
        self.files.cleanup()

    def connected(self):
        """Whether the switch runs; Mininet waits for it."""
        return self.process is not None and self.process.poll() is None


class ExerciseTopo(Topo):
    """The topology of an exercise: a folder with topology.json, or such a file; the form is that of p4lang's tutorials.

    programs: P4 sources. The first is for switches that name none, each replaces one of the same file name.
    """

    def build(self, exercise=".", programs=(), **params):
        path = pathlib.Path(exercise).resolve()
        if path.is_dir():
            path /= "topology.json"
        base = path.parent
        topology = json.loads(path.read_text())
        programs = [pathlib.Path(p).resolve() for p in programs] or sorted(base.glob("*.p4"))[:1]
        for name, switch in topology["switches"].items():
            known = {"runtime_json", "cli_input", "program", "cpu_port"}
            if unknown := set(switch) - known:
                raise P4Error(f"{path}: switches.{name}: {sorted(unknown)} is not understood here")
            options = dict(params)
            if switch.get("cpu_port"):
                options["cpu_port"] = int(switch["cpu_port"])
            for file in ("runtime_json", "cli_input"):
                if switch.get(file):
                    options[file] = str(near(base, switch[file]))
            options["program"] = str(self.source(base, programs, switch.get("program")))
            self.addSwitch(name, **options)
        for name, host in topology["hosts"].items():
            self.addHost(name, ip=host.get("ip"), mac=host.get("mac"), commands=host.get("commands", []))
        for first, second, *_ in topology["links"]:
            (near_end, near_port), (far_end, far_port) = self.end(first), self.end(second)
            self.addLink(near_end, far_end, port1=near_port, port2=far_port)

    @staticmethod
    def source(base, programs, named):
        if named:
            stem = pathlib.Path(named).stem
            for given in programs:
                if given.stem == stem:
                    return given
            return near(base, f"{stem}.p4")
        if not programs:
            raise P4Error(f"no P4 program in {base}")
        return programs[0]

    @staticmethod
    def end(text):
        switch, separator, port = text.rpartition("-p")
        return (switch, int(port)) if separator and port.isdigit() else (text, None)

    def finish(self, net):
        """Runs the hosts' commands, in which the interface is called eth0. Call it when the network is up."""
        for host in net.hosts:
            for command in self.nodeInfo(host.name).get("commands", []):
                host.cmd(command.replace("eth0", host.defaultIntf().name))


# For `mn --custom`.
switches = {"p4": P4RuntimeSwitch}
hosts = {"p4host": P4Host}
topos = {"exercise": ExerciseTopo}
