# SPDX-License-Identifier: Apache-2.0
"""Writes each task's result to a file, one JSON document a line, for the tests."""

from __future__ import annotations

DOCUMENTATION = r"""
name: record
type: notification
short_description: Writes results to a file
description:
  - Writes each task's result to the file in E(RECORD_FILE).
"""

import json
import os

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """The plugin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"

    def write(self, kind, result):
        """Appends a result."""
        line = {"kind": kind, "task": result.task_name, "result": result.result}
        with open(os.environ["RECORD_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        """A task that succeeded."""
        self.write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """A task that failed."""
        self.write("failed", result)

    def v2_runner_on_skipped(self, result):
        """A task that was left out."""
        self.write("skipped", result)

    def v2_runner_on_unreachable(self, result):
        """A task whose host was not reached."""
        self.write("unreachable", result)
