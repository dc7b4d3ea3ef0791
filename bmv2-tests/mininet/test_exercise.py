"""The triangle under Mininet: every host reaches every other, and Mininet's own link commands work."""

import pathlib
import sys

from mininet.log import setLogLevel
from mininet.net import Mininet

from vfabric_mininet import ExerciseTopo, P4Error, P4Host, P4RuntimeSwitch

EXERCISE = pathlib.Path(__file__).resolve().parents[1] / "exercises" / "triangle"


def main(in_namespace):
    setLogLevel("warning")
    topo = ExerciseTopo(str(EXERCISE), inNamespace=in_namespace)
    net = Mininet(topo=topo, switch=P4RuntimeSwitch, host=P4Host, controller=None)
    try:
        net.start()
        topo.finish(net)
        assert net.pingAll(timeout="2") == 0, "a ping was lost"
        h1, h2, h3 = (net.get(name) for name in ("h1", "h2", "h3"))
        net.configLinkStatus("s1", "s2", "down")
        assert net.ping([h1, h2], timeout="1") == 100, "a ping went through a link that is down"
        assert net.ping([h1, h3], timeout="2") == 0, "a link that is up lost a ping"
        net.configLinkStatus("s1", "s2", "up")
        assert net.ping([h1, h2], timeout="2") == 0, "a link that is up again lost a ping"
    finally:
        net.stop()
    print(f"inNamespace={in_namespace}: ok")


if __name__ == "__main__":
    try:
        main("--own-namespace" in sys.argv)
    except P4Error as error:
        sys.exit(f"error: {error}")
