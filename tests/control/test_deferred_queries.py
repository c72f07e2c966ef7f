"""Which deferred requests are asked for."""

import msgspec
import pytest
from multidict import MultiDict

from proxy.control import deferred_queries as asked
from proxy.control.problems import Problem


def test_nothing_that_is_said_is_all_from_the_beginning() -> None:
    query = MultiDict[str]()
    assert (asked.queue(query), asked.is_dead(query), asked.after(query), asked.limit(query)) == (
        None,
        None,
        0,
        100,
    )


def test_what_is_said() -> None:
    query = MultiDict({"queue": "a.test:80#1", "state": "dead", "after": "999999999999999", "limit": "500"})
    assert (asked.queue(query), asked.is_dead(query), asked.after(query), asked.limit(query)) == (
        "a.test:80#1",
        True,
        999999999999999,
        500,
    )
    assert asked.is_dead(MultiDict({"state": "waiting"})) is False


@pytest.mark.parametrize("written", ["", "00", "1.0", "-1", "10000000000000000", "\u0661"])
def test_what_is_no_cursor(written: str) -> None:
    with pytest.raises(Problem) as caught:
        asked.after(MultiDict({"after": written}))
    assert caught.value.status == 400


WISHES: list[dict[str, object]] = [
    {"queue": ""},
    {"queue": "x" * 301},
    {"a": 1},
]


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_no_wish(wish: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wish, asked.PutBackWish)
