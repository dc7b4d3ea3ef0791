"""A whole fabric for Mininet: the controller, P4 switches, hosts with the VXLAN agent, and their workloads.

    from vfabric_fabric import FabricNet

    net = FabricNet("topology.yaml", "intent.yaml")
    net.start()
    net.ping(net.workloads("blue"))

The two files are those of `fabric-controller --topology` and `fabricctl apply`, unchanged; management addresses of switches are
replaced by those of this network. Nodes:

    c0              the controller, in a network namespace of its own
    a switch        FabricSwitch, by its name in the topology; `sw_path` chooses simple_switch_grpc
    a host          FabricHost, by its name: it runs `vtep-agent`
    VDC-ATTACHMENT  Workload: an empty namespace that the agent puts an interface into, or a machine on an access port

`net.configLinkStatus` cuts and mends links as in any Mininet; `net.wait_for_links` returns when the controller has seen it.
Daemons speak mutual TLS with certificates that `openssl` makes for this run; P4Runtime is plain text, inside the management network.
The programs are looked for as in `vfabric_mininet`. YAML needs Debian's package python3-yaml; JSON works without.
"""

import ipaddress
import json
import os
import pathlib
import subprocess
import tempfile
import time

from mininet.link import Intf
from mininet.net import Mininet
from mininet.node import Host, Node, Switch

from vfabric_mininet import P4Error, P4RuntimeSwitch, program, whole_checksums

# The management network: the controller, then switches, then hosts.
MANAGEMENT = ipaddress.ip_network("172.31.254.0/24")
FIRST_SWITCH, FIRST_HOST = 11, 128
P4RUNTIME_PORT, REST_PORT, AGENT_PORT = 9559, 8443, 9443
CPU_PORT = 510
# Names in /run/netns of this run's workloads and agents begin with it.
PREFIX = "vfmn"
# A fabric needs a few seconds; on a busy machine, some more.
PATIENCE = 60
LOOK_EVERY = 0.05
# Addresses are usable at once, and nothing configures itself.
QUIET = "net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0"
NO_IPV6 = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"


class FabricError(P4Error):
    """The fabric cannot be built, or does not become ready."""


def read(path):
    """A file of the controller or of `fabricctl`."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        try:
            import yaml
        except ImportError:
            raise FabricError(f"{path}: YAML needs Debian's package python3-yaml") from None
        return yaml.safe_load(text)


def management(number):
    return f"{MANAGEMENT[number]}"


class Daemon:
    """A process in the network namespace of a node, with everything else as the caller has it: names of namespaces in
    /run/netns are those of the machine, which Mininet's own `popen` would not see."""

    def __init__(self, node, command, log):
        self.log = log
        inside = ["nsenter", f"--net=/proc/{node.pid}/ns/net", "--", *map(str, command)]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def expect_alive(self, name):
        if self.process.poll() is not None:
            said = pathlib.Path(self.log).read_text(errors="replace").strip()
            raise FabricError(f"{name} ended with {self.process.returncode}:\n{said}")

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Authority:
    """Certificates of one run, as docs/install.md makes them."""

    def __init__(self, folder, fabric):
        self.folder, self.fabric = pathlib.Path(folder), fabric
        self.ca = self.folder / "ca.pem"
        self.openssl("req", "-x509", *self.new_key("ca"), "-days", "30", "-out", self.ca, "-subj", "/CN=authority of this run")

    def new_key(self, name):
        key = self.folder / f"{name}.key"
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]

    def openssl(self, *words):
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False, cwd=self.folder)
        if done.returncode:
            raise FabricError(f"openssl {words[0]}: {done.stderr.strip()}")

    def flags(self, name, subject, names=()):
        """Makes a certificate for a subject of the fabric; returns a daemon's flags for it."""
        request, extension, certificate = (self.folder / f"{name}.{end}" for end in ("csr", "ext", "pem"))
        self.openssl("req", "-new", *self.new_key(name), "-out", request, "-subj", f"/CN={name}")
        alternatives = ",".join([f"URI:spiffe://{self.fabric}/{subject}", *names])
        extension.write_text(f"subjectAltName={alternatives}\n", encoding="ascii")
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                     "-days", "30", "-extfile", extension, "-out", certificate)
        return ["--tls-ca", self.ca, "--tls-cert", certificate, "--tls-key", self.folder / f"{name}.key"]


class ManagementSwitch(Switch):
    """A bridge of the kernel, in a namespace of its own."""

    def __init__(self, name, **params):
        super().__init__(name, **{**params, "dpid": "ff", "inNamespace": True})

    def start(self, controllers):
        self.cmd("ip link add br0 type bridge && ip link set br0 up")
        for intf in self.intfList():
            if intf.name != "lo":
                self.cmd(f"ip link set {intf.name} master br0 up")

    def connected(self):
        return True


class FabricController(Node):
    """The controller. `start` returns when its API serves."""

    def __init__(self, name, folder=None, **params):
        super().__init__(name, inNamespace=True, **params)
        self.folder, self.daemon, self.flags = pathlib.Path(folder), None, []

    def start(self):
        self.cmd("ip link set lo up")
        listen = ["--listen", f"127.0.0.1:{REST_PORT}", "--agent-listen", f"{management(1)}:{AGENT_PORT}"]
        files = ["--topology", self.folder / "topology.json", "--data-dir", self.folder / "data", "--token-file", self.folder / "token"]
        command = [program("fabric-controller"), *files, *listen, "--insecure-p4runtime", *self.flags]
        self.daemon = Daemon(self, command, self.folder / "controller.log")
        config = {"server": f"https://localhost:{REST_PORT}", "ca": str(self.folder / "ca.pem"), "token": str(self.folder / "token")}
        (self.folder / "client.json").write_text(json.dumps(config), encoding="utf-8")
        until("the controller serves", self, lambda: self.fabricctl("whoami").returncode == 0)

    def fabricctl(self, *words):
        """Runs `fabricctl` where the controller is."""
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", program("fabricctl"), *words]
        command += ["--config", str(self.folder / "client.json")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def ask(self, *words):
        """The output of `fabricctl` as an object."""
        done = self.fabricctl(*words, "-o", "json")
        if done.returncode:
            raise FabricError(f"fabricctl {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def stop(self, deleteIntfs=True):
        """Ends the controller; the node stays for its link."""
        if self.daemon:
            self.daemon.end()


class FabricSwitch(P4RuntimeSwitch):
    """A switch of the fabric: it starts empty, and serves P4Runtime in the management network."""

    def __init__(self, name, **params):
        params["inNamespace"] = True
        super().__init__(name, grpc_port=P4RUNTIME_PORT, thrift_port=0, cpu_port=CPU_PORT, **params)

    def start(self, controllers):
        self.cmd(f"sysctl -qw {NO_IPV6}")
        for port, intf in self.intfs.items():
            # An MTU counts no Ethernet header and no VLAN tag.
            if port:
                self.cmd(f"ip link set {intf.name} mtu {self.params['mtu']}")
        super().start(controllers)


class FabricHost(Host):
    """A host of the fabric, configured as an operator would, with the VXLAN agent."""

    daemon = None

    def start_agent(self, flags, folder):
        host, leaf, mtu = self.params["host"], self.params["leaf"], self.params["mtu"]
        uplink = self.intfs[1].name
        whole_checksums(self)
        self.cmd(f"sysctl -qw {QUIET}")
        self.cmd(f"ip link set {uplink} down && ip link set {uplink} address {host['mac']} mtu {mtu} up")
        for version, length, more in ((4, 32, ""), (6, 128, "nodad")):
            address, gateway = host[f"vtep_ipv{version}"], leaf[f"loopback_ipv{version}"]
            self.cmd(f"ip addr add {address}/{length} dev {uplink} {more}")
            self.cmd(f"ip -{version} route replace default via {gateway} dev {uplink} src {address} onlink")
        state = folder / self.name
        state.mkdir()
        command = [program("vtep-agent"), "--host", self.name, "--uplink", uplink, "--state-dir", state, "--overlay", self.overlay()]
        command += ["--controller", f"https://{management(1)}:{AGENT_PORT}"]
        command += ["--vtep-ipv4", host["vtep_ipv4"], "--vtep-ipv6", host["vtep_ipv6"], *flags]
        self.daemon = Daemon(self, command, folder / f"{self.name}.log")

    def overlay(self):
        return f"{PREFIX}-{self.name}"

    def terminate(self):
        if self.daemon:
            self.daemon.end()
            purge = [program("vtep-agent"), "purge", "--host", self.name, "--overlay", self.overlay()]
            subprocess.run(["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *purge], check=False)
            self.daemon = None
        super().terminate()


class Workload(Host):
    """A machine of a tenant. Its interface comes from the agent, or is the link to an access port."""

    def publish(self):
        """Gives the namespace a name, by which the agent finds it."""
        self.cmd(f"sysctl -qw {QUIET}")
        self.cmd("ip link set lo up")
        subprocess.run(["ip", "netns", "attach", self.netns(), str(self.pid)], check=True)

    def netns(self):
        return f"{PREFIX}-{self.name}"

    def defaultIntf(self):
        """None before there is an interface, without the warning that Mininet would print."""
        return super().defaultIntf() if self.intfs else None

    def adopt(self, interface):
        """Adds the interface that the agent has made to Mininet."""
        self.intfs.clear()
        Intf(interface, node=self, moveIntfFn=lambda *_: None).updateIP()

    def addresses(self, version):
        """Its addresses of a version of IP."""
        shown = json.loads(self.cmd(f"ip -json -{version} address show scope global"))
        return [address["local"] for link in shown for address in link.get("addr_info", []) if address]

    def terminate(self):
        if pathlib.Path("/run/netns", self.netns()).exists():
            subprocess.run(["ip", "netns", "delete", self.netns()], check=False)
        super().terminate()


def until(what, controller, is_so):
    """Waits until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        controller.daemon.expect_alive(controller.name)
        if time.monotonic() > end:
            raise FabricError(f"{what}: not within {PATIENCE} s")
        time.sleep(LOOK_EVERY)


class FabricNet(Mininet):
    """A fabric with an intent. `start` returns when every device holds all of its entities."""

    def __init__(self, topology, intent, sw_path=None, **params):
        super().__init__(controller=None, **params)
        self.files = tempfile.TemporaryDirectory(prefix="vfabric-mininet-")
        self.folder = pathlib.Path(self.files.name)
        os.chmod(self.folder, 0o700)
        self.fabric, self.intent = read(topology), read(intent)
        self.authority = Authority(self.folder, self.fabric["fabric"]["name"])
        self.machines = {}
        self.lay_out(sw_path)

    def lay_out(self, sw_path):
        """Nodes and links."""
        mtu = self.fabric["fabric"]["mtu"]
        self.addSwitch("mgmt", cls=ManagementSwitch)
        c0 = self.addController("c0", controller=FabricController, folder=self.folder)
        self.manage(c0, 1)
        c0.flags = self.authority.flags("controller", "controller", ["DNS:localhost", f"IP:{management(1)}"])
        for number, switch in enumerate(self.fabric["switches"], FIRST_SWITCH):
            node = self.addSwitch(switch["name"], cls=FabricSwitch, sw_path=sw_path, dpid=f"{switch['device_id']:x}",
                                  device_id=switch["device_id"], grpc_ip=management(number), mtu=mtu,
                                  log_file=str(self.folder / f"{switch['name']}.log"))
            self.manage(node, number)
            switch["p4runtime"] = f"{management(number)}:{P4RUNTIME_PORT}"
        for link in self.fabric["links"]:
            (near, near_port), (far, far_port) = ((link[end]["switch"], link[end]["port"]) for end in "ab")
            self.addLink(near, far, near_port, far_port)
        leaves = {switch["name"]: switch for switch in self.fabric["switches"]}
        for number, host in enumerate(self.fabric.get("hosts", []), FIRST_HOST):
            leaf = host["uplink"]["switch"]
            node = self.addHost(host["name"], cls=FabricHost, ip=None, mac=None, host=host, leaf=leaves[leaf], mtu=mtu)
            self.addLink(host["name"], leaf, 1, host["uplink"]["port"])
            self.manage(node, number)
        for vdc in self.intent["vdcs"]:
            for attachment in vdc.get("attachments", []):
                self.place(vdc, attachment)

    def manage(self, node, number):
        """Links a node's port 0 with the management network."""
        link = self.addLink(node, "mgmt", port1=0)
        node.cmd(f"ip addr add {management(number)}/{MANAGEMENT.prefixlen} dev {link.intf1.name}")
        node.cmd(f"ip link set {link.intf1.name} up")

    def place(self, vdc, attachment):
        """The machine of an attachment."""
        name = f"{vdc['name']}-{attachment['name']}"
        machine = self.addHost(name, cls=Workload, ip=None, mac=None)
        self.machines.setdefault(vdc["name"], []).append(machine)
        place = attachment["place"]
        if "host" in place:
            machine.publish()
            place["host"]["netns"] = machine.netns()
            return
        port, network = place["port"], next(n for n in vdc["networks"] if n["name"] == attachment["network"])
        if port.get("vlan"):
            raise FabricError(f"{name}: place.port.vlan: machines here send untagged frames")
        machine.cmd(f"sysctl -qw {QUIET}")
        intf = self.addLink(name, port["switch"], 0, port["port"], intfName1="eth0").intf1
        machine.cmd(f"ip link set eth0 down && ip link set eth0 address {attachment['mac']} mtu {network.get('mtu', 1500)} up")
        whole_checksums(machine)
        for address in map(ipaddress.ip_address, attachment["ips"]):
            subnet = next(s for s in network["subnets"] if address in ipaddress.ip_network(s["cidr"]))
            cidr = ipaddress.ip_network(subnet["cidr"])
            machine.cmd(f"ip addr add {address}/{cidr.prefixlen} dev eth0")
            machine.cmd(f"ip route add default via {subnet.get('gateway', cidr[1])} dev eth0")
        intf.updateIP()

    def start(self):
        # JSON is YAML.
        for name, what in (("topology", self.fabric), ("intent", self.intent)):
            (self.folder / f"{name}.json").write_text(json.dumps(what), encoding="utf-8")
        super().start()
        for host in self.hosts:
            if isinstance(host, FabricHost):
                host.start_agent(self.authority.flags(host.name, f"host/{host.name}"), self.folder)
        done = self.controller_node().fabricctl("apply", "-f", str(self.folder / "intent.json"), "--wait", str(PATIENCE))
        if done.returncode:
            raise FabricError(f"the intent is not applied: {done.stderr.strip() or done.stdout.strip()}")
        for vdc in self.intent["vdcs"]:
            for attachment, machine in zip(vdc.get("attachments", []), self.machines.get(vdc["name"], [])):
                if "host" in attachment["place"]:
                    machine.adopt(attachment["place"]["host"]["interface"])
        self.wait_for_links(len(self.fabric["links"]))

    def controller_node(self):
        return self["c0"]

    def workloads(self, vdc):
        """The machines of a vDC."""
        return self.machines[vdc]

    def ping6(self, hosts, timeout="2"):
        """As `ping`, by IPv6: the share of pings that were lost, in percent."""
        pairs = [(a, b) for a in hosts for b in hosts if a != b]
        lost = sum(self._parsePing(a.cmd(f"ping -6 -c1 -W {timeout} {b.addresses(6)[0]}"))[1] == 0 for a, b in pairs)
        return 100.0 * lost / len(pairs)

    def wait_for_links(self, up):
        """Waits until the controller routes over this number of links, and all switches hold the resulting entries."""
        c0 = self.controller_node()
        until(f"{up} links up", c0, lambda: sum(link["up"] for link in c0.ask("get", "links")) == up)
        settled = lambda: all(s["status"]["state"] == "in_sync" and not s["status"]["pending"] for s in c0.ask("get", "switches"))
        until("the switches in sync", c0, settled)

    def stop(self):
        # Agents end before the links that they use.
        for host in self.hosts:
            if isinstance(host, FabricHost) and host.daemon:
                host.daemon.end()
        super().stop()
        self.controller_node().terminate()
        self.files.cleanup()
