# SPDX-License-Identifier: Apache-2.0
"""What the field's own tools say of the collection: ansible-lint, ansible-doc, ansible-test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support
import yaml

# ansible-test makes environments without pip, and loads a script that installs it from a site of its own. This takes pip
# from the registry instead, with the pip of the environment that runs the tests.
BOOTSTRAP = """
import subprocess
import sys

wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.run([{python!r}, "-m", "pip", "--python", sys.executable, "install", *wanted], check=True)
"""
# The version of Python that runs the tests; others may not be there.
PYTHON = "%d.%d" % sys.version_info[:2]
# Tests of ansible-test that need more than a minute to install what they need, or that ansible-lint makes as well. All
# of them: `ansible-test sanity --local --requirements` in a folder `ansible_collections/vfabric/fabric`.
LEFT_OUT = ["ansible-doc", "changelog", "pep8", "pylint", "runtime-metadata", "shellcheck", "pslint", "yamllint"]


class Style(unittest.TestCase):
    """Tools of the field."""

    def run_tool(self, *command, cwd=support.COLLECTIONS, **env):
        """Runs a tool, which has to succeed; returns what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            environment = support.environment(folder, RECORD_FILE="/dev/null", LC_ALL="C.UTF-8", **env)
            done = subprocess.run(
                [support.SCRIPTS / command[0], *command[1:]],
                cwd=cwd,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        self.assertEqual(done.returncode, 0, done.stdout[-5000:] + done.stderr[-5000:])
        return done.stdout

    def test_ansible_lint_has_nothing_to_say(self):
        lint = ("ansible-lint", "--offline", "--nocolor", "--profile", "production", "--strict")
        self.run_tool(*lint, "ansible_collections/vfabric/fabric", "tests/playbooks")

    def test_everything_is_documented(self):
        documented = json.loads(self.run_tool("ansible-doc", "--metadata-dump", "--no-fail-on-errors", "vfabric.fabric"))["all"]
        for kind, folder, pattern in [("module", "plugins/modules", "*.py"), ("inventory", "plugins/inventory", "*.py"), ("role", "roles", "*")]:
            names = {"vfabric.fabric." + path.stem for path in (support.COLLECTION / folder).glob(pattern)}
            self.assertEqual(set(documented[kind]), names)
            for name, content in documented[kind].items():
                self.assertNotIn("error", content, name)
                if kind == "module":
                    self.assertTrue(content["doc"] and content["examples"] and content["return"], name)
        runtime = yaml.safe_load((support.COLLECTION / "meta" / "runtime.yml").read_text(encoding="utf-8"))
        modules = {name.rpartition(".")[2] for name in documented["module"]}
        groups = runtime["action_groups"]
        self.assertEqual(set(groups["controller"]), modules)
        changes = {m for m in modules if "reason" in documented["module"]["vfabric.fabric." + m]["doc"]["options"]}
        self.assertEqual(set(groups["changes"]), changes)
        galaxy = yaml.safe_load((support.COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))
        log = yaml.safe_load((support.COLLECTION / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))
        self.assertIn(galaxy["version"], log["releases"])

    def test_the_collection_is_built_and_installed(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_tool("ansible-galaxy", "collection", "build", str(support.COLLECTION), "--output-path", folder)
            archives = list(Path(folder).glob("vfabric-fabric-*.tar.gz"))
            self.assertEqual(len(archives), 1)
            self.run_tool("ansible-galaxy", "collection", "install", "--offline", str(archives[0]), "--force", "-p", folder)
            self.assertTrue((Path(folder) / "ansible_collections/vfabric/fabric/plugins/modules/vdc.py").exists())

    def test_ansible_test_finds_nothing(self):
        # Its environments are kept beside that of the tests.
        home = support.SCRIPTS.parent / "ansible-test"
        cache = home / ".ansible" / "test" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "get_pip_24_2.py").write_text(BOOTSTRAP.format(python=str(support.SCRIPTS / "python")), encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder) / "ansible_collections" / "vfabric" / "fabric"
            shutil.copytree(support.COLLECTION, at, ignore=shutil.ignore_patterns(".ansible", "__pycache__"))
            skip = [argument for test in LEFT_OUT for argument in ("--skip-test", test)]
            self.run_tool(
                *("ansible-test", "sanity", "--local", "--requirements", "--color", "no", "--python", PYTHON),
                *skip,
                cwd=at,
                HOME=str(home),
            )


if __name__ == "__main__":
    unittest.main()
