# SPDX-License-Identifier: Apache-2.0
"""Objects of tenants: vDCs, networks, routers, attachments.

Options that are not given keep the value that the object has; of a new object, they get the API's default. An update is
based on what was read (C(If-Match)): if somebody else changes the object meanwhile, it is read again, a few times.
Whether contents are the same is for the controller to say: a write that changes nothing leaves the object's revision.
"""

from __future__ import annotations

from ansible_collections.vfabric.fabric.plugins.module_utils import diff
from ansible_collections.vfabric.fabric.plugins.module_utils.client import path_of
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError
from ansible_collections.vfabric.fabric.plugins.module_utils.task import given

# How often an object is read and written before the module gives up against other writers.
ATTEMPTS = 4


class Kind:
    """A kind of object.

    :arg word: its name, as in C(network).
    :arg fields: options that are its content.
    :arg needs: function of a content; the paths of objects and devices that it names, as words and paths.
    """

    def __init__(self, word, fields, needs):
        self.word = word
        self.fields = fields
        self.needs = needs


def needs_nothing(vdc, spec):
    """A vDC does not depend on other objects."""
    return []


def network_of(vdc, name):
    """The words and the path of a network."""
    return ("network `%s` of vdc `%s`" % (name, vdc), path_of("vdcs", vdc, "networks", name))


def inside_vdc(vdc, spec):
    """What objects in a vDC depend on: the vDC, the networks that they name, and a place."""
    found = [("vdc `%s`" % vdc, path_of("vdcs", vdc))]
    names = list(spec.get("networks") or [])
    if spec.get("network"):
        names.append(spec["network"])
    found += [network_of(vdc, name) for name in names]
    place = spec.get("place") or {}
    if place.get("host"):
        name = place["host"]["host"]
        found.append(("host `%s`" % name, path_of("inventory", "hosts", name)))
    if place.get("port"):
        name = place["port"]["switch"]
        found.append(("switch `%s`" % name, path_of("inventory", "switches", name)))
    return found


VDC = Kind("vdc", ["description", "hosts", "ports", "vnis", "address_pools", "limits", "labels"], needs_nothing)
NETWORK = Kind("network", ["subnets", "mtu", "vni", "labels"], inside_vdc)
ROUTER = Kind("router", ["networks", "routes", "labels"], inside_vdc)
ATTACHMENT = Kind(
    "attachment", ["network", "mac", "ips", "place", "port_security", "allowed_addresses", "labels"], inside_vdc
)


def ensure(kind):
    """The work of a module for a kind."""

    def work(task):
        Ensure(task, kind).run()

    return work


class Ensure:
    """Brings one object into the state that the options describe."""

    def __init__(self, task, kind):
        self.task = task
        self.kind = kind
        self.name = task.options["name"]
        self.vdc = task.options.get("vdc") or self.name
        if kind is VDC:
            self.collection = path_of("vdcs")
            self.path = path_of("vdcs", self.name)
        else:
            self.collection = path_of("vdcs", self.vdc, kind.word + "s")
            self.path = path_of("vdcs", self.vdc, kind.word + "s", self.name)
        # Codes of errors which mean that somebody else changed the object since it was read.
        self.races = ()

    def run(self):
        """Does it."""
        act = self.present if self.task.options["state"] == "present" else self.absent
        for attempt in range(ATTEMPTS):
            try:
                act()
                return
            except ControllerError as error:
                if error.code not in self.races or attempt + 1 == ATTEMPTS:
                    raise

    def present(self):
        """The object is there, with the content that was given."""
        self.races = ()
        view = self.task.client.find(self.path)
        self.races = ("precondition_failed", "not_found") if view else ("already_exists",)
        before = view["spec"] if view else None
        wanted = {name: self.task.options[name] for name in self.kind.fields}
        if wanted["labels"] is not None:
            wanted["labels"] = {key: str(value) for key, value in wanted["labels"].items()}
        after = dict(before or {}, name=self.name, **given(wanted))
        if after.get("labels") == {}:
            # The controller shows no labels where there are none.
            del after["labels"]
        owner = self.task.options["owner"]
        if after == before and owner in (None, view.get("owner")):
            self.finish(view)
            return
        method, path = ("PUT", self.path) if view else ("POST", self.collection)
        revision = view["revision"] if view else None
        if not self.planned(method, path, before, after, revision):
            return
        if self.task.check:
            self.task.result["object"] = {"spec": after}
            return
        answer = self.task.client.call(method, path, self.task.query(), after, revision)
        self.races = ()
        changed = answer.body["revision"] != revision if view else answer.status == 201
        self.task.result["changed"] = changed
        self.finish(answer.body)

    def absent(self):
        """The object is not there."""
        self.races = ()
        view = self.task.client.find(self.path)
        self.races = ("not_found",)
        if view is None:
            return
        if not self.planned("DELETE", self.path, view["spec"], None, None) or self.task.check:
            return
        outcome = self.task.client.call("DELETE", self.path, self.task.query()).body
        self.races = ()
        self.task.result.update(changed=True, revision=outcome["revision"])
        self.task.expect_applied(outcome.get("applied"))

    def planned(self, method, path, before, after, revision):
        """Plans where that is asked for; false if there is nothing more to do."""
        if not (self.task.check or self.task.shows_diff):
            return True
        try:
            outcome = self.task.plan(method, path, None, after, revision)
        except ControllerError as error:
            why = self.why_unplanned(error, after)
            if not why:
                raise
            self.task.unplanned(why)
            if self.task.shows_diff:
                header = diff.title({"kind": self.kind.word, "vdc": self.vdc, "name": self.name})
                sides = [diff.document(spec) if spec else "" for spec in (before, after)]
                self.task.result["diff"] = [diff.entry(header, *sides)]
            return False
        self.task.result["changed"] = diff.changes(outcome)
        # Somebody else's change has made the last attempt's plan obsolete.
        self.task.result.pop("diff", None)
        self.task.show(outcome, before, after)
        return True

    def why_unplanned(self, error, after):
        """In check mode: what is missing, or still there, because earlier tasks were not carried out."""
        if not self.task.check:
            return None
        if after is None:
            return error.message if error.code == "in_use" else None
        if error.code not in ("not_found", "invalid"):
            return None
        for words, path in self.kind.needs(self.vdc, after):
            if self.task.client.is_missing(path):
                return "%s does not exist" % words
        return None

    def finish(self, view):
        """The object is stored as desired; waits for devices if asked to."""
        waits = self.task.options["wait"] and not self.task.check
        if waits and (view.get("applied") or {}).get("progress") == "pending":
            view = self.task.poll(
                lambda: self.task.client.get(self.path), lambda v: v["applied"]["progress"] != "pending"
            )
        self.task.result.update(object=view, revision=view["revision"])
        if waits:
            self.task.expect_applied(view.get("applied"))
