# SPDX-License-Identifier: Apache-2.0
"""The modules against a controller whose devices are not there."""

from __future__ import annotations

import copy
import json
import tempfile
import threading
import unittest

import support
import yaml

CONTROLLER = "group/vfabric.fabric.controller"
LAB = support.CHECKOUT / "fabricctl" / "lab"


class Case(unittest.TestCase):
    """A controller for each class of tests."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.controller = support.Controller(cls.temporary.name)
        cls.addClassCleanup(cls.controller.stop)
        cls.controller.start()

    def playbook(self, name, *flags):
        """Runs a playbook of the folder."""
        config = json.dumps({"client_config": str(self.controller.config)})
        path = support.HERE / "playbooks" / name
        return support.playbook(self.temporary.name, path, "--extra-vars", config, *flags)

    def tasks(self, *tasks, flags=(), connection=None, failing=False):
        """Runs tasks, each a module with its options and keywords, named by its number.

        :arg failing: whether the others run after one has failed.
        """
        listed = []
        for number, (module, options, *keywords) in enumerate(tasks):
            task = {"name": str(number), "vfabric.fabric." + module: options, "ignore_errors": failing}
            listed.append(dict(task, **(keywords[0] if keywords else {})))
        if connection is None:
            connection = {"config_file": str(self.controller.config)}
        plays = support.play(listed, module_defaults={CONTROLLER: connection})
        return support.playbook(self.temporary.name, plays, *flags)

    def assertWell(self, run):
        """Every task succeeded."""
        self.assertEqual(run.code, 0, run.output)

    def assertFailed(self, failed, *words, code=None):
        """A task failed, and its message has these words."""
        self.assertTrue(failed["failed"], failed)
        for word in words:
            self.assertIn(word, failed["msg"])
        if code:
            self.assertEqual(failed["code"], code, failed)


class Tenants(Case):
    """Objects of tenants."""

    def test_a_tenant_is_built_once_and_removed_once(self):
        made = ["VDC", "Network", "Router", "Workload", "Machine"]
        before = self.controller.revision()
        planned = self.playbook("tenant.yml", "--check", "--diff")
        # The last task asks for objects of the vDC, which check mode does not make.
        self.assertEqual([f["code"] for f in planned.failed()], ["not_found"], planned.output)
        self.assertEqual(planned.changed(), made, planned.output)
        self.assertIn("+description: The green tenant", planned.output)
        self.assertIn("vdc `green` does not exist", planned.output)
        self.assertEqual(self.controller.revision(), before)

        first = self.playbook("tenant.yml", "--diff")
        self.assertWell(first)
        self.assertEqual(first.changed(), made, first.output)
        self.assertIn("device leaf1", first.output)
        self.assertIn("+host_vni vtep_id 5, vni 10000: permit()", first.output)
        machine = first.of("Machine")["object"]
        self.assertEqual((machine["mac"], machine["ips"]), ("02:00:00:00:b1:01", ["10.0.1.20"]))
        self.assertEqual({a["spec"]["name"] for a in first.of("Attachments")["attachments"]}, {"web1", "web2", "metal"})
        reasons = {item.get("reason") for item in self.controller.get("/v1/history")["items"]}
        self.assertIn("the tests", reasons)

        revision = self.controller.revision()
        second = self.playbook("tenant.yml")
        self.assertWell(second)
        self.assertEqual(second.changed(), [])
        planned = self.playbook("no-tenant.yml", "--check", "--diff")
        self.assertWell(planned)
        removed = ["No attachments", "No router", "No networks", "No VDC"]
        self.assertEqual(planned.changed(), removed, planned.output)
        self.assertIn("-arp_reply bd 10000, address 10.0.0.2: reply_arp", planned.output)
        self.assertEqual(self.controller.revision(), revision)
        gone = self.playbook("no-tenant.yml")
        self.assertWell(gone)
        self.assertEqual(gone.changed(), removed, gone.output)
        self.assertEqual([v for v in self.controller.get("/v1/vdcs")["items"] if v["spec"]["name"] == "green"], [])

    def test_options_that_are_not_given_stay_and_changes_are_shown(self):
        network = {"vdc": "partly", "name": "n"}
        attachment = {"vdc": "partly", "name": "a"}
        at_port = dict(attachment, network="n", place={"port": {"switch": "leaf1", "port": 9}})
        on_host = dict(attachment, place={"host": {"host": "host1", "netns": "p", "interface": "eth0"}})
        mac = dict(attachment, mac="02:00:00:00:00:0a")
        reserving = {"cidr": "10.9.0.0/24", "reserved": [{"first": "10.9.0.2", "last": "10.9.0.99"}]}
        assigned = {
            "hosts": ["host2"],
            "ports": [{"switch": "leaf1", "port": 9, "vlans": {"first": 7, "last": 8}}, {"switch": "leaf1", "port": 10}],
            "vnis": [{"first": 20000, "last": 20009}],
            "address_pools": ["10.0.0.0/8", "fd00:1::/48"],
            "limits": {"networks": 2},
        }
        run = self.tasks(
            ("vdc", {"name": "partly", "description": "as it was"}),
            ("network", dict(network, mtu=1400, subnets=[{"cidr": "10.0.0.0/24"}])),
            ("vdc", dict(assigned, name="partly")),
            ("network", dict(network, mtu=1450)),
            ("attachment", at_port),
            ("attachment", mac, {"check_mode": True, "diff": True}),
            ("attachment", mac, {"diff": True}),
            # Another kind of place replaces the whole of the first.
            ("attachment", on_host),
            ("network", dict(network, subnets=[{"cidr": "10.0.0.0/24"}, reserving])),
            ("attachment", dict(attachment, state="absent")),
            ("attachment", dict(attachment, state="absent")),
        )
        self.assertWell(run)
        self.assertEqual(run.changed(), [str(n) for n in range(10)], run.output)
        vdc = run.of("2")["object"]["spec"]
        self.assertEqual(vdc, dict(assigned, name="partly", description="as it was"))
        self.assertEqual(run.of("3")["object"]["spec"]["subnets"], [{"cidr": "10.0.0.0/24"}])
        for task in ("5", "6"):
            shown = {d["after_header"]: (d["before"], d["after"]) for d in run.of(task)["diff"]}
            self.assertEqual(shown["attachment partly/a"], ("", "mac: 02:00:00:00:00:0a\n"), run.output)
            before, after = shown["device leaf1"]
            self.assertIn("bridge_mac", before)
            self.assertIn("dmac 02:00:00:00:00:0a", after)
            self.assertEqual(run.of(task)["plan"]["updated"][0]["name"], "a")
        self.assertEqual(list(run.of("7")["object"]["spec"]["place"]), ["host"])
        self.assertEqual(run.of("8")["object"]["spec"]["mtu"], 1450)

    def test_labels_are_set_and_another_owners_object_is_left_alone(self):
        network = {"vdc": "owned", "name": "n"}
        ours = dict(network, owner="ansible")
        theirs = dict(network, mtu=1400, owner="terraform")
        run = self.tasks(
            ("vdc", {"name": "owned", "limits": {"table_percent": 10}, "labels": {"tier": "gold"}}),
            ("network", dict(ours, labels={"env": "test", "rack": 7})),
            ("network", dict(ours, labels={"env": "test", "rack": "7"})),
            ("network", dict(ours, mtu=1450)),
            ("network", theirs),
            ("network", dict(theirs, force=True)),
            ("network", dict(network, state="absent")),
            ("apply", {"intent": {"vdcs": [{"name": "owned"}]}, "prune": True, "owner": "ansible"}),
            ("network", dict(theirs, labels={})),
            ("apply", {"intent": {"vdcs": [{"name": "owned", "limits": {}}]}, "prune": True, "owner": "terraform", "force": True}),
            failing=True,
        )
        self.assertEqual(run.of("0")["object"]["spec"]["labels"], {"tier": "gold"})
        self.assertEqual(run.of("1")["object"]["spec"]["labels"], {"env": "test", "rack": "7"})
        self.assertEqual(run.of("3")["object"]["spec"]["labels"], {"env": "test", "rack": "7"})
        self.assertEqual(run.of("1")["object"]["owner"], "ansible")
        self.assertFailed(run.of("4"), "`ansible`", code="owned")
        self.assertEqual(run.of("5")["object"]["owner"], "terraform")
        self.assertFailed(run.of("6"), "`terraform`", code="owned")
        self.assertEqual(run.of("7")["outcome"]["deleted"], [])
        self.assertNotIn("labels", run.of("8")["object"]["spec"])
        self.assertEqual([key["name"] for key in run.of("9")["outcome"]["deleted"]], ["n"])
        self.assertEqual(run.changed(), ["0", "1", "3", "5", "7", "8", "9"], run.output)

    def test_a_wrong_field_is_named(self):
        place = {"host": {"host": "host9", "netns": "x", "interface": "eth0"}}
        subnets = [{"cidr": "10.0.0.0/24"}, {"cidr": "10.0.0.1/24"}]
        nowhere = {"vdc": "nowhere", "name": "n"}
        check = {"check_mode": True}
        cases = [
            (("vdc", {"name": "Not_A_Label"}), ["name: `Not_A_Label`", "a name of 1 to 63"], "invalid"),
            (("network", {"vdc": "wrong", "name": "m", "subnets": subnets}), ["subnets[1].cidr: `10.0.0.1/24`"], None),
            (
                ("attachment", {"vdc": "wrong", "name": "a", "network": "n", "place": place}),
                ["place.host.host: `host9`: expected the name of a host", "request "],
                "invalid",
            ),
            (("router", {"vdc": "wrong", "name": "r"}), ["networks"], "invalid"),
            (("network", nowhere), ["vdc `nowhere` does not exist"], "not_found"),
            (("vdc", {"name": "wrong", "description": "x", "reason": "r" * 501}), ["reason"], "malformed"),
            (("vdc", {"name": "wrong", "state": "absent"}), ["still used by network `n`"], "in_use"),
            # In check mode a mistake is a mistake too.
            (("network", {"vdc": "wrong", "name": "m", "mtu": 100}, check), ["mtu: `100`"], "invalid"),
        ]
        made = [("vdc", {"name": "wrong"}), ("network", {"vdc": "wrong", "name": "n"})]
        last = ("network", nowhere, check)
        run = self.tasks(*made, *(case[0] for case in cases), last, failing=True)
        for number, (task, words, code) in enumerate(cases, len(made)):
            with self.subTest(task):
                failed = run.of(str(number))
                self.assertFailed(failed, *words, code=code)
                if code in ("malformed", "invalid"):
                    self.assertTrue(failed["errors"][0]["field"])
        # A vDC that is not there yet is none.
        self.assertTrue(run.of(str(len(made) + len(cases)))["changed"], run.output)
        self.assertIn("vdc `nowhere` does not exist", run.output)

    def test_who_waits_hears_which_devices_have_not_applied_it(self):
        place = {"host": {"host": "host1", "netns": "w", "interface": "eth0"}}
        attachment = {"vdc": "waits", "name": "a", "network": "n", "place": place, "wait": True, "wait_timeout": 1}
        run = self.tasks(
            ("vdc", {"name": "waits"}),
            ("network", {"vdc": "waits", "name": "n", "wait": True}),
            ("attachment", attachment),
            ("attachment", attachment),
            failing=True,
        )
        self.assertFailed(run.of("2"), "it is stored, but", "host1: ", "leaf1: ", code="not_applied")
        self.assertTrue(run.of("2")["changed"])
        # The object is as asked, and yet it has not come about.
        self.assertFailed(run.of("3"), "not all devices have applied it", code="not_applied")
        self.assertFalse(run.of("3")["changed"])
        self.assertEqual(run.of("3")["applied"]["progress"], "pending")


class Documents(Case):
    """Intent files, topology files, plans, facts."""

    def test_an_intent_is_planned_applied_and_pruned(self):
        source = {"src": str(LAB / "intent.yaml")}
        with open(LAB / "intent.yaml", encoding="utf-8") as file:
            blue = yaml.safe_load(file)["vdcs"][0]
        del blue["attachments"][0]
        fewer = copy.deepcopy(blue)
        blue["networks"][1]["subnets"][0]["cidr"] = "10.0.1.0/240"
        everything = ["fabric", "inventory", "switches", "hosts", "links", "vdcs", "history"]
        before = self.controller.revision()
        run = self.tasks(
            ("plan", source, {"diff": True}),
            ("apply", source, {"check_mode": True, "diff": True}),
            ("info", {"gather": ["fabric"]}),
            ("apply", dict(source, reason="the lab")),
            ("apply", source),
            ("apply", {"intent": {"vdcs": [fewer]}, "prune": True}, {"diff": True}),
            ("apply", {"intent": {"vdcs": [blue]}}),
            ("info", {"gather": everything}),
            ("info", {"gather": ["entities"], "device": "leaf1"}),
            ("info", {"gather": ["attachments"]}),
            failing=True,
        )
        self.assertEqual(run.changed(), ["1", "3", "5"], run.output)
        for task in ("0", "1"):
            self.assertEqual(len(run.of(task)["plan"]["created"]), 22, run.output)
            self.assertIn("device leaf1", [d.get("after_header") for d in run.of(task)["diff"]])
        self.assertTrue(run.of("0")["would_change"])
        self.assertEqual(run.of("2")["fabric"]["revision"], before)
        self.assertEqual(run.of("4")["outcome"]["unchanged"], 22)
        self.assertEqual(run.of("5")["outcome"]["deleted"], [{"vdc": "blue", "kind": "attachment", "name": "web1"}])
        self.assertFailed(run.of("6"), "vdcs[0].networks[1].subnets[0].cidr: `10.0.1.0/240`", code="invalid")
        found = run.of("7")
        self.assertEqual((found["fabric"]["vdcs"], len(found["switches"]), len(found["links"])), (2, 4, 4))
        self.assertLessEqual({"host1", "host2", "host3", "host4"}, {host["name"] for host in found["hosts"]})
        self.assertIn("the lab", [item.get("reason") for item in found["history"]])
        self.assertTrue(run.of("8")["entities"])
        self.assertFailed(run.of("9"), "vdc: needed to gather attachments", code="settings")

    def test_a_topology_is_imported(self):
        with open(LAB / "topology.yaml", encoding="utf-8") as file:
            content = yaml.safe_load(file)
        content["hosts"].append(
            {
                "name": "host5",
                "uplink": {"switch": "leaf1", "port": 7},
                "mac": "02:00:00:00:01:05",
                "vtep_ipv4": "10.255.1.5",
                "vtep_ipv6": "fd00:255:1::5",
            }
        )
        wrong = copy.deepcopy(content)
        wrong["hosts"][-1]["uplink"]["port"] = 5
        run = self.tasks(
            ("topology", {"src": str(LAB / "topology.yaml")}),
            ("plan", {"topology": content}),
            ("topology", {"topology": content}, {"diff": True}),
            ("topology", {"topology": content}),
            ("topology", {"topology": wrong}),
            failing=True,
        )
        self.assertEqual(run.changed(), ["2"], run.output)
        self.assertEqual(run.of("1")["plan"]["inventory"], [{"action": "added", "item": "host `host5`"}])
        self.assertFailed(run.of("4"), "hosts[4].uplink.port")


class Devices(Case):
    """Switches, hosts and links."""

    SWITCH = {
        "name": "leaf3",
        "role": "leaf",
        "device_id": 13,
        "loopback_ipv4": "10.255.0.13",
        "loopback_ipv6": "fd00:255::13",
        "p4runtime": "127.0.0.1:9",
        "access_ports": [9],
    }
    HOST = {
        "name": "host6",
        "uplink": {"switch": "leaf3", "port": 5},
        "mac": "02:00:00:00:01:06",
        "vtep_ipv4": "10.255.1.6",
        "vtep_ipv6": "fd00:255:1::6",
    }
    LINK = {"a": {"switch": "leaf3", "port": 1}, "b": {"switch": "spine1", "port": 3}}

    def test_a_leaf_is_added_changed_and_removed(self):
        tasks = [("switch", self.SWITCH), ("link", self.LINK), ("host", self.HOST)]
        before = self.controller.revision()
        planned = self.tasks(*tasks, flags=["--check", "--diff"])
        self.assertWell(planned)
        self.assertEqual(planned.changed(), ["0", "1", "2"])
        self.assertIn("+loopback_ipv4: 10.255.0.13", planned.output)
        self.assertIn("switch `leaf3` does not exist", planned.output)
        self.assertEqual(self.controller.revision(), before)
        swapped = {"a": self.LINK["b"], "b": self.LINK["a"]}
        cascade = {"name": "leaf3", "state": "absent", "cascade": True}
        removals = [
            ("link", {"a": self.LINK["a"], "state": "absent"}),
            ("host", {"name": "host6", "state": "absent"}),
            ("switch", cascade),
        ]
        run = self.tasks(
            *tasks,
            *tasks,
            ("link", swapped),
            ("host", {"name": "host6", "mac": "02-00-00-00-01-06"}),
            ("switch", {"name": "leaf3", "access_ports": [9, 10]}, {"diff": True}),
            ("host", dict(self.HOST, name="host7", uplink={"switch": "spine1", "port": 9})),
            ("host", {"name": "host6", "wait": True, "wait_timeout": 1}),
            ("switch", {"name": "leaf3", "state": "absent"}),
            ("switch", cascade, {"check_mode": True}),
            *removals,
            *removals,
            failing=True,
        )
        self.assertEqual(run.changed(), ["0", "1", "2", "8", "12", "13", "14", "15"], run.output)
        self.assertEqual(run.of("5")["object"]["state"], "arriving")
        self.assertIn("access_ports", run.output)
        self.assertFailed(run.of("9"), "uplink.switch", "`spine1`", code="invalid")
        self.assertFailed(run.of("10"), "host `host6`: it has not arrived", code="not_applied")
        self.assertFailed(run.of("11"), "still used by", code="in_use")
        self.assertEqual(len(run.of("12")["outcome"]["inventory"]), 3, run.output)
        self.assertEqual(len(run.failed()), 3, run.output)

    def test_devices_are_drained_and_declared_gone(self):
        states = [("drained", "drained"), ("present", "drained"), ("in_service", "in_service"), ("gone", "gone")]
        tasks = []
        for state, _ in states:
            task = ("host", {"name": "host2", "state": state, "reason": "the tests"})
            tasks += [(*task, {"check_mode": True}), task, task]
        run = self.tasks(*tasks)
        self.assertWell(run)
        self.assertEqual(run.changed(), ["0", "1", "6", "7", "9", "10"], run.output)
        for number, (_, item) in enumerate(states):
            self.assertEqual(run.of(str(3 * number + 1))["object"]["state"], item, run.output)


class Connection(Case):
    """How a controller is reached, and what is seen of that."""

    FABRIC = {"gather": ["fabric"]}

    def settings(self, **more):
        """All settings as options of a task that reads the fabric."""
        found = {
            "server": self.controller.server,
            "ca_file": str(self.controller.pki.ca),
            "token_file": str(self.controller.token_file),
        }
        found = {k: v for k, v in dict(found, **more).items() if v is not None}
        return dict(found, **self.FABRIC)

    def test_settings_come_from_options_environment_and_file(self):
        c = self.controller
        environment = {
            "VFABRIC_SERVER": c.server,
            "VFABRIC_CA_FILE": str(c.pki.ca),
            "VFABRIC_TOKEN_FILE": str(c.token_file),
        }
        tasks = [
            ("info", self.settings()),
            ("info", self.settings(token_file=None, token=c.token)),
            ("info", self.FABRIC, {"environment": environment}),
            ("info", self.FABRIC, {"environment": {"VFABRIC_CONFIG": str(c.config)}}),
            # Options win.
            ("info", self.settings(), {"environment": {"VFABRIC_SERVER": "https://127.0.0.1:1"}}),
        ]
        run = self.tasks(*tasks, connection={})
        self.assertWell(run)
        for number in range(len(tasks)):
            self.assertEqual(run.of(str(number))["fabric"]["name"], "lab", number)

    def test_a_mistake_in_the_settings_is_named(self):
        other = support.Pki(self.controller.folder / "other")
        unknown = other.write("token", b"f" * 64)
        cases = [
            (self.settings(ca_file=str(other.ca)), ["is not valid for", str(other.ca)]),
            (self.settings(ca_file=None), ["is not valid for the system's authorities"]),
            (self.settings(ca_file="/nowhere"), ["ca_file: cannot read /nowhere"]),
            (self.settings(server="http://127.0.0.1:1"), ["server: `http://127.0.0.1:1`: expected", "https://"]),
            (self.settings(server="https://localhost:%d" % support.free_port()), ["refuses connections"]),
            (self.settings(token_file="/nowhere"), ["token_file: cannot read /nowhere"]),
            (self.settings(token_file=str(unknown)), ["unauthenticated"]),
            (self.settings(token_file=str(other.ca)), ["token: expected ASCII characters without spaces"]),
            (self.settings(token_file=None), ["token: there is none"]),
        ]
        nobody = {"environment": {"HOME": str(self.controller.folder)}}
        tasks = [("info", dict(settings, retries=0, timeout=5), nobody) for settings, _ in cases]
        unsafe = ("info", self.settings(ca_file=str(other.ca), validate_certs=False))
        run = self.tasks(*tasks, unsafe, connection={}, failing=True)
        for number, (settings, words) in enumerate(cases):
            with self.subTest(settings):
                self.assertFailed(run.of(str(number)), *words)
        self.assertEqual(run.of(str(len(cases)))["fabric"]["name"], "lab")
        self.assertIn("TLS certificates are not checked", run.output)

    def test_the_token_is_never_seen(self):
        token = self.controller.token
        connection = {"config_file": str(self.controller.config)}
        run = self.tasks(
            ("info", self.settings(token_file=None, token=token)),
            ("info", self.settings()),
            # A token that got into another option would come back with the error.
            ("network", dict(connection, vdc=token, name="x" + token)),
            ("vdc", dict(connection, name=token + token)),
            connection={},
            failing=True,
            flags=["-vvvvv"],
        )
        self.assertEqual([f["code"] for f in run.failed()], ["not_found", "invalid"])
        self.assertNotIn(token, json.dumps([line["result"] for line in run.lines]))

    def test_a_controller_that_starts_again_is_waited_for(self):
        self.controller.stop()
        timer = threading.Timer(2, self.controller.start)
        timer.start()
        try:
            run = self.tasks(("vdc", {"name": "patient", "retries": 20}))
        finally:
            timer.join()
        self.assertWell(run)
        self.assertEqual(run.changed(), ["0"])


if __name__ == "__main__":
    unittest.main()
