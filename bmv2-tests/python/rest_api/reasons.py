"""A check for Schemathesis: what the document calls valid is refused with 422 only for a reason that is named here.

A document says which shape a value has. Whether a name exists, an address lies in its subnet or a range is the right way up
it cannot say. Each rule of that kind is a row; any other refusal of a valid call is a finding: then the document allows what
the parser refuses.
"""

import os
import re

import schemathesis

# The field of the problem, what it says was expected (or its sentence, where it names no field), and why no document says it.
REASONS = [
]


def reason_of(field, text):
    """Why a refusal is one that no document can say; None if it is not."""
    for fields, words, why in REASONS:
        if re.fullmatch(fields, field) and re.search(words, text):
            return why
    return None


@schemathesis.check
def refused_for_a_named_reason(ctx, response, case):
    """422 in answer to a valid call has a reason that is named."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    refusals = [(error["field"], error["expected"]) for error in problem.get("errors", [])]
    for field, text in refusals or [("", problem["detail"])]:
        if reason_of(field, text) is None:
            log = os.environ.get("UNNAMED_REASONS")
            message = "`%s`: expected %s" % (field, text)
            if log:
                with open(log, "a", encoding="utf-8") as file:
                    file.write("%s %s: %s: %s\n" % (case.method, case.path, message, str(case.body)[:300]))
                continue
            raise AssertionError("the document calls this valid, and it is refused (422): " + message)
