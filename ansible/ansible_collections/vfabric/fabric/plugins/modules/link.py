#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Links of the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: link
short_description: Links between switches of a fabric's inventory
version_added: 0.1.0
description:
  - Adds and removes links of the controller's inventory. A link does not change; to cable a port elsewhere, remove its link
    first.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
options:
  a:
    description: One end. It does not matter which end is named first.
    type: dict
    required: true
    suboptions:
      switch:
        description: The switch.
        type: str
        required: true
      port:
        description: Its port, 1 to 509.
        type: int
        required: true
  b:
    description: The other end. With O(state=absent) it may be left out.
    type: dict
    suboptions:
      switch:
        description: The switch.
        type: str
        required: true
      port:
        description: Its port, 1 to 509.
        type: int
        required: true
  state:
    description: Whether the link should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: A link from leaf to spine
  vfabric.fabric.link:
    a: {switch: leaf3, port: 1}
    b: {switch: spine1, port: 3}

- name: Nothing at this port
  vfabric.fabric.link:
    a: {switch: leaf3, port: 2}
    state: absent
"""

RETURN = r"""
object:
  description: The link.
  returned: when O(state=present)
  type: dict
  sample: {spec: {a: {switch: leaf3, port: 1}, b: {switch: spine1, port: 3}}}
outcome:
  description: What the change did, or would do in check mode.
  returned: when something was to be done
  type: dict
  sample:
    revision: 18
    created: []
    updated: []
    deleted: []
    unchanged: 0
    inventory: [{action: added, item: 'link leaf3:1 - spine1:3'}]
revision:
  description: Revision of the intent after the change.
  returned: when something was to be done
  type: int
  sample: 18
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode, when something changes
  type: dict
  sample: {inventory: [{action: added, item: 'link leaf3:1 - spine1:3'}], plan: {changes: [], devices: []}}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.fabric import ensure_link
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    end = {"switch": {"type": "str", "required": True}, "port": {"type": "int", "required": True}}
    task = Task(
        {
            "a": {"type": "dict", "options": end, "required": True},
            "b": {"type": "dict", "options": end},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["b"])],
    )
    task.run(ensure_link)


if __name__ == "__main__":
    main()
