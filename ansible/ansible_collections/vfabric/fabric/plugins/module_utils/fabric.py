# SPDX-License-Identifier: Apache-2.0
"""Objects of the inventory: switches, hosts, links; and the outcome of changes that report what they did.

Options that are not given keep the value that the object has. The API compares: an object that is as asked is
C(unchanged) in its outcome.
"""

from __future__ import annotations

from ansible_collections.vfabric.fabric.plugins.module_utils import diff
from ansible_collections.vfabric.fabric.plugins.module_utils.client import path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError
from ansible_collections.vfabric.fabric.plugins.module_utils.task import given

# States of a device that should not exist.
LEAVING = "leaving"
# The call that brings a device into a state, and the states in which none is needed.
VERBS = {
    "drained": ("drain", ("drained",)),
    "in_service": ("undrain", ("in_service", "arriving")),
    "gone": ("gone", ("gone",)),
}
DEVICE_STATES = ["present", "absent"] + sorted(VERBS)


def change(task, method, path, body=None, query=None, before=None, after=None):
    """Plans a change, or carries it out; adds what it did to the result.

    :returns: the outcome.
    """
    planned = task.check or task.shows_diff
    if planned:
        outcome = task.plan(method, path, query, body)
        task.show(outcome, before, after)
    if not task.check:
        outcome = task.client.call(method, path, task.query(**(query or {})), body).body
    task.result["changed"] = task.result["changed"] or diff.changes(outcome)
    task.result["outcome"] = {k: v for k, v in outcome.items() if k != "plan"}
    task.result["revision"] = outcome["revision"]
    if not task.check and task.options["wait"]:
        task.expect_applied(outcome.get("applied"))
    return outcome


class Device:
    """A switch or a host.

    :arg word: C(switch) or C(host).
    :arg fields: options that are its content.
    """

    def __init__(self, word, plural, fields):
        self.word = word
        self.plural = plural
        self.fields = fields

    def work(self, task):
        """Brings the device into the state that the options describe."""
        name, state = task.options["name"], task.options["state"]
        path = path_of("inventory", self.plural, name)
        item = task.client.find(path)
        if state == "absent":
            self.absent(task, path, item)
            return
        self.present(task, path, item)
        if state in VERBS:
            verb, reached = VERBS[state]
            # A planned device does not exist yet, so the controller cannot show its later state.
            item = task.client.find(path)
            if item is None:
                task.module.warn("%s `%s` does not exist, so only its addition is planned" % (self.word, name))
            elif item["state"] not in reached:
                change(task, "POST", path_of("inventory", self.plural, name, verb))
        if not task.check:
            self.settle(task, path)

    def present(self, task, path, item):
        """The device is in the inventory, with the content that was given."""
        before = item["spec"] if item else None
        wanted = {field: task.options[field] for field in self.fields}
        after = dict(before or {}, name=task.options["name"], **given(wanted))
        task.result["object"] = item or {"spec": after}
        if after == before and item["state"] != LEAVING:
            return
        try:
            change(task, "PUT", path, after, before=before, after=after)
        except ControllerError as error:
            missing = self.missing(task, error, after)
            if not missing:
                raise
            task.unplanned(missing)

    @staticmethod
    def missing(task, error, after):
        """In check mode: the leaf that earlier tasks would have added."""
        leaf = (after.get("uplink") or {}).get("switch")
        if not (task.check and leaf and error.code == "invalid"):
            return None
        if task.client.find(path_of("inventory", "switches", leaf)) is None:
            return "switch `%s` does not exist" % leaf
        return None

    def absent(self, task, path, item):
        """The device is not in the inventory, or on its way out of it."""
        if item is None:
            return
        if item["state"] != LEAVING:
            try:
                change(task, "DELETE", path, query={"cascade": task.options["cascade"]}, before=item["spec"])
            except ControllerError as error:
                if not (task.check and error.code == "in_use"):
                    raise
                task.unplanned(error.message)
        if task.check or not task.options["wait"]:
            return
        item = task.poll(lambda: task.client.find(path), lambda found: found is None)
        if item is not None:
            self.late(task, item, "it has not left")

    def settle(self, task, path):
        """Shows the device as it is; waits until it has arrived, if asked to."""
        item = task.client.get(path)
        if task.options["wait"]:
            item = task.poll(lambda: task.client.get(path), lambda found: found["state"] != "arriving")
        task.result["object"] = item
        if task.options["wait"] and item["state"] == "arriving":
            self.late(task, item, "it has not arrived")

    def late(self, task, item, what):
        """Fails because a device still exists that should not."""
        task.result["object"] = item
        reasons = "; ".join(item.get("waiting") or []) or "no reason is known"
        name = task.options["name"]
        raise ControllerError("%s `%s`: %s: %s" % (self.word, name, what, reasons), code="not_applied")


SWITCH = Device(
    "switch",
    "switches",
    ["role", "device_id", "loopback_ipv4", "loopback_ipv6", "p4runtime", "access_ports", "ports", "breakouts"],
)
HOST = Device("host", "hosts", ["uplink", "mac", "vtep_ipv4", "vtep_ipv6"])


def end_of(link, switch, port):
    """Whether a link ends at a port."""
    return any(end["switch"] == switch and end["port"] == port for end in (link["a"], link["b"]))


def ensure_link(task):
    """Creates or removes a link."""
    a, b = task.options["a"], task.options["b"]
    links = [link["spec"] for link in task.client.get(path_of("inventory"))["links"]]
    at = [link for link in links if end_of(link, a["switch"], a["port"])]
    if b:
        same = [link for link in at if end_of(link, b["switch"], b["port"])]
    else:
        same = at
    if task.options["state"] == "absent":
        for link in same:
            change(task, "DELETE", path_of("inventory", "links", a["switch"], a["port"]), before=link)
        return
    task.result["object"] = {"spec": {"a": a, "b": b}}
    if same:
        return
    try:
        change(task, "POST", path_of("inventory", "links"), {"a": a, "b": b}, after={"a": a, "b": b})
    except ControllerError as error:
        if not (task.check and error.code == "invalid"):
            raise
        for end in (a, b):
            if task.client.find(path_of("inventory", "switches", end["switch"])) is None:
                task.unplanned("switch `%s` does not exist" % end["switch"])
                return
        raise
