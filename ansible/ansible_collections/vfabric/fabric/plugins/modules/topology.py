#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Topology files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: topology
short_description: Bring a fabric's inventory into the state of a topology
version_added: 0.1.0
description:
  - Makes the controller's inventory of switches, links and hosts equal to a topology, in one transaction. What the topology
    does not name is removed.
author: The vfabric authors (!UNKNOWN)
extends_documentation_fragment:
  - vfabric.fabric.controller
  - vfabric.fabric.controller.change
options:
  topology:
    description: The topology, as in a topology file of C(fabricctl inventory import).
    type: dict
  src:
    description:
      - A topology file (YAML) on the machine that the task runs on.
      - Needs the Python package PyYAML.
    type: path
seealso:
  - module: vfabric.fabric.switch
  - module: vfabric.fabric.host
  - module: vfabric.fabric.link
"""

EXAMPLES = r"""
- name: The fabric is as the file says
  vfabric.fabric.topology:
    src: /etc/vfabric/topology.yaml
    wait: true
"""

RETURN = r"""
outcome:
  description: What was done, or would be done in check mode.
  returned: success
  type: dict
  sample:
    revision: 20
    created: []
    updated: []
    deleted: []
    unchanged: 11
    inventory: [{action: added, item: 'host `host5`'}]
revision:
  description: Revision of the intent after the change.
  returned: success
  type: int
  sample: 20
applied:
  description: How many devices have applied it, and why the others have not.
  returned: when O(wait=true)
  type: dict
  sample: {revision: 20, progress: applied, devices: 4, applied: 4}
plan:
  description: The controller's plan.
  returned: in check mode and in diff mode
  type: dict
  sample:
    inventory: [{action: added, item: 'host `host5`'}]
    plan: {changes: [], devices: []}
"""

from ansible_collections.vfabric.fabric.plugins.module_utils.document import import_topology
from ansible_collections.vfabric.fabric.plugins.module_utils.task import Task


def main():
    """Runs the module."""
    task = Task(
        {"topology": {"type": "dict"}, "src": {"type": "path"}},
        mutually_exclusive=[("topology", "src")],
        required_one_of=[("topology", "src")],
    )
    task.run(import_topology)


if __name__ == "__main__":
    main()
