"""The query of a list: what fits, in which order, and what is refused."""

from urllib.parse import parse_qsl

import pytest
from multidict import MultiDict
from support.circuits import Rig

from proxy.control import queries
from proxy.control.problems import Problem
from proxy.core.exchange import Awaited
from proxy.core.outcome import SUCCESS
from proxy.core.overrides import Force
from proxy.core.states import Condition


def parsed(text: str) -> queries.Query:
    return queries.read(MultiDict(parse_qsl(text, keep_blank_values=True)))


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.fail(5, 10, "open.test:80")
    rig.fail(3, 11, "Closed.test:80".lower())
    rig.succeed(9, 12, "busy.test:80")
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 11.0, "closed.test:80")
    with permit:
        permit.settle(SUCCESS, 12.0)
    rig.circuits.force("forced.test:80", rig.policy, Force.OPEN, 20)
    return rig


def found(rig: Rig, text: str) -> list[str]:
    """The hosts that fit, in their order; none of these ranks is the same."""
    query = parsed(text)
    past = {each.key: each for each in rig.heard}
    fitting = [circuit for circuit in rig.circuits if query.fits(circuit)]
    fitting.sort(key=lambda each: query.rank(each, past.get(each.key), 30.0), reverse=query.is_descending)
    return [circuit.key.partition(".")[0] for circuit in fitting]


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("sort=key", ["busy", "closed", "forced", "open"]),
        ("sort=-key", ["open", "forced", "closed", "busy"]),
        ("state=open", ["open"]),
        ("state=open&state=forced_open", ["open", "forced"]),
        ("state=half_open", []),
        ("q=OSED.t&sort=key", ["closed"]),
        ("q=.test&sort=-calls", ["busy", "closed", "open", "forced"]),
        ("sort=-failed&q=closed", ["closed"]),
        ("sort=-latency_s&state=closed", ["closed", "busy"]),
        ("sort=latency_s&state=closed", ["busy", "closed"]),
        ("sort=-since&state=open&state=forced_open", ["forced", "open"]),
        ("sort=level&state=open&state=forced_open", ["forced", "open"]),
    ],
)
def test_what_fits_in_its_order(rig: Rig, text: str, hosts: list[str]) -> None:
    assert found(rig, text) == hosts


def test_by_default_the_open_ones_are_first_and_what_never_changed_is_last(rig: Rig) -> None:
    assert found(rig, "")[:2] == ["open", "forced"]
    rig.fail(5, 25, "later.test:80")
    assert found(rig, "")[:3] == ["later", "open", "forced"]


@pytest.mark.parametrize("sort", queries.PARAMETERS[2].schema["enum"])
def test_every_sort_of_the_document_is_one(rig: Rig, sort: str) -> None:
    assert len(found(rig, f"sort={sort}")) == 4


def test_what_is_not_said_has_a_default() -> None:
    query = parsed("")
    assert query == queries.Query(
        conditions=frozenset(), text="", sort="state", is_descending=False, limit=100, offset=0
    )
    assert parsed("limit=1000&offset=1000000").limit == 1000
    assert parsed("&".join(f"state={each.value}" for each in Condition)).conditions == frozenset(Condition)


@pytest.mark.parametrize(
    "text",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=1e3",
        "limit=01",
        "limit=%D9%A1",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "offset=-1",
        "offset=1000001",
        "sort=name",
        "sort=",
        "sort=--key",
        "sort=key&sort=key",
        "state=",
        "state=OPEN",
        "state=open,closed",
        "&".join(["state=open"] * 7),
        f"q={'x' * 201}",
        "q=a&q=b",
        "stat=open",
        "__proto__=1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Problem) as raised:
        parsed(text)
    assert (raised.value.status, raised.value.reason) == (400, "bad_request")


def test_where_there_is_no_query_none_is_taken() -> None:
    queries.none(MultiDict())
    with pytest.raises(Problem):
        queries.none(MultiDict(a="b"))
