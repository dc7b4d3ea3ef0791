"""Gets, sets and follows interfaces and host name with pygnmi.

Argument: address. Ends with status 0 only if every check held.
"""

import sys

from pygnmi.client import gNMIclient

HOST, PORT = sys.argv[1].rsplit(":", 1)


def check(what, have, want):
    """Fails the run unless two values are equal."""
    if have != want:
        raise AssertionError(f"{what}: have {have!r}, want {want!r}")
    print("ok", what)


def get(client, path, **options):
    """The values of a Get."""
    answer = client.get(path=[path], **options)
    return [update["val"] for note in answer["notification"] for update in note["update"]]


def refused(what, action):
    """Fails the run unless the server refuses."""
    try:
        action()
    except Exception as error:  # pygnmi wraps grpc errors in its own
        print("ok", what, type(error).__name__)
        return
    raise AssertionError(f"{what}: was accepted")


def updates(stream, count):
    """The next updates of a subscription as path -> value."""
    found = {}
    while len(found) < count:
        message = next(stream)
        for update in message.get("update", {}).get("update", []):
            found[update["path"]] = update["val"]
    return found


with gNMIclient(target=(HOST, PORT), insecure=True, username="", password="") as client:
    capabilities = client.capabilities()
    models = {model["name"] for model in capabilities["supported_models"]}
    check("models", {"openconfig-interfaces", "openconfig-p4rt", "openconfig-system"} <= models, True)

    status = "/interfaces/interface[name=p1]/state/oper-status"
    check("one leaf", get(client, status, encoding="json_ietf"), ["UP"])
    check("one leaf, scalar", get(client, status, encoding="proto"), ["UP"])
    check("port id", get(client, "/interfaces/interface[name=p2]/state/id", encoding="json_ietf"), [2])
    whole = get(client, "/interfaces/interface[name=p1]", encoding="json_ietf")[0]
    check("a container", whole["state"]["counters"]["in-pkts"], "0")
    ethernet = whole["openconfig-if-ethernet:ethernet"]["state"]
    check("an augmentation", ethernet["mac-address"], "02:00:00:00:00:01")
    check("a wildcard", len(get(client, "/interfaces/interface[name=*]/state/mtu", encoding="json_ietf")), 2)
    refused("an unknown interface", lambda: get(client, "/interfaces/interface[name=p9]/state", encoding="json_ietf"))
    refused("an unknown leaf", lambda: get(client, "/interfaces/interface[name=p1]/state/colour", encoding="json_ietf"))

    client.set(update=[("/system/config", {"hostname": "leaf7"})], encoding="json_ietf")
    check("host name", get(client, "/system/state/hostname", encoding="json_ietf"), ["leaf7"])
    config = "/interfaces/interface[name=p2]/config"
    client.set(update=[(config, {"mtu": 9000})], encoding="json_ietf")
    check("mtu", get(client, config + "/mtu", encoding="json_ietf"), [9000])
    refused("a bad mtu", lambda: client.set(update=[(config, {"mtu": 1})], encoding="json_ietf"))
    refused("state is read-only", lambda: client.set(update=[(status, "UP")], encoding="json_ietf"))

    once = {"subscription": [{"path": "/interfaces/interface[name=*]/state/oper-status"}], "mode": "once", "encoding": "proto"}
    check("once", len(updates(client.subscribe2(subscribe=once), 2)), 2)
    follow = {
        "subscription": [{"path": "/interfaces/interface[name=*]/state/oper-status", "mode": "on_change"}],
        "mode": "stream",
        "encoding": "proto",
    }
    stream = client.subscribe2(subscribe=follow)
    check("all at first", set(updates(stream, 2).values()), {"UP"})
    client.set(update=[(config, {"enabled": False})], encoding="json_ietf")
    check("a change", set(updates(stream, 1).values()), {"DOWN"})
    stream.close()
    sample = {
        "subscription": [{"path": "/interfaces/interface[name=p1]/state/counters/in-pkts", "mode": "sample", "sample_interval": 100_000_000}],
        "mode": "stream",
        "encoding": "proto",
    }
    stream = client.subscribe2(subscribe=sample)
    updates(stream, 1)
    check("a sample", list(updates(stream, 1).values()), [0])
    stream.close()

    # Ports come and go.
    names = "/interfaces/interface[name=*]/name"
    stream = client.subscribe2(subscribe=follow)
    updates(stream, 2)

    def port(name, number, **more):
        """An update that makes a device a port."""
        return (f"/interfaces/interface[name={name}]", {"name": name, "config": {"name": name, "openconfig-p4rt:id": number, **more}})

    def refuses(what, **operations):
        """Fails the run unless the server refuses and nothing changes."""
        refused(what, lambda: client.set(encoding="json_ietf", **operations))
        check(what + ": nothing changed", get(client, names, encoding="json_ietf"), ["p1", "p2"])

    refuses("a device that does not exist", update=[port("p9", 9)])
    refuses("a number in use", update=[port("p3", 2)])
    refuses("a port without a number", update=[("/interfaces/interface[name=p3]/config", {"enabled": True})])
    refuses("one of two operations is bad", update=[port("p3", 3), port("p9", 9)])
    refuses("a deletion and a bad update", delete=["/interfaces/interface[name=p1]"], update=[port("p9", 9)])
    client.set(update=[port("p3", 3, description="to the spine"), port("p4", 4)], encoding="json_ietf")
    check("ports are added", get(client, names, encoding="json_ietf"), ["p1", "p2", "p3", "p4"])
    third = "/interfaces/interface[name=p3]/state"
    check("number", get(client, third + "/id", encoding="json_ietf"), [3])
    check("description", get(client, third + "/description", encoding="json_ietf"), ["to the spine"])
    check("added ports are followed", set(updates(stream, 2)), {f"interfaces/interface[name={n}]/state/oper-status" for n in ("p3", "p4")})
    client.set(replace=[port("p4", 2)], delete=["/interfaces/interface[name=p2]"], encoding="json_ietf")
    check("a number is free again", get(client, "/interfaces/interface[name=p4]/state/id", encoding="json_ietf"), [2])
    gone = set()
    while "interfaces/interface[name=p2]/state/oper-status" not in gone:
        message = next(stream)
        # A path may come as text or as a message of one.
        gone |= {str(getattr(d, "path", d)) if not isinstance(d, dict) else d["path"] for d in message.get("update", {}).get("delete", [])}
    print("ok removed ports are followed")
    stream.close()
    counters = "/components/component[name=pipeline]/integrated-circuit/pipeline-counters/control-plane-traffic/state"
    check("lost packet-ins", get(client, counters + "/dropped-aggregate", encoding="json_ietf"), ["0"])

print("all checks held")
