# SPDX-License-Identifier: Apache-2.0
"""A client of the controller's REST API.

TLS is verified against the given authorities alone, or the system's where none are given. Neither proxies of the
environment nor redirects are followed, and no netrc is read: the token goes to the named server and nowhere else.

A call is repeated only if that cannot do anything twice: the connection was refused, so nothing was sent, or the
controller answered 503 or 429, which means that it did nothing; and only if the caller says that the call is idempotent.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import time
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

from ansible.module_utils.urls import open_url

from ansible_collections.vfabric.fabric.plugins.module_utils.problem import ControllerError, from_answer

# Delay before the first repetition, in seconds; doubled for each further one. Each is drawn between zero and this.
FIRST_DELAY = 0.5
# Longest delay: a controller that starts again needs less.
MAX_DELAY = 8.0
# Statuses which mean that the controller did nothing, and may do it later: it cannot now, or the caller asks too often.
REPEATED = (503, 429)
# Largest response that is read: a listing of a thousand objects is below 1 MiB, the entities of a big leaf below 64.
MAX_ANSWER = 64 << 20
# Objects per page of a listing: the API's maximum.
PAGE = 1000
# Longest time that the API itself waits for devices; for longer, it is asked again.
MAX_WAIT = 60.0


class Answer:
    """A response with a status of success."""

    def __init__(self, status, body):
        self.status = status
        self.body = body


def path_of(*parts):
    """A path of the API; each part is escaped."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class Client:
    """A connection to one controller."""

    def __init__(self, settings, opener=open_url, sleep=time.sleep):
        self.settings = settings
        self.opener = opener
        self.sleep = sleep

    def get(self, path, query=None):
        """The object at a path."""
        return self.call("GET", path, query).body

    def find(self, path, query=None):
        """The same; None if nothing is there."""
        try:
            return self.get(path, query)
        except ControllerError as error:
            if error.status == 404:
                return None
            raise

    def is_missing(self, path):
        """Whether nothing exists at a path. An object that the caller may not see does not count as missing."""
        try:
            return self.find(path) is None
        except ControllerError as error:
            if error.status != 403:
                raise
            return False

    def list(self, path):
        """Every object of a collection, page by page."""
        found = []
        query = {"limit": PAGE}
        while True:
            page = self.get(path, query)
            found += page["items"]
            if not page.get("next"):
                return found
            query["after"] = page["next"]

    def call(self, method, path, query=None, body=None, revision=None, idempotent=True):
        """Calls the API.

        :arg query: parameters; None and False are left out.
        :arg body: a document to send as JSON.
        :arg revision: revision that the object must be at (C(If-Match)).
        :arg idempotent: whether the call may be sent again after 503, 429 or a refused connection.
        :raises ControllerError: it was refused or not answered.
        """
        attempts = 1 + (self.settings.retries if idempotent else 0)
        for attempt in range(attempts):
            try:
                return self.once(method, path, query, body, revision)
            except ControllerError as error:
                refused = isinstance(error.__cause__, ConnectionRefusedError)
                if attempt + 1 == attempts or not (refused or error.status in REPEATED):
                    raise
                least = min(error.retry_after, MAX_DELAY)
            most = min(MAX_DELAY, FIRST_DELAY * 2**attempt)
            # Playbooks that met the same fault must not all repeat their calls at the same moment.
            self.sleep(least + random.uniform(0, most))
        raise AssertionError("there is at least one attempt")

    def once(self, method, path, query, body, revision):
        """Calls the API one time."""
        headers = {"Accept": "application/json", "Authorization": "Bearer " + self.settings.token}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        if revision is not None:
            headers["If-Match"] = '"%d"' % revision
        query = {k: texts(v) for k, v in (query or {}).items() if v is not None and v is not False}
        url = self.settings.server + path + ("?" + urlencode(query) if query else "")
        # The controller replies when its own wait ends; the rest of the time is for the network.
        timeout = self.settings.timeout + float(query.get("wait", 0))
        try:
            response = self.opener(
                url,
                method=method,
                data=data,
                headers=headers,
                timeout=timeout,
                validate_certs=self.settings.validate_certs,
                ca_path=self.settings.ca_file,
                use_proxy=False,
                use_netrc=False,
                follow_redirects="none",
                http_agent="vfabric.fabric",
            )
            status, octets = response.getcode(), response.read(MAX_ANSWER + 1)
        except HTTPError as error:
            refusal = from_answer(method, path, error.code, read_error(error))
            refusal.retry_after = seconds(error.headers.get("Retry-After"))
            raise refusal from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unanswered(method, path, timeout, error) from reason_of(error)
        if len(octets) > MAX_ANSWER:
            raise ControllerError("%s %s: the answer is longer than %d octets" % (method, path, MAX_ANSWER))
        try:
            return Answer(status, json.loads(octets.decode("utf-8")) if octets else None)
        except ValueError as error:
            raise from_answer(method, path, status, octets) from error

    def unanswered(self, method, path, timeout, error):
        """Why there is no reply."""
        reason = reason_of(error)
        server = self.settings.server
        if isinstance(reason, ssl.SSLCertVerificationError):
            trusted = self.settings.ca_file or "the system's authorities"
            text = "the certificate of %s is not valid for %s: %s" % (server, trusted, reason.verify_message)
        elif isinstance(reason, ssl.SSLError):
            text = "TLS with %s failed: %s" % (server, reason)
        elif isinstance(reason, (socket.timeout, TimeoutError)):
            text = "%s did not answer %s %s within %g s" % (server, method, path, timeout)
        elif isinstance(reason, ConnectionRefusedError):
            text = "%s refuses connections: does the controller run there?" % server
        elif isinstance(reason, socket.gaierror):
            text = "the name in %s cannot be resolved: %s" % (server, reason.strerror)
        else:
            text = "no answer from %s to %s %s: %s" % (server, method, path, reason)
        return ControllerError(text)


def seconds(value):
    """The seconds in a header; zero if there are none (a date is not used by this API)."""
    return float(value) if value and value.isdigit() else 0.0


def texts(value):
    """A parameter as the API reads it."""
    return "true" if value is True else str(value)


def reason_of(error):
    """The cause of an error of urllib."""
    reason = getattr(error, "reason", None) if isinstance(error, URLError) else None
    return reason if isinstance(reason, BaseException) else error


def read_error(error):
    """The body of a response with an error status; empty if it cannot be read."""
    try:
        return error.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return b""
