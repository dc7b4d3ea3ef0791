# SPDX-License-Identifier: Apache-2.0
"""Sandboxes for tests: nothing that happens inside is left on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import support

# Makes a root that is this machine's, with all changes in memory; says when it is ready, and lasts as long as its input.
COPY = r"""
set -e
at=$1
shift
mount -t tmpfs none "$at"
mkdir "$at/upper" "$at/work" "$at/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$at/root"
for path in /proc /sys /dev "$@"; do
    mkdir -p "$at/root$path"
    mount --rbind "$path" "$at/root$path"
done
mount -t tmpfs none "$at/root/run"
echo ready
exec cat
"""


class Copy:
    """A copy of this machine's files in a mount namespace, as the root of commands. Processes and network are shared."""

    def __init__(self, folder):
        at = Path(folder) / "copy"
        at.mkdir()
        # Mounts below the root are not part of an overlay on it.
        shared = {support.CHECKOUT, support.BIN.resolve(), support.SCRIPTS.parent, Path(sys.base_prefix), Path(folder)}
        shared = [path for path in shared if Path("/usr") != path]
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", COPY, "copy", at, *sorted(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("cannot make a copy of the machine: root's rights and overlayfs are needed")
        self.root = at / "root"
        namespace = "/proc/%d/ns/mnt" % self.process.pid
        # Inside, systemctl knows that it cannot talk to systemd.
        self.before = ["nsenter", "--mount=" + namespace, "chroot", str(self.root), "env", "SYSTEMD_OFFLINE=1"]

    def run(self, *command, check=True):
        """Runs a command inside."""
        done = subprocess.run([*self.before, *command], capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise RuntimeError("%s: %s%s" % (command, done.stdout, done.stderr))
        return done

    def read(self, path):
        """The text of a file inside."""
        return self.run("cat", path).stdout

    def close(self):
        """Everything inside is gone."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def own_machine(*command):
    """A command in namespaces of its own for network, mounts and processes, with an empty /run."""
    script = 'mount -t tmpfs none /run && ip link set lo up && exec "$@"'
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*unshare, "sh", "-c", script, "own-machine", *map(os.fspath, command)]
