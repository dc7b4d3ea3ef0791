"""A check for Schemathesis: what the document calls valid is refused with 422 only for a reason that is named here.

A document says which shape a value has. Whether a name exists, an address lies in its subnet or a range is the right way up
it cannot say. Each rule of that kind is a row; any other refusal of a valid call is a finding: then the document allows what
the parser refuses.
"""

import re

import schemathesis

# The field of the problem, what it says was expected (or its sentence, where it names no field), and why no document says it.
REASONS = [
    ("", "`Idempotency-Key` was used for another call", "which calls came before"),
    (r".*mac", "unicast MAC address", "the bit of a MAC address that makes it a group's"),
    (r".*(vtep|loopback)_ipv[46]", "a unicast address", "which addresses are unicast"),
    (r".*switch", "the name of a (switch|leaf)", "which switches there are"),
    (r".*host", "the name of a host|a host that is", "which hosts there are"),
    (r"links\[\d+\](\..*)?", "two switches|is already used by", "that two fields differ"),
    (r"switches\[\d+\]\.access_ports", "a spine has no", "that two fields agree"),
    (r"(switches|hosts|links)\[\d+\]\..*", "is already used by", "that values are unique"),
    (r"roles\[\d+\]\.role", "a role of vDC", "which roles a user of a vDC may have"),
    (r".*(vni_pool|vnis\[\d+\]\.last|vlans)", "a range|the first", "that one field is not below another"),
    (r".*address_pools\[\d+\]", "a prefix without host bits", "which bits of a prefix are zero"),
    (r".*reserved\[\d+\]\.(first|last)", "an address in|the first", "that an address lies in its subnet, and not below another"),
    (r"roles\[\d+\]\.vdc", "the name of a vDC|the vDC that|to which the user belongs", "that a role of a vDC names one"),
    (r"from|to", "at most|at least", "how many revisions there are"),
    (r"labels|fields", "characters|key=value|one of", "the grammar of selectors"),
    (r".*(network|networks\[\d+\])", "a network of", "which networks there are"),
    (r".*name", "the name in the path|cannot be changed|names once", "that a body is about its path, and names are unique"),
]


def reason_of(field, text):
    """The reason why no document can express a refusal; None if there is none."""
    for fields, words, why in REASONS:
        if re.fullmatch(fields, field) and re.search(words, text):
            return why
    return None


@schemathesis.check
def refused_for_a_named_reason(ctx, response, case):
    """A 422 for a valid call has one of the named reasons."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    refusals = [(error["field"], error["expected"]) for error in problem.get("errors", [])]
    for field, text in refusals or [("", problem["detail"])]:
        if reason_of(field, text) is None:
            message = "the document calls this valid, and it is refused (422): `%s`: expected %s"
            raise AssertionError(message % (field, text))
