# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a call, in words that name the field.

The controller refuses with C(application/problem+json) (RFC 9457): a stable code, a sentence, and the fields that are
wrong, each with its value and what was expected. Fields have the names of the modules' options.
"""

from __future__ import annotations

import json

# Most octets of a foreign response that an error quotes.
SHOWN = 200


class ControllerError(Exception):
    """A call that failed: the controller refused it or did not reply.

    :ivar status: HTTP status; None if there was no answer.
    :ivar code: stable code of the API such as C(invalid); of a call without an answer, C(unreachable) or C(settings).
    :ivar errors: the fields that are wrong, each with C(field), C(value), C(expected).
    """

    def __init__(self, message, status=None, code="unreachable", errors=None, request_id=None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.errors = errors or []
        self.request_id = request_id
        # Seconds that the controller asks to wait before the call is repeated.
        self.retry_after = 0.0

    def as_result(self):
        """The members of a failed task's result."""
        return {
            "msg": self.message,
            "status": self.status,
            "code": self.code,
            "errors": self.errors,
            "request_id": self.request_id,
        }


def settings_error(message):
    """The settings of the connection cannot be used."""
    return ControllerError(message, code="settings")


def from_answer(method, path, status, body):
    """The error for a response with an error status.

    :arg body: the octets of the answer.
    """
    what = "%s %s" % (method, path)
    try:
        problem = json.loads(body.decode("utf-8"))
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        text = body[:SHOWN].decode("utf-8", "replace")
        return ControllerError("%s: HTTP status %d, which is not this API's: %s" % (what, status, text), status=status)
    errors = [e for e in problem.get("errors") or [] if isinstance(e, dict)]
    request_id = problem.get("request_id")
    lines = ["%s is refused (%s): %s" % (what, code, detail)]
    lines += ["%s: `%s`: expected %s" % (field(e), e.get("value"), e.get("expected")) for e in errors]
    if request_id:
        lines.append("request %s" % request_id)
    return ControllerError("; ".join(lines), status, code, errors, request_id)


def field(error):
    """The name of a wrong field; for the whole body, the API has only a dot."""
    name = error.get("field")
    return "body" if name in (".", "", None) else name
