#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Routers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: router
short_description: Routers of a virtual data centre
version_added: 0.1.0
description:
  - Creates, changes and deletes routers. A router is one VRF that joins networks of its vDC; every leaf is their gateway.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
  - vfabric.fabric.controller.owned
  - vfabric.fabric.controller.labelled
options:
  vdc:
    description: The vDC that the router is in.
    type: str
    required: true
  name:
    description: Name of the router, unique in the vDC; a DNS label.
    type: str
    required: true
  state:
    description: Whether the router should exist.
    type: str
    choices: [present, absent]
    default: present
  networks:
    description:
      - All networks that it joins. A network has one router at most, and subnets of joined networks do not overlap.
      - Needed to create a router. If it is left out later, the router's networks stay as they are.
    type: list
    elements: str
  routes:
    description:
      - All its static routes. If they are left out, they stay as they are; an empty list removes them.
      - Packets to a prefix go to the attachment that has the address O(routes[].via). Of the prefixes that hold an address
        the longest counts.
    type: list
    elements: dict
    suboptions:
      to:
        description: The prefix, without host bits.
        type: str
        required: true
      via:
        description: Address of an attachment in one of the networks.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: A router between two networks
  vfabric.fabric.router:
    vdc: blue
    name: core
    networks: [web, db]

- name: What is not in these networks goes to a firewall
  vfabric.fabric.router:
    vdc: blue
    name: core
    networks: [web, db]
    routes:
      - {to: 0.0.0.0/0, via: 10.0.1.5}

- name: No router of that name
  vfabric.fabric.router:
    vdc: blue
    name: old
    state: absent
"""

RETURN = r"""
object:
  description: The router as the controller shows it; in check mode, only its intended content.
  returned: when O(state=present)
  type: dict
  sample:
    spec: {name: core, networks: [web, db]}
    vrf: 10002
    applied: {revision: 14, progress: applied, devices: 2, applied: 2}
    revision: 14
revision:
  description: Revision of the intent that last changed it; after a removal, the revision of the removal.
  returned: when it exists, or was removed
  type: int
  sample: 14
applied:
  description: How many devices have applied it, and why the others have not.
  returned: when O(wait=true)
  type: dict
  sample: {revision: 14, progress: applied, devices: 2, applied: 2}
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample:
    created: [{vdc: blue, kind: router, name: core}]
    updated: []
    deleted: []
    unchanged: 0
    revision: 14
    plan: {changes: [], devices: []}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task
from ansible_collections.vfabric.fabric.plugins.module_utils.tenant import ROUTER, ensure


def main():
    """Runs the module."""
    task = Task(
        {
            "vdc": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "networks": {"type": "list", "elements": "str"},
            "routes": {
                "type": "list",
                "elements": "dict",
                "options": {"to": {"type": "str", "required": True}, "via": {"type": "str", "required": True}},
            },
        },
        owned=True,
        labelled=True,
    )
    task.run(ensure(ROUTER))


if __name__ == "__main__":
    main()
