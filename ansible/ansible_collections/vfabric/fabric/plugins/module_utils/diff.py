# SPDX-License-Identifier: Apache-2.0
"""A plan of the controller as differences that Ansible shows.

One difference for each object that changes, field by field, and one for each device, entity by entity.
"""

from __future__ import annotations

import json


def changes(outcome):
    """Whether an outcome, planned or real, changes anything."""
    return any(outcome.get(what) for what in ("created", "updated", "deleted", "inventory"))


def of_outcome(outcome, before=None, after=None):
    """The differences of an outcome with a plan.

    :arg before: content of the object that the task is about, if it is there.
    :arg after: content that it is to have; None if it is to be absent.
    """
    plan = outcome.get("plan") or {}
    found = []
    for key in outcome.get("created") or []:
        own = after if after and after.get("name") == key["name"] else {"name": key["name"]}
        found.append(entry(title(key), "", document(own)))
    for change in plan.get("changes") or []:
        found.append(entry(title(change["key"]), *fields(change["fields"], "before", "after")))
    for key in outcome.get("deleted") or []:
        own = before if before and before.get("name") == key["name"] else {"name": key["name"]}
        found.append(entry(title(key), document(own), ""))
    found += [item(change, before, after) for change in outcome.get("inventory") or []]
    found += [device(d, "") for d in plan.get("devices") or []]
    found += [{"prepared": "waits: %s\n" % wait} for wait in plan.get("waits") or []]
    found += [device(d, " (later)") for d in plan.get("later") or []]
    return found


def entry(header, before, after):
    """One difference, in the form that callbacks know."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def title(key):
    """Names an object."""
    if key["kind"] == "vdc":
        return "vdc %s" % key["vdc"]
    return "%s %s/%s" % (key["kind"], key["vdc"], key["name"])


def text(value):
    """A value on one line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def document(content):
    """The members of an object, one a line."""
    return "".join("%s: %s\n" % (name, text(content[name])) for name in sorted(content))


def fields(changed, old, new):
    """Changed fields before and after."""

    def side(name):
        return "".join("%s: %s\n" % (f["field"], text(f[name])) for f in changed if f.get(name) is not None)

    return side(old), side(new)


def item(change, before, after):
    """The difference of an object of the inventory."""
    header, action = change["item"], change["action"]
    if change.get("fields"):
        return entry(header, *fields(change["fields"], "from", "to"))
    return entry(
        header,
        "" if action == "added" else document(before or {"item": header}),
        "" if action == "removed" else document(after or {"item": header}),
    )


def device(plan, when):
    """The entities that a device would get and lose."""

    def side(name):
        held = (e for e in plan["entities"] if e.get(name) is not None)
        return "".join("%s %s: %s\n" % (e["table"], e["key"], e[name]) for e in held)

    return entry("device %s%s" % (plan["device"], when), side("before"), side("after"))
