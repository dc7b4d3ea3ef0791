#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Hosts of the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Hosts of a fabric's inventory
version_added: 0.1.0
description:
  - Adds, changes, drains and removes Linux hosts of the controller's inventory.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
options:
  name:
    description: Name of the host, as in its certificate; a DNS label.
    type: str
    required: true
  state:
    description:
      - V(present) adds or changes it. A device that is drained or gone stays so.
      - V(in_service) also ends a drain.
      - V(drained) also keeps new attachments away from it.
      - V(gone) declares it dead, so that its leaf shuts it out.
      - V(absent) removes it. It is deleted when all devices have confirmed that they no longer use it.
    type: str
    choices: [present, absent, drained, gone, in_service]
    default: present
  cascade:
    description: With O(state=absent), also removes the attachments on it.
    type: bool
    default: false
  uplink:
    description: The port to which its uplink is connected. Needed to add it; its leaf cannot change.
    type: dict
    suboptions:
      switch:
        description: The leaf.
        type: str
        required: true
      port:
        description: The port, 1 to 509.
        type: int
        required: true
  mac:
    description: MAC address of its uplink. Needed to add it.
    type: str
  vtep_ipv4:
    description: IPv4 address of its VTEP. Needed to add it.
    type: str
  vtep_ipv6:
    description: IPv6 address of its VTEP. Needed to add it.
    type: str
"""

EXAMPLES = r"""
- name: A host under a leaf
  vfabric.fabric.host:
    name: host5
    uplink: {switch: leaf1, port: 7}
    mac: 02:00:00:00:01:05
    vtep_ipv4: 10.255.1.5
    vtep_ipv6: fd00:255:1::5
    wait: true

- name: A host that will not come back
  vfabric.fabric.host:
    name: host4
    state: absent
    cascade: true
    wait: true
    wait_timeout: 120
"""

RETURN = r"""
object:
  description: The host as the controller shows it; in check mode, its current state, or the specification of a new one.
  returned: unless O(state=absent)
  type: dict
  sample:
    spec: {name: host5, uplink: {switch: leaf1, port: 7}}
    uid: 22
    vtep_id: 9
    state: in_service
outcome:
  description: What the change did, or would do in check mode; of several steps, the last one.
  returned: when something was to be done
  type: dict
  sample:
    revision: 17
    created: []
    updated: []
    deleted: []
    unchanged: 0
    inventory: [{action: added, item: 'host `host5`'}]
revision:
  description: Revision of the intent after the change.
  returned: when something was to be done
  type: int
  sample: 17
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample: {inventory: [{action: added, item: 'host `host5`'}], plan: {changes: [], devices: []}}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.fabric import DEVICE_STATES, HOST
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    uplink = {"switch": {"type": "str", "required": True}, "port": {"type": "int", "required": True}}
    task = Task(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": DEVICE_STATES, "default": "present"},
            "cascade": {"type": "bool", "default": False},
            "uplink": {"type": "dict", "options": uplink},
            "mac": {"type": "str"},
            "vtep_ipv4": {"type": "str"},
            "vtep_ipv6": {"type": "str"},
        }
    )
    task.run(HOST.work)


if __name__ == "__main__":
    main()
