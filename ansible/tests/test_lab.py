# SPDX-License-Identifier: Apache-2.0
"""Role lab, and modules that wait for devices, with real packets in a lab of its own."""

from __future__ import annotations

import json
import tempfile
import unittest

import sandbox
import support


class Lab(unittest.TestCase):
    """A whole fabric."""

    def test_what_was_waited_for_works(self):
        with tempfile.TemporaryDirectory() as folder:
            extra = json.dumps({"bin": str(support.BIN)})
            path = support.HERE / "playbooks" / "lab.yml"
            run = support.playbook(folder, path, "--extra-vars", extra, before=sandbox.own_machine())
        self.assertEqual(run.code, 0, run.output)
        lab = [line["task"].split(" : ")[-1] for line in run.lines if line["result"].get("changed")]
        self.assertEqual(lab.count("Bring the lab up"), 1, run.output)
        self.assertEqual(lab.count("Take the lab down"), 1, run.output)
        for attachment in run.of("Attachment")["results"]:
            applied = attachment["applied"]
            self.assertEqual((applied["progress"], applied["applied"]), ("applied", applied["devices"]))
            self.assertGreater(applied["devices"], 1)
        self.assertEqual(run.of("Host")["object"]["state"], "drained")
        fabric = run.of("Fabric")
        self.assertEqual({s["status"]["state"] for s in fabric["switches"]}, {"in_sync"})


if __name__ == "__main__":
    unittest.main()
