#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Attachments."""

from __future__ import annotations

DOCUMENTATION = r"""
module: attachment
short_description: Attachments of workloads to tenant networks
version_added: 0.1.0
description:
  - Creates, changes and deletes attachments. An attachment is one interface of one workload in one tenant network.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
  - vfabric.fabric.controller.owned
  - vfabric.fabric.controller.labelled
options:
  vdc:
    description: The vDC that the attachment is in.
    type: str
    required: true
  name:
    description: Name of the attachment, unique in the vDC; a DNS label.
    type: str
    required: true
  state:
    description: Whether the attachment should exist.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: The network. Needed to create an attachment.
    type: str
  mac:
    description: MAC address; if it is left out, the controller chooses one.
    type: str
  ips:
    description:
      - All addresses, each inside a subnet of the network. If it is left out, a new attachment gets a free address of each
        subnet, and an existing one keeps its addresses.
      - An empty list lets the controller choose again.
    type: list
    elements: str
  place:
    description: Where the workload is, either on a host or at a port. Needed to create an attachment.
    type: dict
    suboptions:
      host:
        description: In a network namespace of a host.
        type: dict
        suboptions:
          host:
            description: The host.
            type: str
            required: true
          netns:
            description: Name of the network namespace in C(/run/netns).
            type: str
            required: true
          interface:
            description: Name of the interface in that namespace, 1 to 15 octets.
            type: str
            required: true
      port:
        description: At an access port of a leaf.
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
          vlan:
            description: VLAN id of its frames, 1 to 4094; if it is left out, frames carry none.
            type: int
  port_security:
    description:
      - Whether the workload is held to its MAC and IP addresses, and is neither a router nor a DHCP server for others.
      - New attachments are, if it is left out.
    type: bool
  allowed_addresses:
    description: Further addresses from which the workload may send; at most 64 entries.
    type: list
    elements: dict
    suboptions:
      ip:
        description: One address; either this or O(allowed_addresses[].cidr).
        type: str
      cidr:
        description: A prefix; either this or O(allowed_addresses[].ip).
        type: str
      mac:
        description: The MAC address that goes with it; if it is left out, the attachment's.
        type: str
"""

EXAMPLES = r"""
- name: A workload in a network namespace of a host
  vfabric.fabric.attachment:
    vdc: blue
    name: web1
    network: web
    ips: [10.0.0.11, 'fd00:0:0:1::11']
    place:
      host: {host: host1, netns: web1, interface: eth0}
    wait: true

- name: A machine at a port of a leaf
  vfabric.fabric.attachment:
    vdc: blue
    name: web-metal
    network: web
    mac: 02:00:00:00:b1:01
    place:
      port: {switch: leaf2, port: 9}

- name: No attachment of that name
  vfabric.fabric.attachment:
    vdc: blue
    name: old
    state: absent
"""

RETURN = r"""
object:
  description: The attachment as the controller shows it; in check mode, only its intended content.
  returned: when O(state=present)
  type: dict
  sample:
    spec:
      name: web1
      network: web
      place: {host: {host: host1, netns: web1, interface: eth0}}
      port_security: true
    mac: 02:9a:4e:10:00:01
    ips: [10.0.0.11]
    applied: {revision: 15, progress: applied, devices: 3, applied: 3}
    revision: 15
revision:
  description: Revision of the intent that last changed it; after a removal, the revision of the removal.
  returned: when it exists, or was removed
  type: int
  sample: 15
applied:
  description: How many devices have applied it, and why the others have not.
  returned: when O(wait=true)
  type: dict
  sample: {revision: 15, progress: applied, devices: 3, applied: 3}
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample:
    created: [{vdc: blue, kind: attachment, name: web1}]
    updated: []
    deleted: []
    unchanged: 0
    revision: 15
    plan:
      changes: []
      devices:
        - device: host1
          entities: [{table: bridge, key: vni 10000, after: mtu 1500}]
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task
from ansible_collections.vfabric.fabric.plugins.module_utils.tenant import ATTACHMENT, ensure


def place_spec():
    """The options of a place."""
    host = {name: {"type": "str", "required": True} for name in ("host", "netns", "interface")}
    port = {
        "switch": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "vlan": {"type": "int"},
    }
    return {
        "type": "dict",
        "options": {"host": {"type": "dict", "options": host}, "port": {"type": "dict", "options": port}},
        "mutually_exclusive": [("host", "port")],
        "required_one_of": [("host", "port")],
    }


def main():
    """Runs the module."""
    allowed = {"ip": {"type": "str"}, "cidr": {"type": "str"}, "mac": {"type": "str"}}
    task = Task(
        {
            "vdc": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "network": {"type": "str"},
            "mac": {"type": "str"},
            "ips": {"type": "list", "elements": "str"},
            "place": place_spec(),
            "port_security": {"type": "bool"},
            "allowed_addresses": {
                "type": "list",
                "elements": "dict",
                "options": allowed,
                "mutually_exclusive": [("ip", "cidr")],
                "required_one_of": [("ip", "cidr")],
            },
        },
        owned=True,
        labelled=True,
    )
    task.run(ensure(ATTACHMENT))


if __name__ == "__main__":
    main()
