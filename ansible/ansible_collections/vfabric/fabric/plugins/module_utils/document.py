# SPDX-License-Identifier: Apache-2.0
"""Whole documents: an intent file, a topology file."""

from __future__ import annotations

from ansible_collections.vfabric.fabric.plugins.module_utils import diff, settings
from ansible_collections.vfabric.fabric.plugins.module_utils.client import path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.fabric import change
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import settings_error


def read(task, name):
    """The document in the option of that name, or in the file that C(src) names."""
    given = task.options[name]
    if given is not None:
        return given
    path = task.options["src"]
    if path is None:
        return None
    if settings.yaml is None:
        raise settings_error("src: the Python package PyYAML is needed to read %s" % path)
    try:
        found = settings.yaml.safe_load(settings.read(path, "src"))
    except settings.yaml.YAMLError as error:
        raise settings_error("src: %s is not YAML: %s" % (path, error)) from error
    if not isinstance(found, dict):
        raise settings_error("src: %s: expected a document with members at its top" % path)
    return found


def apply(task):
    """Applies an intent as one transaction."""
    change(task, "POST", path_of("apply"), read(task, "intent"), {"prune": task.options["prune"]})


def import_topology(task):
    """Makes the inventory equal to a topology."""
    change(task, "PUT", path_of("inventory"), read(task, "topology"))


def plan(task):
    """Plans an intent, or a topology, and changes nothing."""
    if task.options["topology"] is not None:
        outcome = task.plan("PUT", path_of("inventory"), None, task.options["topology"])
    else:
        outcome = task.plan("POST", path_of("apply"), {"prune": task.options["prune"]}, read(task, "intent"))
    task.show(outcome)
    task.result["would_change"] = diff.changes(outcome)
