"""Our fabric under Mininet: pings inside a vDC get replies, those between vDCs never do, also while links are down.

    test_fabric.py [SWITCH]      with another switch, such as simple_switch_grpc
"""

import pathlib
import sys

from mininet.log import setLogLevel

from vfabric_fabric import FabricNet, P4Error

FABRIC = pathlib.Path(__file__).resolve().with_name("fabric")


def all_reach(net, hosts):
    assert net.ping(hosts, timeout="2") == 0, f"of {hosts}, a ping was lost"
    assert net.ping6(hosts) == 0, f"of {hosts}, an IPv6 ping was lost"


def none_reaches(net, ours, theirs):
    for a in ours:
        for b in theirs:
            assert net.ping([a, b], timeout="1") == 100, f"{a} and {b}: a ping was answered"
            assert net.ping6([a, b], timeout="1") == 100, f"{a} and {b}: an IPv6 ping was answered"


def main(switch):
    setLogLevel("warning")
    net = FabricNet(FABRIC / "topology.yaml", FABRIC / "intent.yaml", sw_path=switch)
    try:
        net.start()
        blue, red = net.workloads("blue"), net.workloads("red")
        all_reach(net, blue)
        all_reach(net, red)
        none_reaches(net, blue, red)
        # simple_switch_grpc stops reading its ports once one of its interfaces was set down.
        if not switch:
            links(net, blue)
    finally:
        net.stop()
    print(f"fabric on {switch or 'p4-switch'}: ok")


def links(net, blue):
    web1, web2, db1, db2 = blue
    net.configLinkStatus("leaf1", "spine1", "down")
    net.wait_for_links(3)
    all_reach(net, blue)
    net.configLinkStatus("leaf1", "spine2", "down")
    net.wait_for_links(2)
    all_reach(net, [web1, db1])
    all_reach(net, [web2, db2])
    none_reaches(net, [web1, db1], [web2, db2])
    net.configLinkStatus("leaf1", "spine1", "up")
    net.configLinkStatus("leaf1", "spine2", "up")
    net.wait_for_links(4)
    all_reach(net, blue)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
    except P4Error as error:
        sys.exit(f"error: {error}")
