# SPDX-License-Identifier: Apache-2.0
"""The client and the modules' logic without a controller: what is sent, what is repeated, what is said."""

from __future__ import annotations

import io
import json
import ssl
import sys
import unittest
from email.message import Message
from unittest import mock
from urllib.error import HTTPError, URLError

import support

sys.path.insert(0, str(support.COLLECTIONS))

from ansible_collections.vfabric.fabric.plugins.module_utils import diff, settings, task, tenant  # noqa: E402
from ansible_collections.vfabric.fabric.plugins.module_utils.client import Client, path_of  # noqa: E402
from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError  # noqa: E402

TOKEN = "0123456789abcdef" * 4


def problem(status, code, retry_after=None, **more):
    """An answer that refuses."""
    body = json.dumps(dict({"code": code, "detail": "so it is"}, **more)).encode()
    headers = Message()
    if retry_after:
        headers["Retry-After"] = retry_after
    return HTTPError("https://c", status, "reason", headers, io.BytesIO(body))


class Response:
    """An answer of success."""

    def __init__(self, body, status=200):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status

    def getcode(self):
        """The status."""
        return self.status

    def read(self, most):
        """The body."""
        return self.body[:most]


class Calls(unittest.TestCase):
    """A client whose network is a list."""

    def client(self, *answers, **more):
        """A client that gets these answers, one after the other."""
        self.sent, self.slept = [], []
        answers = list(answers)

        def opener(url, **options):
            self.sent.append((options["method"], url, options))
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return Client(settings.Settings("https://c:1/", TOKEN, **more), opener, self.slept.append)

    def fails(self, client, *call, **more):
        """The error of a call, without the token."""
        with self.assertRaises(ControllerError) as caught:
            client.call(*call, **more)
        self.assertNotIn(TOKEN, str(caught.exception.as_result()))
        return caught.exception

    def test_what_is_sent(self):
        client = self.client(Response({"a": 1}), ca_file="/ca.pem")
        query = {"dry_run": True, "reason": "a&b ü", "wait": 1.5, "prune": False, "none": None}
        answer = client.call("PUT", path_of("vdcs", "a/b?"), query, {"name": "x"}, revision=7)
        method, url, options = self.sent[0]
        self.assertEqual((method, answer.body), ("PUT", {"a": 1}))
        self.assertEqual(url, "https://c:1/v1/vdcs/a%2Fb%3F?dry_run=true&reason=a%26b+%C3%BC&wait=1.5")
        self.assertEqual(options["headers"]["If-Match"], '"7"')
        self.assertEqual(options["headers"]["Authorization"], "Bearer " + TOKEN)
        self.assertEqual((options["ca_path"], options["validate_certs"]), ("/ca.pem", True))
        # The token goes nowhere else.
        self.assertEqual((options["use_proxy"], options["use_netrc"], options["follow_redirects"]), (False, False, "none"))
        # Waiting comes on top.
        self.assertEqual(options["timeout"], 31.5)

    def test_only_what_did_nothing_is_repeated(self):
        refused = URLError(ConnectionRefusedError(111, "refused"))
        for answers, times in [
            ([problem(503, "unavailable"), refused, Response({})], 3),
            ([refused] * 5, 5),
            ([problem(500, "internal")], 1),
            ([problem(409, "taken")], 1),
            ([URLError(TimeoutError())], 1),
            ([ConnectionResetError()], 1),
        ]:
            with self.subTest(answers):
                client = self.client(*answers)
                if isinstance(answers[-1], Response):
                    client.call("PUT", "/v1/x")
                else:
                    self.fails(client, "PUT", "/v1/x")
                self.assertEqual((len(self.sent), len(self.slept)), (times, times - 1))
                self.assertTrue(all(0 <= s <= 0.5 * 2**i for i, s in enumerate(self.slept)), self.slept)
        for value, least in [("3", 3), ("3600", 8), ("Sun, 29 Nov 2026 10:00:00 GMT", 0)]:
            client = self.client(problem(429, "too_many", value), Response({}))
            client.call("POST", "/v1/x")
            self.assertTrue(least <= self.slept[0] <= least + 0.5, self.slept)
        self.fails(self.client(refused), "POST", "/v1/x", idempotent=False)
        self.assertEqual(len(self.sent), 1)

    def test_what_is_said(self):
        field = {"field": "place.host.host", "value": "h9", "expected": "the name of a host"}
        expired = ssl.SSLCertVerificationError(1, "verify failed")
        expired.verify_message = "certificate has expired"
        for answer, words in [
            (problem(422, "invalid", errors=[field], request_id="r1"), "(invalid): so it is; place.host.host: `h9`: expected the name"),
            (HTTPError("u", 502, "m", Message(), io.BytesIO(b"<html>proxy")), "HTTP status 502, which is not this API's: <html>proxy"),
            (HTTPError("u", 301, "m", Message(), io.BytesIO(b"")), "HTTP status 301"),
            (Response(b"<html>"), "HTTP status 200, which is not this API's: <html>"),
            (URLError(TimeoutError()), "did not answer GET /v1/x within 30 s"),
            (TimeoutError(), "did not answer GET /v1/x within 30 s"),
            (URLError(expired), "is not valid for the system's authorities: certificate has expired"),
        ]:
            with self.subTest(words):
                self.assertIn(words, self.fails(self.client(answer), "GET", "/v1/x").message)

    def test_listings_have_pages(self):
        client = self.client(Response({"items": [1], "next": "a"}), Response({"items": [2]}))
        self.assertEqual(client.list("/v1/vdcs"), [1, 2])
        self.assertEqual([url for _, url, _ in self.sent], ["https://c:1/v1/vdcs?limit=1000", "https://c:1/v1/vdcs?limit=1000&after=a"])


class Task:
    """A task without Ansible."""

    def __init__(self, client, options):
        self.client = client
        defaults = {"state": "present", "wait": False, "owner": None, "force": False}
        self.options = {**defaults, **dict.fromkeys(tenant.VDC.fields), **options}
        self.check = self.shows_diff = False
        self.result = {"changed": False}

    def query(self):
        """Nothing special."""
        return {}


class Races(Calls):
    """Somebody else changes the object at the same time."""

    @staticmethod
    def view(revision, **spec):
        """A vDC at a revision."""
        return Response({"spec": dict({"name": "v"}, **spec), "revision": revision})

    def test_an_update_is_based_on_what_was_read(self):
        client = self.client(
            self.view(4, hosts=["a"]),
            problem(412, "precondition_failed"),
            self.view(5, hosts=["b"]),
            self.view(6, hosts=["b"], description="d"),
        )
        running = Task(client, {"name": "v", "description": "d"})
        tenant.ensure(tenant.VDC)(running)
        self.assertEqual([(m, o["headers"].get("If-Match")) for m, _, o in self.sent], [("GET", None), ("PUT", '"4"'), ("GET", None), ("PUT", '"5"')])
        # What the other one wrote stays.
        self.assertEqual(json.loads(self.sent[3][2]["data"]), {"name": "v", "hosts": ["b"], "description": "d"})
        self.assertTrue(running.result["changed"])

    def test_it_gives_up_after_some_attempts(self):
        answers = [a for _ in range(tenant.ATTEMPTS) for a in (self.view(4), problem(412, "precondition_failed"))]
        running = Task(self.client(*answers), {"name": "v", "description": "d"})
        with self.assertRaises(ControllerError):
            tenant.ensure(tenant.VDC)(running)
        self.assertEqual(len(self.sent), 2 * tenant.ATTEMPTS)

    def test_created_or_deleted_by_another_is_as_good(self):
        gone = problem(404, "not_found")
        client = self.client(gone, problem(409, "already_exists"), self.view(9, description="d"))
        running = Task(client, {"name": "v", "description": "d"})
        tenant.ensure(tenant.VDC)(running)
        self.assertFalse(running.result["changed"])
        client = self.client(self.view(9), problem(404, "not_found"), problem(404, "not_found"))
        running = Task(client, {"name": "v", "state": "absent"})
        tenant.ensure(tenant.VDC)(running)
        self.assertFalse(running.result["changed"])

    def test_a_write_that_changes_nothing_is_no_change(self):
        client = self.client(self.view(4, description="D"), self.view(4, description="D"))
        running = Task(client, {"name": "v", "description": "d"})
        tenant.ensure(tenant.VDC)(running)
        self.assertFalse(running.result["changed"])


class Waiting(Calls):
    """Devices that need longer than the API itself waits."""

    APPLIED = {"revision": 7, "progress": "pending", "devices": 3, "applied": 1}
    WAITING = [{"device": name, "reason": "not confirmed yet"} for name in ("leaf1", "host1")]

    def outcome(self, *epochs, timeout):
        """How a change ends; the leaf is at one revision after the other."""
        answers = []
        for epoch in epochs:
            leaf = {"name": "leaf1", "status": {"epoch": epoch}}
            answers += [Response([leaf]), Response([{"name": "host1", "status": {"epoch": 9}}])]
        waiting = task.Task.__new__(task.Task)
        waiting.client = self.client(*answers)
        waiting.options = {"wait_timeout": timeout}
        waiting.result, waiting.deadline = {}, None
        with mock.patch.object(task, "POLL", 0.0):
            waiting.expect_applied(dict(self.APPLIED, waiting=self.WAITING))
        return waiting.result["applied"]

    def test_devices_are_waited_for_until_they_have_the_revision(self):
        applied = self.outcome(5, 6, 7, timeout=60)
        self.assertEqual((applied["progress"], applied["applied"], applied["waiting"]), ("applied", 3, []))
        self.assertEqual(len(self.sent), 6)

    def test_only_devices_that_are_late_are_named(self):
        with self.assertRaises(ControllerError) as caught:
            self.outcome(6, timeout=0)
        self.assertIn("(2 of 3 have applied it); leaf1: not confirmed yet", caught.exception.message)
        self.assertNotIn("host1", caught.exception.message)


class Settings(unittest.TestCase):
    """Where settings come from."""

    def test_the_first_line_that_is_a_token_counts(self):
        self.assertEqual(settings.first_token("# old\n\n  abc  \ndef\n"), "abc")
        self.assertEqual(settings.first_token("# none\n"), "")

    def test_nothing_secret_is_in_its_text(self):
        self.assertNotIn(TOKEN, repr(settings.Settings("https://c", TOKEN)))

    def test_a_file_without_pyyaml_is_a_clear_error(self):
        with mock.patch.object(settings, "yaml", None), self.assertRaises(ControllerError) as caught:
            settings.load({"config_file": "/x"})
        self.assertIn("PyYAML", caught.exception.message)


class Differences(unittest.TestCase):
    """Plans as differences."""

    def test_each_object_and_each_device_has_one(self):
        key = {"vdc": "v", "kind": "network", "name": "n"}
        outcome = {
            "created": [{"vdc": "v", "kind": "vdc", "name": "v"}],
            "updated": [key],
            "deleted": [dict(key, name="old")],
            "inventory": [
                {"action": "changed", "item": "switch `s`", "fields": [{"field": "role", "from": "a", "to": "b"}]},
                {"action": "removed", "item": "host `h`"},
            ],
            "plan": {
                "changes": [{"key": key, "fields": [{"field": "mtu", "before": 1500, "after": 1400}, {"field": "vni", "after": 7}]}],
                "devices": [{"device": "leaf1", "entities": [{"table": "t", "key": "k", "before": "x", "after": "y"}]}],
                "waits": ["vni 7"],
                "later": [{"device": "leaf1", "entities": [{"table": "t", "key": "l", "after": "z"}]}],
            },
        }
        found = [(d.get("after_header"), d.get("before"), d.get("after"), d.get("prepared")) for d in diff.of_outcome(outcome)]
        self.assertEqual(
            found,
            [
                ("vdc v", "", "name: v\n", None),
                ("network v/n", "mtu: 1500\n", "mtu: 1400\nvni: 7\n", None),
                ("network v/old", "name: old\n", "", None),
                ("switch `s`", "role: a\n", "role: b\n", None),
                ("host `h`", "item: host `h`\n", "", None),
                ("device leaf1", "t k: x\n", "t k: y\n", None),
                (None, None, None, "waits: vni 7\n"),
                ("device leaf1 (later)", "", "t l: z\n", None),
            ],
        )


if __name__ == "__main__":
    unittest.main()
