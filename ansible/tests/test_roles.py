# SPDX-License-Identifier: Apache-2.0
"""The roles on a copy of this machine that vanishes; then the daemons as the units start them."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import sandbox
import support


class Daemons(unittest.TestCase):
    """Roles controller, agent and switch."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        # Its certificates, token and ports; the roles start the program.
        self.controller = support.Controller(self.folder)
        for subject in ("host/host1", "switch/leaf1"):
            self.controller.pki.issue(subject)
        self.copy = sandbox.Copy(self.folder)
        self.addCleanup(self.copy.close)
        self.variables = {
            "bin": str(support.BIN),
            "pki": str(self.controller.pki.folder),
            "port": self.controller.port,
            "agent_port": self.controller.agent_port,
            "switch_port": support.free_port(),
            "topology": str(self.controller.topology),
        }

    def playbook(self, *flags, **more):
        """Runs the roles inside."""
        extra = json.dumps(dict(self.variables, **more))
        path = support.HERE / "playbooks" / "daemons.yml"
        return support.playbook(self.folder, path, "--extra-vars", extra, *flags, before=self.copy.before)

    def unit(self, name):
        """The settings of a unit."""
        text = self.copy.read("/etc/systemd/system/%s.service" % name)
        lines = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
        return dict(lines)

    @contextlib.contextmanager
    def started(self, name, *before):
        """A daemon as its unit starts it: with its user, its directories, its options."""
        unit = self.unit(name)
        user = unit.get("User", "root")
        state = "/var/lib/" + unit["StateDirectory"]
        self.copy.run("install", "-d", "-o", user, "-m", unit["StateDirectoryMode"], state)
        if "RuntimeDirectory" in unit:
            self.copy.run("install", "-d", "-m", unit["RuntimeDirectoryMode"], "/run/" + unit["RuntimeDirectory"])
        environment = self.copy.read(unit["EnvironmentFile"])
        options = next(line for line in environment.splitlines() if line.startswith("OPTIONS="))
        options = shlex.split(options)[0].partition("=")[2].split()
        program = unit["ExecStart"].split()[0]
        self.assertEqual(unit["ExecStart"], program + " $OPTIONS")
        bounds = [c.lower().removeprefix("cap_") for c in unit.get("CapabilityBoundingSet", "").split()]
        caps = ",".join(["-all"] + ["+" + c for c in bounds])
        rights = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"]
        rights += ["--bounding-set", caps, "--inh-caps", caps]
        if unit.get("AmbientCapabilities"):
            rights += ["--ambient-caps", caps]
        log = self.folder / (name + ".log")
        with log.open("wb") as file:
            process = subprocess.Popen([*self.copy.before, *before, *rights, program, *options], stdout=file, stderr=file)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait(timeout=60)

    def eventually(self, process, log, ask):
        """Waits until a question has an answer."""
        end = time.monotonic() + support.START
        while True:
            with contextlib.suppress(OSError):
                if ask():
                    return
            words = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            self.assertIsNone(process.poll(), words)
            self.assertLess(time.monotonic(), end, words)
            time.sleep(0.2)

    def test_a_package_file_gets_the_same_settings(self):
        packages = self.folder / "packages"
        build = [support.binary("xtask"), "package", "--bin-dir", support.BIN, "--out", packages, "--fast"]
        done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        file = next(packages.glob("fabric-controller_*.deb"))
        # Debian's Python has what works with packages.
        settings = {
            "daemons": ["controller"],
            "controller_binary": "",
            "controller_package_file": str(file),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        first = self.playbook(**settings)
        self.assertEqual(first.code, 0, first.output)
        self.assertEqual(self.copy.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "fabric-controller").stdout, "installed")
        settings_file = self.copy.read("/etc/fabric-controller/fabric-controller.conf")
        self.assertIn("--listen=127.0.0.1:%d" % self.controller.port, settings_file)
        owner = self.copy.run("stat", "-c", "%U %a", "/etc/fabric-controller/tls/key.pem").stdout
        self.assertEqual(owner, "fabric-controller 600\n")
        second = self.playbook(**settings)
        self.assertEqual(second.code, 0, second.output)
        self.assertEqual(second.changed(), [], second.output)

    def test_daemons_are_installed_once_and_start(self):
        one = {"daemons": ["controller"]}
        planned = self.playbook("--check", **one)
        self.assertEqual(planned.code, 0, planned.output)
        self.assertNotEqual(self.copy.run("test", "-e", "/etc/fabric-controller", check=False).returncode, 0)
        first = self.playbook("--diff")
        self.assertEqual(first.code, 0, first.output)
        self.assertNotIn("PRIVATE KEY", first.output)
        self.assertNotIn(self.controller.token, first.output)
        second = self.playbook()
        self.assertEqual(second.code, 0, second.output)
        self.assertEqual(second.changed(), [], second.output)

        units = ["/etc/systemd/system/%s.service" % name for name in ("fabric-controller", "vtep-agent", "p4-switch")]
        verified = self.copy.run("systemd-analyze", "verify", *units, check=False)
        self.assertEqual((verified.returncode, verified.stderr), (0, ""), verified.stdout)
        for name in ("fabric-controller", "vtep-agent", "p4-switch"):
            self.assertEqual(self.copy.run("systemctl", "is-enabled", name).stdout, "enabled\n")
        modes = self.copy.run("stat", "-c", "%U %a", "/etc/fabric-controller/tokens", "/etc/vtep-agent/tls/key.pem", "/etc/p4-switch/tls/key.pem")
        self.assertEqual(modes.stdout.split("\n")[:3], ["fabric-controller 600", "root 600", "p4-switch 600"])

        with self.started("fabric-controller") as (process, log):
            support.wait_healthy(self.controller.server, self.controller.pki.ca, process, log)
            self.assertEqual(self.controller.get("/v1/fabric")["switches"]["total"], 4)
        with self.started("p4-switch") as (process, log):
            address = ("127.0.0.1", self.variables["switch_port"])

            def answers():
                with socket.create_connection(address, 5):
                    return True

            self.eventually(process, log, answers)
        # The agent gets a network of its own, so that nothing is left here.
        link = "ip link set lo up && ip link add up0 type veth peer name up1 && ip addr add 10.255.1.1/32 dev up0 && ip link set up0 up"
        own = ["unshare", "--net", "--mount", "sh", "-c", link + ' && exec "$@"', "own"]
        with self.started("vtep-agent", *own) as (process, log):
            status = ["/usr/local/bin/vtep-agent", "status", "--state-dir", "/var/lib/vtep-agent"]
            self.eventually(process, log, lambda: self.copy.run(*status, check=False).returncode == 0)

        # New options write the options and nothing else, and restart the daemon.
        changed = self.playbook(controller_log_level="debug", **one)
        self.assertEqual(changed.code, 0, changed.output)
        self.assertEqual([t.split(" : ")[-1] for t in changed.changed() if "estart" not in t], ["Write the options"], changed.output)
        self.assertIn("RUNNING HANDLER [vfabric.fabric.controller : Restart the controller]", changed.output)
        self.assertNotIn("Restart the switch", changed.output)
        bad = self.playbook(controller_log_level="a b", **one)
        self.assertIn("fabric-controller: neither spaces", bad.failed()[0]["msg"])
        bad = self.playbook(controller_binary="", controller_package="", **one)
        self.assertIn("name a binary, a package file or a package", bad.failed()[0]["msg"])
        bad = self.playbook(switch_interfaces=[{"port": "x"}], daemons=["switch"])
        self.assertIn("argument_errors", bad.failed()[0])


if __name__ == "__main__":
    unittest.main()
