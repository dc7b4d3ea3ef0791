#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""The state of a fabric."""

from __future__ import annotations

DOCUMENTATION = r"""
module: info
short_description: Gather the state of a fabric and of its objects
version_added: 0.1.0
description:
  - Reads objects, devices and history from the controller, and changes nothing.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
options:
  gather:
    description:
      - What to read. Each is returned under its own name.
      - V(networks), V(routers) and V(attachments) need O(vdc), and V(entities) needs O(device).
    type: list
    elements: str
    choices:
      - attachments
      - drops
      - entities
      - fabric
      - history
      - hosts
      - inventory
      - links
      - networks
      - routers
      - switches
      - vdcs
    default: [fabric, switches, hosts, links]
  vdc:
    description: The vDC whose objects are read.
    type: str
  device:
    description: The switch or host whose entities are read.
    type: str
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: The fabric at a glance
  vfabric.fabric.info:
  register: fabric

- name: Every switch holds what it should
  ansible.builtin.assert:
    that: fabric.switches | rejectattr('status.state', 'equalto', 'in_sync') | length == 0

- name: The attachments of a vDC
  vfabric.fabric.info:
    gather: [attachments]
    vdc: blue
"""

RETURN = r"""
fabric:
  description: The fabric at a glance.
  returned: when it is gathered
  type: dict
  sample: {name: lab, revision: 20, switches: {ok: 4, total: 4}, hosts: {ok: 4, total: 4}}
inventory:
  description: The inventory, with the identity and the state of each object.
  returned: when it is gathered
  type: dict
  sample: {fabric: {name: lab}, switches: [], links: [], hosts: []}
switches:
  description: The switches, each with its state.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{name: leaf1, role: leaf, status: {state: in_sync}}]
hosts:
  description: The hosts, each with its state.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{name: host1, uplink: {switch: leaf1, port: 5}, status: {state: in_sync}}]
links:
  description: The links, whether each is used, and why not.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{a: {switch: leaf1, port: 1}, b: {switch: spine1, port: 1}, up: true}]
drops:
  description: Packets that switches refused, by switch and reason.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{switch: leaf1, reason: host_vni, host: host1, packets: 3, bytes: 180}]
entities:
  description: The entities that a device should hold, and whether it holds them.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{table: vni, key: vni 10000, action: set_bridge_domain, applied: true}]
history:
  description: The last revisions, the newest first.
  returned: when it is gathered
  type: list
  elements: dict
  sample: [{revision: 20, time_ms: 1764400000000, author: token 0a1b2c3d, reason: release 12}]
vdcs:
  description: The vDCs.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{spec: {name: blue}, networks: 2, routers: 1, attachments: 7, revision: 12}]
networks:
  description: The networks of the vDC.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{spec: {name: web, subnets: [{cidr: 10.0.0.0/24}], mtu: 1500}, vni: 10000, revision: 13}]
routers:
  description: The routers of the vDC.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{spec: {name: core, networks: [web, db]}, vrf: 10002, revision: 14}]
attachments:
  description: The attachments of the vDC.
  returned: when they are gathered
  type: list
  elements: dict
  sample: [{spec: {name: web1, network: web}, mac: '02:9a:4e:10:00:01', ips: [10.0.0.11], revision: 15}]
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.client import path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import settings_error
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task

IN_VDC = ("networks", "routers", "attachments")
OTHERS = ("drops", "entities", "fabric", "history", "hosts", "inventory", "links", "switches", "vdcs")


def read(task, what):
    """One part of the state."""
    vdc, device = task.options["vdc"], task.options["device"]
    if what in IN_VDC:
        if not vdc:
            raise settings_error("vdc: needed to gather %s" % what)
        return task.client.list(path_of("vdcs", vdc, what))
    if what == "vdcs":
        return task.client.list(path_of("vdcs"))
    if what == "entities":
        if not device:
            raise settings_error("device: needed to gather entities")
        return task.client.get(path_of("devices", device, "entities"))
    if what == "history":
        return task.client.get(path_of("history"))["items"]
    return task.client.get(path_of(what))


def gather(task):
    """Everything that was asked for."""
    for what in task.options["gather"]:
        task.result[what] = read(task, what)


def main():
    """Runs the module."""
    task = Task(
        {
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": sorted(IN_VDC + OTHERS),
                "default": ["fabric", "switches", "hosts", "links"],
            },
            "vdc": {"type": "str"},
            "device": {"type": "str"},
        },
        changes=False,
    )
    task.run(gather)


if __name__ == "__main__":
    main()
