# SPDX-License-Identifier: Apache-2.0
"""What all modules have in common: options, the connection, plans, waiting, errors.

Check mode is the controller's plan (C(?dry_run=true)); diff mode shows that plan, whether or not it is carried out.
"""

from __future__ import annotations

import random
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vfabric.fabric.plugins.module_utils import diff, settings
from ansible_collections.vfabric.fabric.plugins.module_utils.client import MAX_WAIT, Client, path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError, settings_error

# Seconds between two checks whether something has happened; randomly a little less or more.
POLL = 1.0


def change_spec():
    """The options of a change."""
    return {
        "wait": {"type": "bool", "default": False},
        "wait_timeout": {"type": "int", "default": 30},
        "reason": {"type": "str"},
    }


def owner_spec():
    """The options of a change of objects that may have an owner."""
    return {
        "owner": {"type": "str"},
        "force": {"type": "bool", "default": False},
    }


class Task:
    """A running module."""

    def __init__(self, argument_spec, changes=True, owned=False, labelled=False, **kwargs):
        spec = dict(settings.argument_spec(), **argument_spec)
        if changes:
            spec.update(change_spec())
        if owned:
            spec.update(owner_spec())
        if labelled:
            spec["labels"] = {"type": "dict"}
        self.module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **kwargs)
        self.options = self.module.params
        self.check = self.module.check_mode
        self.shows_diff = bool(self.module._diff)
        self.result = {"changed": False}
        self.client = None
        self.deadline = None

    def run(self, work):
        """Does the work of a module and ends it.

        :arg work: is given this task; it adds to C(result).
        """
        try:
            found = settings.load(self.options)
            self.module.no_log_values.add(found.token)
            if not found.validate_certs:
                self.module.warn("TLS certificates are not checked: any server that replies gets the token")
            self.client = Client(found)
            if self.options.get("wait_timeout") is not None and self.options["wait_timeout"] < 1:
                raise settings_error("wait_timeout: `%s`: expected at least one second" % self.options["wait_timeout"])
            work(self)
        except ControllerError as error:
            self.module.fail_json(**dict(self.result, **error.as_result()))
        self.module.exit_json(**self.result)

    def owned(self):
        """Parameters about the owner of the changed objects."""
        return {"owner": self.options.get("owner") or None, "force": self.options.get("force") or None}

    def query(self, **more):
        """Parameters of a change that is carried out."""
        query = dict(more, reason=self.options["reason"] or None, **self.owned())
        if self.options["wait"]:
            self.deadline = time.monotonic() + self.options["wait_timeout"]
            query["wait"] = min(self.options["wait_timeout"], MAX_WAIT)
        return query

    def plan(self, method, path, query=None, body=None, revision=None):
        """Asks the controller what a change would do. The outcome and its differences become part of the result."""
        query = dict(query or {}, dry_run=True, reason=self.options.get("reason") or None, **self.owned())
        outcome = self.client.call(method, path, query, body, revision).body
        self.result["plan"] = outcome
        return outcome

    def show(self, outcome, before=None, after=None):
        """Adds differences to the result, if they are asked for."""
        if self.shows_diff:
            self.result["diff"] = self.result.get("diff", []) + diff.of_outcome(outcome, before, after)

    def unplanned(self, why):
        """In check mode, the controller cannot plan this, because earlier tasks have not been carried out."""
        self.result["changed"] = True
        self.module.warn("not planned, as tasks before this one were not carried out: %s" % why)

    def poll(self, ask, done):
        """Asks until it is done or the time runs out; returns the last response."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self.options["wait_timeout"]
        while True:
            answer = ask()
            if done(answer) or time.monotonic() >= self.deadline:
                return answer
            time.sleep(POLL * random.uniform(0.75, 1.25))

    def outlast(self, applied):
        """Waits longer than the API itself does, until each device that is late has the change's revision.

        Users without a role of the fabric may not look at devices; they wait as long as the API does.
        """

        def late():
            try:
                devices = self.client.get(path_of("switches")) + self.client.get(path_of("hosts"))
            except ControllerError as error:
                if error.status not in (403, 404):
                    raise
                self.deadline = time.monotonic()
                return applied["waiting"]
            epochs = {device["name"]: device["status"]["epoch"] for device in devices}
            # A device that is not listed any more has nothing to apply.
            return [w for w in applied["waiting"] if epochs.get(w["device"], applied["revision"]) < applied["revision"]]

        left = self.poll(late, lambda found: not found)
        if left:
            return dict(applied, applied=applied["devices"] - len(left), waiting=left)
        return dict(applied, progress="applied", applied=applied["devices"], waiting=[])

    def expect_applied(self, applied):
        """Fails unless the devices have applied a change, or do so in time."""
        if not applied:
            return
        if applied["progress"] == "pending" and applied.get("waiting"):
            applied = self.outlast(applied)
        self.result["applied"] = applied
        if applied["progress"] == "applied":
            return
        reasons = ["%s: %s" % (w["device"], w["reason"]) for w in applied.get("waiting") or []]
        what = "some devices refuse it" if applied["progress"] == "failed" else "not all devices have applied it"
        message = "it is stored, but %s (%d of %d have applied it); %s" % (
            what,
            applied["applied"],
            applied["devices"],
            "; ".join(reasons) or "no reason is known",
        )
        raise ControllerError(message, code="not_applied")


def given(value):
    """A value without the members that were not given, at any depth."""
    if isinstance(value, dict):
        return {name: given(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [given(member) for member in value]
    return value
