#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Switches of the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: switch
short_description: Switches of a fabric's inventory
version_added: 0.1.0
description:
  - Adds, changes, drains and removes P4 switches of the controller's inventory.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
options:
  name:
    description: Name of the switch, as in its certificate; a DNS label.
    type: str
    required: true
  state:
    description:
      - V(present) adds or changes it. A device that is drained or gone stays so.
      - V(in_service) also ends a drain.
      - V(drained) also lets paths avoid it while there are others; it gets no new attachments.
      - V(gone) declares it dead, so that its neighbours shut it out.
      - V(absent) removes it. It is deleted when all devices have confirmed that they no longer use it.
    type: str
    choices: [present, absent, drained, gone, in_service]
    default: present
  cascade:
    description: With O(state=absent), also removes its links, the hosts under it, and the attachments there.
    type: bool
    default: false
  role:
    description: Its role. Needed to add it; it cannot change.
    type: str
    choices: [leaf, spine]
  device_id:
    description: P4Runtime device id, 1 to 65535. Needed to add it.
    type: int
  loopback_ipv4:
    description: IPv4 address of its loopback. Needed to add it.
    type: str
  loopback_ipv6:
    description: IPv6 address of its loopback. Needed to add it.
    type: str
  p4runtime:
    description: Address and port of its P4Runtime server, as in V(192.0.2.2:9559). Needed to add it.
    type: str
  access_ports:
    description: All ports of a leaf to which tenants' machines are connected; an empty list removes all.
    type: list
    elements: int
  ports:
    description: Speed and forward error correction of all ports that need other settings than the switch has; an empty list ends that.
    type: list
    elements: dict
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      speed:
        description: Its speed, as in V(25G).
        type: str
      fec:
        description: Its forward error correction.
        type: str
        choices: [none, auto, fc, rs528, rs544, rs544-interleaved]
      auto_negotiate:
        description: Whether it negotiates with the other end.
        type: bool
  breakouts:
    description: All front-panel ports that are split into several; an empty list ends that.
    type: list
    elements: dict
    suboptions:
      component:
        description: The front-panel port, as the switch names its component in OpenConfig.
        type: str
        required: true
      ports:
        description: How many ports it becomes, 1 to 8.
        type: int
        required: true
      speed:
        description: Speed of each of them.
        type: str
        required: true
      lanes:
        description: Lanes of each of them, 1 to 8.
        type: int
"""

EXAMPLES = r"""
- name: A leaf of the fabric
  vfabric.fabric.switch:
    name: leaf3
    role: leaf
    device_id: 13
    loopback_ipv4: 10.255.0.13
    loopback_ipv6: fd00:255::13
    p4runtime: 192.0.2.13:9559
    access_ports: [9, 10]
    ports:
      - {port: 1, speed: 100G, fec: rs528}
    wait: true

- name: Keep traffic away from a spine during maintenance
  vfabric.fabric.switch:
    name: spine1
    state: drained
    wait: true
    reason: new power supply
"""

RETURN = r"""
object:
  description: The switch as the controller shows it; in check mode, its current state, or the specification of a new one.
  returned: unless O(state=absent)
  type: dict
  sample:
    spec: {name: leaf3, role: leaf, device_id: 13}
    uid: 21
    vtep_id: 5
    state: in_service
outcome:
  description: What the change did, or would do in check mode; of several steps, the last one.
  returned: when something was to be done
  type: dict
  sample:
    revision: 16
    created: []
    updated: []
    deleted: []
    unchanged: 0
    inventory: [{action: added, item: 'switch `leaf3`'}]
revision:
  description: Revision of the intent after the change.
  returned: when something was to be done
  type: int
  sample: 16
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample: {inventory: [{action: added, item: 'switch `leaf3`'}], plan: {changes: [], devices: []}}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.fabric import DEVICE_STATES, SWITCH
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    task = Task(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": DEVICE_STATES, "default": "present"},
            "cascade": {"type": "bool", "default": False},
            "role": {"type": "str", "choices": ["leaf", "spine"]},
            "device_id": {"type": "int"},
            "loopback_ipv4": {"type": "str"},
            "loopback_ipv6": {"type": "str"},
            "p4runtime": {"type": "str"},
            "access_ports": {"type": "list", "elements": "int"},
            "ports": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "port": {"type": "int", "required": True},
                    "speed": {"type": "str"},
                    "fec": {"type": "str", "choices": ["none", "auto", "fc", "rs528", "rs544", "rs544-interleaved"]},
                    "auto_negotiate": {"type": "bool"},
                },
            },
            "breakouts": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "component": {"type": "str", "required": True},
                    "ports": {"type": "int", "required": True},
                    "speed": {"type": "str", "required": True},
                    "lanes": {"type": "int"},
                },
            },
        }
    )
    task.run(SWITCH.work)


if __name__ == "__main__":
    main()
