#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Tenant networks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Tenant networks of a virtual data centre
version_added: 0.1.0
description:
  - Creates, changes and deletes tenant networks. A network is one L2 segment with one VNI and any number of subnets.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
  - vfabric.fabric.controller.owned
  - vfabric.fabric.controller.labelled
options:
  vdc:
    description: The vDC that the network is in.
    type: str
    required: true
  name:
    description: Name of the network, unique in the vDC; a DNS label.
    type: str
    required: true
  state:
    description:
      - Whether the network should exist.
      - A network with attachments, or one that a router joins, cannot be removed.
    type: str
    choices: [present, absent]
    default: present
  subnets:
    description:
      - All subnets of the network; an empty list removes all.
      - If it is left out, those that the network has stay as they are.
    type: list
    elements: dict
    suboptions:
      cidr:
        description: The prefix, IPv4 or IPv6, with no host bits set.
        type: str
        required: true
      gateway:
        description: Address of the anycast gateway; if it is left out, the first one of the prefix.
        type: str
      reserved:
        description: Addresses that the controller does not allocate. Only attachments that name one of them get it.
        type: list
        elements: dict
        suboptions:
          first:
            description: The first of a range.
            type: str
            required: true
          last:
            description: The last.
            type: str
            required: true
  mtu:
    description: Largest IP packet of the workloads in octets. New networks get 1500 if it is left out.
    type: int
  vni:
    description: The VNI; if it is left out, the controller allocates one.
    type: int
"""

EXAMPLES = r"""
- name: A dual-stack network
  vfabric.fabric.network:
    vdc: blue
    name: web
    subnets:
      - cidr: 10.0.0.0/24
      - cidr: fd00:0:0:1::/64
    wait: true

- name: No network of that name
  vfabric.fabric.network:
    vdc: blue
    name: old
    state: absent
"""

RETURN = r"""
object:
  description: The network as the controller shows it; in check mode, only its intended content.
  returned: when O(state=present)
  type: dict
  sample:
    spec: {name: web, subnets: [{cidr: 10.0.0.0/24}], mtu: 1500}
    vni: 10000
    applied: {revision: 13, progress: applied, devices: 3, applied: 3}
    revision: 13
revision:
  description: Revision of the intent that last changed it; after a removal, the revision of the removal.
  returned: when it exists, or was removed
  type: int
  sample: 13
applied:
  description: How many devices have applied it, and why the others have not.
  returned: when O(wait=true)
  type: dict
  sample: {revision: 13, progress: applied, devices: 3, applied: 3}
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample:
    created: [{vdc: blue, kind: network, name: web}]
    updated: []
    deleted: []
    unchanged: 0
    revision: 13
    plan: {changes: [], devices: []}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task
from ansible_collections.vfabric.fabric.plugins.module_utils.tenant import NETWORK, ensure


def main():
    """Runs the module."""
    span = {"first": {"type": "str", "required": True}, "last": {"type": "str", "required": True}}
    subnet = {
        "cidr": {"type": "str", "required": True},
        "gateway": {"type": "str"},
        "reserved": {"type": "list", "elements": "dict", "options": span},
    }
    task = Task(
        {
            "vdc": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "subnets": {"type": "list", "elements": "dict", "options": subnet},
            "mtu": {"type": "int"},
            "vni": {"type": "int"},
        },
        owned=True,
        labelled=True,
    )
    task.run(ensure(NETWORK))


if __name__ == "__main__":
    main()
