# SPDX-License-Identifier: Apache-2.0
"""Documentation that all modules and plugins share."""

from __future__ import annotations


class ModuleDocFragment:
    """How to reach the controller, and what every change can be given."""

    DOCUMENTATION = r"""
options:
  config_file:
    description:
      - The configuration file of C(fabricctl), with C(server), C(ca) and C(token); paths in it are relative to the file.
      - Other options take precedence.
      - If neither this nor O(server) is given, C(~/.config/vfabric/client.yaml) is used where it exists.
      - Needs the Python package PyYAML.
      - Can also be set by the environment variable E(VFABRIC_CONFIG).
    type: path
  server:
    description:
      - Address of the controller's REST API, as in V(https://controller.example.net:8443).
      - Can also be set by the environment variable E(VFABRIC_SERVER).
    type: str
  ca_file:
    description:
      - File with the certificate authorities to trust (PEM). No other authority is trusted then.
      - If it is left out, those of the system are.
      - Can also be set by the environment variable E(VFABRIC_CA_FILE).
    type: path
  token:
    description:
      - The bearer token. It is never logged.
      - Can also be set by the environment variable E(VFABRIC_TOKEN).
    type: str
  token_file:
    description:
      - File with the bearer token. Empty lines and lines that start with V(#) are ignored.
      - Can also be set by the environment variable E(VFABRIC_TOKEN_FILE).
    type: path
  validate_certs:
    description: Whether the controller has to prove who it is. V(false) sends the token to any server that replies.
    type: bool
    default: true
  timeout:
    description: Seconds that one call may take. The time in which a call waits for devices is added.
    type: int
    default: 30
  retries:
    description:
      - How often a call is sent again if the connection was refused or the controller returned 503 or 429.
      - Random delays, which grow from half a second to eight.
    type: int
    default: 4
"""

    OWNED = r"""
options:
  owner:
    description:
      - The owner of the objects from now on, such as V(ansible) or V(file:web.yaml).
      - An object of another owner is not changed, unless O(force=true).
      - If it is left out, objects keep their owner, and an object with an owner is not changed.
    type: str
  force:
    description: Whether objects of other owners are changed, too.
    type: bool
    default: false
"""

    LABELLED = r"""
options:
  labels:
    description:
      - Labels, by which lists can be filtered; at most 32 pairs of a key and a value. An empty dictionary removes all.
      - If they are left out, existing labels stay as they are.
    type: dict
"""

    CHANGE = r"""
options:
  wait:
    description:
      - Whether to wait until every device has applied the change.
      - The task fails if a device refuses it, or if the time runs out. The change is stored nevertheless.
    type: bool
    default: false
  wait_timeout:
    description: Most seconds to wait.
    type: int
    default: 30
  reason:
    description: Why, for the history of the fabric; at most 500 octets.
    type: str
attributes:
  check_mode:
    description: The controller plans the change, and changes nothing.
    support: full
  diff_mode:
    description: Shows the controller's plan, field by field for objects and entity by entity for each device.
    support: full
notes:
  - In check mode the controller cannot see what earlier tasks would have done. If an object needs one that such a task
    would create, the task says so in a warning and counts as changed, without a plan. M(vfabric.fabric.apply) has no such gap,
    because a whole intent is planned at once.
"""
