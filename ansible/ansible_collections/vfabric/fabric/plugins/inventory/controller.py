# SPDX-License-Identifier: Apache-2.0
"""Switches and hosts of a fabric, from its controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: controller
short_description: Switches and hosts of a fabric, from its controller
version_added: 0.1.0
description:
  - Lists the switches and hosts of a fabric's inventory with what the controller knows about them.
  - The inventory file is YAML, and its name ends in C(vfabric.yml) or C(vfabric.yaml).
  - "Groups: C(vfabric_switches) and C(vfabric_hosts); C(vfabric_role_leaf) and C(vfabric_role_spine);
    C(vfabric_state_in_sync), C(vfabric_state_syncing), C(vfabric_state_degraded) and C(vfabric_state_disconnected) by the
    controller's relation to a device; C(vfabric_item_in_service), C(vfabric_item_arriving), C(vfabric_item_drained),
    C(vfabric_item_leaving) and C(vfabric_item_gone) by where it is in its life; C(vfabric_leaf_NAME) with the hosts under a
    leaf, with underscores for dashes."
  - Each device has the variables C(vfabric_kind), C(vfabric_name), C(vfabric_item), C(vfabric_uid), C(vfabric_state) and
    C(vfabric_status). A switch also has C(vfabric_role), C(vfabric_device_id), C(vfabric_loopback_ipv4),
    C(vfabric_loopback_ipv6), C(vfabric_p4runtime), C(vfabric_management_address) and C(vfabric_access_ports). A host also has
    C(vfabric_uplink), C(vfabric_mac), C(vfabric_vtep_ipv4) and C(vfabric_vtep_ipv6).
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Has to be V(vfabric.fabric.controller).
    type: str
    required: true
    choices: [vfabric.fabric.controller]
  config_file:
    description:
      - The configuration file of C(fabricctl), with C(server), C(ca) and C(token); paths in it are relative to the file.
      - Other options take precedence.
      - If neither this nor O(server) is given, C(~/.config/vfabric/client.yaml) is used where it exists.
    type: path
    env:
      - name: VFABRIC_CONFIG
  server:
    description: Address of the controller's REST API, as in V(https://controller.example.net:8443).
    type: str
    env:
      - name: VFABRIC_SERVER
  ca_file:
    description: File with the certificate authorities to trust (PEM); if it is left out, those of the system.
    type: path
    env:
      - name: VFABRIC_CA_FILE
  token:
    description: The bearer token. It is never logged, and is not a variable of a host. Can be a template with a lookup.
    type: str
    env:
      - name: VFABRIC_TOKEN
  token_file:
    description: File with the bearer token.
    type: path
    env:
      - name: VFABRIC_TOKEN_FILE
  validate_certs:
    description: Whether the controller has to prove who it is. V(false) sends the token to any server that replies.
    type: bool
    default: true
  timeout:
    description: Seconds that one call may take.
    type: int
    default: 30
  retries:
    description: How often a call is sent again if the connection was refused or the controller returned 503 or 429.
    type: int
    default: 4
"""

EXAMPLES = r"""
# fabric.vfabric.yml, with the settings of fabricctl
plugin: vfabric.fabric.controller
config_file: /etc/vfabric/client.yaml

---
# prod.vfabric.yml
plugin: vfabric.fabric.controller
server: https://controller.example.net:8443
ca_file: /etc/vfabric/ca.pem
token: "{{ lookup('ansible.builtin.file', '/etc/vfabric/token') }}"
compose:
  # Switches are reached where their P4Runtime server is, hosts at their names.
  ansible_host: vfabric_management_address | default(inventory_hostname ~ '.example.net')
keyed_groups:
  - key: vfabric_fabric
    prefix: fabric
"""

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.vfabric.fabric.plugins.module_utils import settings
from ansible_collections.vfabric.fabric.plugins.module_utils.client import Client, path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError

# Names of options that are settings of the connection.
CONNECTION = (
    "config_file",
    "server",
    "ca_file",
    "token",
    "token_file",
    "validate_certs",
    "timeout",
    "retries",
)


def fetch(client):
    """What the controller knows about the fabric: its name, and each device with its variables."""
    inventory = client.get(path_of("inventory"))
    status = {
        kind: {device["name"]: device["status"] for device in client.get(path_of(kind))}
        for kind in ("switches", "hosts")
    }
    devices = []
    for kind, word in (("switches", "switch"), ("hosts", "host")):
        for item in inventory[kind]:
            name = item["spec"]["name"]
            known = status[kind].get(name) or {"state": "disconnected"}
            devices.append(variables(word, item, known))
    return {"fabric": inventory["fabric"]["name"], "devices": devices}


def variables(kind, item, status):
    """A device's variables."""
    spec = dict(item["spec"])
    found = {"kind": kind, "item": item["state"], "uid": item["uid"], "state": status["state"], "status": status}
    if item.get("vtep_id"):
        found["vtep_id"] = item["vtep_id"]
    if "p4runtime" in spec:
        found["management_address"] = spec["p4runtime"].rpartition(":")[0].strip("[]")
    found.update(spec)
    return found


def groups(device):
    """The groups that a device is in, each with the group that it is part of."""
    parent = "vfabric_switches" if device["kind"] == "switch" else "vfabric_hosts"
    found = [(parent, None)]
    if "role" in device:
        found.append(("vfabric_role_" + device["role"], parent))
    if "uplink" in device:
        found.append(("vfabric_leaf_" + device["uplink"]["switch"].replace("-", "_"), parent))
    found.append(("vfabric_state_" + device["state"], None))
    found.append(("vfabric_item_" + device["item"], None))
    return found


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The plugin."""

    NAME = "vfabric.fabric.controller"

    def verify_file(self, path):
        """Whether the file may be of this plugin."""
        return super().verify_file(path) and path.endswith(("vfabric.yml", "vfabric.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Reads the inventory file and the controller."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        key = self.get_cache_key(path)
        use_cache = cache and self.get_option("cache")
        found = None
        if use_cache:
            try:
                found = self._cache[key]
            except KeyError:
                pass
        if found is None:
            found = self.ask()
            if self.get_option("cache"):
                self._cache[key] = found
        for device in found["devices"]:
            self.add(device, found["fabric"])

    def ask(self):
        """Asks the controller."""
        options = {name: self.get_option(name) for name in CONNECTION}
        options["token"] = self.text(options["token"])
        try:
            return fetch(Client(settings.load(options)))
        except ControllerError as error:
            raise AnsibleParserError(error.message) from error

    def text(self, value):
        """A value, or what a template makes of it."""
        if value and self.templar.is_template(value):
            return str(self.templar.template(value)).strip()
        return value

    def add(self, device, fabric):
        """Adds a device with its variables and groups."""
        name = device["name"]
        self.inventory.add_host(name)
        for variable, value in dict(device, fabric=fabric).items():
            self.inventory.set_variable(name, "vfabric_" + variable, value)
        for group, parent in groups(device):
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
            if parent:
                self.inventory.add_group(parent)
                self.inventory.add_child(parent, group)
        strict = self.get_option("strict")
        known = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), known, name, strict=strict)
        known = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), known, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), known, name, strict=strict)
