#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Intent files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: Apply an intent to a fabric as one transaction
version_added: 0.1.0
description:
  - Brings vDCs with their networks, routers and attachments into the state that an intent describes. All of it happens, or nothing.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
  - vfabric.fabric.controller.owned
options:
  intent:
    description: The intent, as in an intent file of C(fabricctl apply).
    type: dict
  src:
    description:
      - An intent file (YAML) on the machine that the task runs on.
      - Needs the Python package PyYAML.
    type: path
  prune:
    description: Also deletes objects of the named vDCs that the intent does not name.
    type: bool
    default: false
seealso:
  - module: vfabric.fabric.plan
"""

EXAMPLES = r"""
- name: An intent file
  vfabric.fabric.apply:
    src: /etc/vfabric/intent.yaml
    prune: true
    wait: true
    reason: release 12

- name: An intent from variables
  vfabric.fabric.apply:
    intent:
      vdcs:
        - name: blue
          networks:
            - name: web
              subnets: [{cidr: 10.0.0.0/24}]

- name: Empty a vDC
  vfabric.fabric.apply:
    intent: {vdcs: [{name: red}]}
    prune: true
"""

RETURN = r"""
outcome:
  description: What was done, or would be done in check mode.
  returned: success
  type: dict
  sample:
    revision: 19
    created: [{vdc: blue, kind: network, name: web}]
    updated: []
    deleted: []
    unchanged: 1
revision:
  description: Revision of the intent after the change.
  returned: success
  type: int
  sample: 19
applied:
  description: How many devices have applied it, and why the others have not.
  returned: when O(wait=true)
  type: dict
  sample: {revision: 19, progress: applied, devices: 4, applied: 4}
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode
  type: dict
  sample:
    created: [{vdc: blue, kind: network, name: web}]
    plan: {changes: [], devices: []}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.document import apply
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    task = Task(
        {
            "intent": {"type": "dict"},
            "src": {"type": "path"},
            "prune": {"type": "bool", "default": False},
        },
        owned=True,
        mutually_exclusive=[("intent", "src")],
        required_one_of=[("intent", "src")],
    )
    task.run(apply)


if __name__ == "__main__":
    main()
