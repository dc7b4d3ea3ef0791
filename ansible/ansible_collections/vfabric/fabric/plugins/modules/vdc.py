#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Virtual data centres."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vdc
short_description: Virtual data centres of a fabric
version_added: 0.1.0
description:
  - Creates, changes and deletes virtual data centres (vDCs), each a tenant's part of the fabric.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
  - vfabric.fabric.controller.owned
  - vfabric.fabric.controller.labelled
options:
  name:
    description: Name of the vDC, unique in the fabric; a DNS label.
    type: str
    required: true
  state:
    description:
      - Whether the vDC should exist.
      - A vDC that still has networks, routers or attachments cannot be removed.
        M(vfabric.fabric.apply) with O(vfabric.fabric.apply#module:prune=true) and no content empties it in one step.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: Free text for people.
    type: str
  hosts:
    description:
      - Hosts that are assigned to the vDC. Their agents may attach pods that start there, and its users may place attachments
        there.
      - An empty list takes all away, as it does for O(ports) and O(vnis).
    type: list
    elements: str
  ports:
    description: Access ports that are assigned to the vDC, for its users.
    type: list
    elements: dict
    suboptions:
      switch:
        description: The leaf.
        type: str
        required: true
      port:
        description: Its port, 1 to 509.
        type: int
        required: true
      vlans:
        description: Only frames with these VLAN ids; if it is left out, only frames without one.
        type: dict
        suboptions:
          first:
            description: The first, 1 to 4094.
            type: int
            required: true
          last:
            description: The last, 1 to 4094.
            type: int
            required: true
  vnis:
    description: VNIs that users of the vDC may name.
    type: list
    elements: dict
    suboptions:
      first:
        description: The first of a range.
        type: int
        required: true
      last:
        description: The last of it.
        type: int
        required: true
  address_pools:
    description:
      - Prefixes that hold the subnets of the vDC's networks. Its users may only create subnets inside one of them.
      - An empty list allows any subnet.
    type: list
    elements: str
  limits:
    description: How many objects there may be in the vDC. There is no limit on kinds that are left out; an empty dictionary removes all limits.
    type: dict
    suboptions:
      networks:
        description: Tenant networks.
        type: int
      routers:
        description: Routers.
        type: int
      routes:
        description: Static routes of all its routers.
        type: int
      attachments:
        description: Attachments.
        type: int
      table_percent:
        description: Share of each table of each switch that its objects may use, 1 to 100 per cent.
        type: int
seealso:
  - module: vfabric.fabric.apply
"""

EXAMPLES = r"""
- name: A vDC for the blue tenant
  vfabric.fabric.vdc:
    name: blue
    description: The blue tenant
    reason: order 4711

- name: What its users may use
  vfabric.fabric.vdc:
    name: blue
    hosts: [host1, host2]
    ports:
      - {switch: leaf1, port: 9, vlans: {first: 100, last: 199}}
    vnis: [{first: 20000, last: 20099}]
    limits: {networks: 10, attachments: 500}

- name: No vDC for the red tenant
  vfabric.fabric.vdc:
    name: red
    state: absent
"""

RETURN = r"""
object:
  description: The vDC as the controller shows it; in check mode, only its intended content.
  returned: when O(state=present)
  type: dict
  sample:
    spec: {name: blue, description: The blue tenant}
    networks: 2
    routers: 1
    attachments: 7
    revision: 12
revision:
  description: Revision of the intent that last changed it; after a removal, the revision of the removal.
  returned: when it exists, or was removed
  type: int
  sample: 12
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample:
    created: [{vdc: blue, kind: vdc, name: blue}]
    updated: []
    deleted: []
    unchanged: 0
    revision: 12
    plan: {changes: [], devices: []}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task
from ansible_collections.vfabric.fabric.plugins.module_utils.tenant import VDC, ensure


def main():
    """Runs the module."""
    span = {"first": {"type": "int", "required": True}, "last": {"type": "int", "required": True}}
    port = {
        "switch": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "vlans": {"type": "dict", "options": span},
    }
    limits = {kind: {"type": "int"} for kind in ("networks", "routers", "routes", "attachments", "table_percent")}
    task = Task(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "description": {"type": "str"},
            "hosts": {"type": "list", "elements": "str"},
            "ports": {"type": "list", "elements": "dict", "options": port},
            "vnis": {"type": "list", "elements": "dict", "options": span},
            "address_pools": {"type": "list", "elements": "str"},
            "limits": {"type": "dict", "options": limits},
        },
        owned=True,
        labelled=True,
    )
    task.run(ensure(VDC))


if __name__ == "__main__":
    main()
