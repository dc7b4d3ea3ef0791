#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Plans."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Show what an intent or a topology would change in a fabric
version_added: 0.1.0
description:
  - Asks the controller what applying an intent, or importing a topology, would change, in objects and on each device.
    Nothing changes, and the task never counts as changed.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.owned
options:
  intent:
    description: The intent, as in an intent file of C(fabricctl plan).
    type: dict
  src:
    description:
      - An intent file (YAML) on the machine that the task runs on.
      - Needs the Python package PyYAML.
    type: path
  prune:
    description: Also plans to delete objects of the named vDCs that the intent does not name.
    type: bool
    default: false
  topology:
    description: The topology, as in a topology file of C(fabricctl inventory diff).
    type: dict
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Shows the plan, field by field for objects and entity by entity for each device.
    support: full
seealso:
  - module: vfabric.fabric.apply
  - module: vfabric.fabric.topology
"""

EXAMPLES = r"""
- name: What would this intent change?
  vfabric.fabric.plan:
    src: /etc/vfabric/intent.yaml
    prune: true
  register: planned

- name: Nothing is to be deleted
  ansible.builtin.assert:
    that: planned.plan.deleted == []
"""

RETURN = r"""
would_change:
  description: Whether anything would change.
  returned: success
  type: bool
  sample: true
plan:
  description: The plan, with the objects that would be created, changed and deleted, and the changes on each device.
  returned: success
  type: dict
  sample:
    revision: 20
    created: [{vdc: blue, kind: network, name: web}]
    updated: []
    deleted: []
    unchanged: 1
    plan:
      changes: []
      devices:
        - device: leaf1
          entities: [{table: vni, key: vni 10000, after: set_bridge_domain}]
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.document import plan
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    documents = ("intent", "src", "topology")
    task = Task(
        {
            "intent": {"type": "dict"},
            "src": {"type": "path"},
            "prune": {"type": "bool", "default": False},
            "topology": {"type": "dict"},
        },
        changes=False,
        owned=True,
        mutually_exclusive=[documents],
        required_one_of=[documents],
    )
    task.run(plan)


if __name__ == "__main__":
    main()
