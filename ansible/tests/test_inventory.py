# SPDX-License-Identifier: Apache-2.0
"""The inventory plugin against a controller."""

from __future__ import annotations

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import support


class Inventory(unittest.TestCase):
    """Switches and hosts as Ansible sees them."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        cls.controller = support.Controller(cls.folder)
        cls.addClassCleanup(cls.controller.stop)
        cls.controller.start()

    def ask(self, text, name="lab.vfabric.yml", **env):
        """Runs ansible-inventory on a file."""
        path = self.folder / name
        path.write_text("plugin: vfabric.fabric.controller\n" + text, encoding="utf-8")
        listing = self.folder / "listing.json"
        listing.unlink(missing_ok=True)
        done = subprocess.run(
            [support.SCRIPTS / "ansible-inventory", "--inventory", path, "--list", "--output", listing, "-vvvv"],
            env=support.environment(self.folder, ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1", RECORD_FILE="/dev/null", **env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = listing.read_text(encoding="utf-8") if listing.exists() else ""
        self.assertNotIn(self.controller.token, done.stdout + done.stderr + found)
        # Values of templates are marked in listings.
        plain = lambda value: value.get("__ansible_unsafe", value)  # noqa: E731
        return json.loads(found, object_hook=plain) if done.returncode == 0 else None, done.stderr

    def test_devices_are_listed_with_groups_and_variables(self):
        text = "config_file: %s\n" % self.controller.config
        text += "compose: {ansible_host: vfabric_management_address | default(inventory_hostname)}\n"
        text += "keyed_groups: [{key: vfabric_fabric, prefix: fabric}]\ncache: true\ncache_plugin: jsonfile\n"
        text += "cache_connection: %s\n" % (self.folder / "cache")
        found, said = self.ask(text)
        self.assertTrue(found, said)
        groups = {name: set(group.get("hosts", [])) for name, group in found.items() if name != "_meta"}
        self.assertEqual(groups["vfabric_role_leaf"], {"leaf1", "leaf2"})
        self.assertEqual(groups["vfabric_role_spine"], {"spine1", "spine2"})
        self.assertEqual(groups["vfabric_leaf_leaf1"], {"host1", "host2"})
        self.assertEqual(len(groups["fabric_lab"]), 8)
        self.assertEqual(len(groups["vfabric_item_in_service"]), 8)
        self.assertEqual(groups["vfabric_state_disconnected"], groups["fabric_lab"])
        self.assertIn("vfabric_role_leaf", found["vfabric_switches"]["children"])
        variables = found["_meta"]["hostvars"]
        leaf, host = variables["leaf1"], variables["host3"]
        self.assertEqual((leaf["ansible_host"], leaf["vfabric_device_id"]), ("172.31.254.21", 11))
        self.assertEqual((host["ansible_host"], host["vfabric_uplink"]), ("host3", {"switch": "leaf2", "port": 5}))
        self.assertEqual((host["vfabric_vtep_ipv4"], host["vfabric_kind"]), ("10.255.1.3", "host"))
        # What is in the cache holds no secret, and is used while the controller is away.
        cached = "".join(p.read_text(encoding="utf-8") for p in (self.folder / "cache").iterdir())
        self.assertNotIn(self.controller.token, cached)
        again, said = self.ask(text.replace(str(self.controller.config), "/nowhere"))
        self.assertTrue(again, said)
        self.assertEqual(again["_meta"]["hostvars"]["leaf1"], leaf)

    def test_settings_come_from_templates_and_a_mistake_is_named(self):
        c = self.controller
        text = "server: %s\nca_file: %s\ntoken: \"{{ lookup('ansible.builtin.file', '%s') }}\"\n"
        token = self.folder / "plain-token"
        token.write_text(c.token + "\n", encoding="utf-8")
        found, said = self.ask(text % (c.server, c.pki.ca, token), "other.vfabric.yaml")
        self.assertTrue(found, said)
        self.assertIn("leaf1", found["_meta"]["hostvars"])
        found, said = self.ask("config_file: /nowhere\n")
        self.assertIsNone(found)
        self.assertIn("config_file: cannot read /nowhere", said)


if __name__ == "__main__":
    unittest.main()
