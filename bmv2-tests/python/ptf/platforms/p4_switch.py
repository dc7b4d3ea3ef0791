"""PTF platform: a software switch that this run starts, on veth pairs that it makes.

    ptf --platform-dir .../ptf/platforms --platform p4_switch --platform-args "switch=p4-switch;ports=0-7" ...

Needs root, iproute2 and ethtool. Run it in a network namespace of its own (`unshare --net`): names of links are fixed.
Everything ends with the run.

Arguments, as KEY=VALUE with `;` between them:
    switch     program, p4-switch or simple_switch_grpc: both take the same command line  [p4-switch]
    ports      port numbers, such as 0-7 or 1,3,10                                        [0-3]
    grpcaddr   where the switch serves P4Runtime                                          [127.0.0.1:9559]
    device_id  P4Runtime's                                                                [1]
    cpu_port   port of packet-in and packet-out                                           [510]
    log        file for the switch's log                                                  [none]
"""

import atexit
import ctypes
import signal
import socket
import subprocess
import time

DEFAULTS = {
    "switch": "p4-switch",
    "ports": "0-3",
    "grpcaddr": "127.0.0.1:9559",
    "device_id": "1",
    "cpu_port": "510",
    "log": "/dev/null",
}
# Time limit; a switch needs far less, even on a busy machine.
START_SECONDS = 30


def arguments(text):
    values = dict(DEFAULTS)
    for part in filter(None, (text or "").split(";")):
        key, found, value = part.partition("=")
        if not found or key not in DEFAULTS:
            raise ValueError(f"--platform-args: `{part}`: expected one of {', '.join(DEFAULTS)} with a value")
        values[key] = value
    return values


def port_numbers(text):
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def make_link(port):
    """A veth pair; returns PTF's end and the switch's."""
    ours, theirs = f"ptf{port}", f"ptf{port}s"
    run = lambda *words: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    run("ip", "link", "add", ours, "mtu", "9500", "type", "veth", "peer", "name", theirs, "mtu", "9500")
    for name in (ours, theirs):
        # Only the tests send packets, and checksums are complete.
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as setting:
            setting.write("1")
        run("ethtool", "--offload", name, "tx", "off", "rx", "off")
        run("ip", "link", "set", name, "up")
    return ours, theirs


def end_with_parent():
    """In the switch's process: it ends with PTF, which does not always run exit handlers (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def wait_for(address, process):
    host, _, port = address.rpartition(":")
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the switch ended with {process.returncode}: see its log")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def platform_config_update(config):
    """Called by PTF: makes links and switch, and says which link is which port."""
    values = arguments(config.get("platform_args"))
    ports = {port: make_link(port) for port in port_numbers(values["ports"])}
    command = [values["switch"], "--no-p4", "--device-id", values["device_id"]]
    for port, (_, theirs) in ports.items():
        command += ["-i", f"{port}@{theirs}"]
    command += ["--", "--grpc-server-addr", values["grpcaddr"], "--cpu-port", values["cpu_port"]]
    with open(values["log"], "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent)

    def end():
        process.terminate()
        process.wait(timeout=START_SECONDS)
        for ours, _ in ports.values():
            subprocess.run(["ip", "link", "del", ours], check=False)

    atexit.register(end)
    wait_for(values["grpcaddr"], process)
    config["port_map"] = {(0, port): ours for port, (ours, _) in ports.items()}
