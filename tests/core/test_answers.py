"""What is remembered of names, for how long, and how much of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import answers
from proxy.core.answers import FAILING_S, MOST_PER_FAMILY, RETRY_S, Answers
from proxy.core.policy import Dns
from proxy.core.quantities import Seconds

FOUR, SIX = "192.0.2.1", "2001:db8::1"


def remembering(
    *, ttl_min: float = 1, ttl_max: float = 300, negative: float = 5, stale: float = 600
) -> Answers:
    return Answers(
        Dns(
            ttl_min=Seconds(ttl_min),
            ttl_max=Seconds(ttl_max),
            negative=Seconds(negative),
            stale=Seconds(stale),
        )
    )


def state(remembered: Answers, name: str, now: float) -> str:
    answer = remembered.get(name, now)
    if answer is None:
        return "unknown"
    return "fresh" if answer.is_fresh(now) else "stale"


@pytest.mark.parametrize(
    ("ttl_s", "fresh_s"),
    [(0, 1), (0.5, 1), (1, 1), (60, 60), (300, 300), (301, 300), (2**31 - 1, 300)],
)
def test_an_answer_is_fresh_for_as_long_as_it_says_within_the_bounds(ttl_s: float, fresh_s: float) -> None:
    remembered = remembering()
    assert remembered.found("a", [FOUR], ttl_s, 100) == (FOUR,)
    assert state(remembered, "a", 100 + fresh_s - 0.001) == "fresh"
    assert state(remembered, "a", 100 + fresh_s) == "stale"
    assert state(remembered, "a", 100 + fresh_s + 599.999) == "stale"
    assert state(remembered, "a", 100 + fresh_s + 600) == "unknown"
    assert len(remembered) == 0


def test_a_ttl_of_0_is_never_fresh_where_the_settings_let_it() -> None:
    remembered = remembering(ttl_min=0)
    remembered.found("a", [FOUR], 0, 100)
    assert state(remembered, "a", 100) == "stale"


def test_a_ttl_of_0_is_not_remembered_where_nothing_may_be_stale() -> None:
    remembered = remembering(ttl_min=0, stale=0)
    assert remembered.found("a", [FOUR], 0, 100) == (FOUR,)
    assert len(remembered) == 0


def test_without_stale_an_answer_ends_with_its_time() -> None:
    remembered = remembering(stale=0)
    remembered.found("a", [FOUR], 10, 100)
    assert state(remembered, "a", 109) == "fresh"
    assert state(remembered, "a", 110) == "unknown"


def test_the_least_of_the_bounds_counts_where_they_cross() -> None:
    remembered = remembering(ttl_min=60, ttl_max=10)
    remembered.found("a", [FOUR], 100, 0)
    assert (state(remembered, "a", 9), state(remembered, "a", 10)) == ("fresh", "stale")


def test_that_a_name_does_not_exist_is_remembered_and_never_stale() -> None:
    remembered = remembering()
    remembered.absent("a", 100)
    answer = remembered.get("a", 104.999)
    assert answer is not None
    assert (answer.addresses, answer.is_fresh(104.999)) == ((), True)
    assert remembered.get("a", 105) is None


@pytest.mark.parametrize("negative", [0, 5])
def test_a_name_that_has_gone_is_not_used_any_more(negative: float) -> None:
    remembered = remembering(negative=negative)
    remembered.found("a", [FOUR], 1, 100)
    remembered.absent("a", 102)
    answer = remembered.get("a", 102)
    assert (answer.addresses if answer is not None else None) == (() if negative else None)
    assert remembered.get("a", 108) is None


def test_a_newer_answer_takes_the_place_of_the_older_one() -> None:
    remembered = remembering()
    remembered.found("a", [FOUR], 10, 100)
    remembered.found("a", [SIX], 10, 105)
    answer = remembered.get("a", 114)
    assert answer is not None
    assert answer.addresses == (SIX,)
    assert answer.is_fresh(114)
    assert len(remembered) == 1


def test_names_are_apart() -> None:
    remembered = remembering()
    remembered.found("a", [FOUR], 10, 100)
    assert remembered.get("b", 100) is None


def test_after_a_failure_nobody_waits_for_a_while_and_it_is_tried_again_meanwhile() -> None:
    remembered = remembering()
    remembered.found("a", [FOUR], 10, 100)
    answer = remembered.get("a", 120)
    assert answer is not None
    assert not answer.is_failing(120)
    assert answer.may_be_asked(120)
    answer.failed(120)
    assert answer.is_failing(120)
    assert not answer.may_be_asked(120 + RETRY_S - 0.001)
    assert answer.may_be_asked(120 + RETRY_S)
    assert answer.is_failing(120 + FAILING_S - 0.001)
    assert not answer.is_failing(120 + FAILING_S)
    remembered.found("a", [FOUR], 10, 125)
    answer = remembered.get("a", 136)
    assert answer is not None
    assert not answer.is_failing(136), "it has been answered since"


def test_each_address_is_used_once_and_only_so_many_of_each_family() -> None:
    fours = [f"192.0.2.{number}" for number in range(200)]
    sixes = [f"2001:db8::{number:x}" for number in range(200)]
    kept = remembering().found("a", [FOUR, *sixes, *sixes, *fours, FOUR], 10, 0)
    assert kept == (FOUR, *sixes[:MOST_PER_FAMILY], *[f for f in fours if f != FOUR][: MOST_PER_FAMILY - 1])


def test_the_least_recently_used_name_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_NAMES", 3)
    remembered = remembering()
    for name in ("a", "b", "c"):
        remembered.found(name, [FOUR], 10, 100)
    assert remembered.get("a", 100) is not None
    remembered.absent("d", 100)
    assert [state(remembered, name, 100) for name in "abcd"] == ["fresh", "unknown", "fresh", "fresh"]
    remembered.found("d", [FOUR], 10, 100)
    assert len(remembered) == 3, "a name that is there takes no other's place"


def test_the_addresses_of_all_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ADDRESSES", 5)
    remembered = remembering()
    remembered.found("a", [FOUR, SIX], 10, 100)
    remembered.found("b", [FOUR, SIX], 10, 100)
    remembered.found("c", [FOUR], 10, 100)
    assert len(remembered) == 3
    remembered.found("c", [FOUR, SIX], 10, 100)
    assert [state(remembered, name, 100) for name in "abc"] == ["unknown", "fresh", "fresh"]


def test_whoever_wants_other_names_forgotten_needs_thousands() -> None:
    remembered = remembering()
    remembered.found("a", [FOUR, SIX], 10, 0)
    both = [f"192.0.2.{number}" for number in range(200)] + [f"2001:db8::{number:x}" for number in range(200)]
    for number in range(3000):
        remembered.found(f"{number}.b", both, 10, 0)
    assert state(remembered, "a", 0) == "fresh"


def test_ten_thousand_names_at_most() -> None:
    remembered = remembering()
    for number in range(10_100):
        remembered.found(str(number), [FOUR], 10, 0)
    assert len(remembered) == 10_000
    assert (state(remembered, "99", 0), state(remembered, "100", 0)) == ("unknown", "fresh")


NAMES = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.tuples(st.just("found"), NAMES, st.integers(1, 4), st.integers(0, 400)),
    st.tuples(st.just("absent"), NAMES, st.just(0), st.just(0)),
    st.tuples(st.just("get"), NAMES, st.just(0), st.integers(0, 500)),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_it_never_holds_more_than_it_may_nor_gives_what_is_too_old(
    steps: list[tuple[str, str, int, int]],
) -> None:
    """Against a model that forgets nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "MOST_NAMES", 4)
        patch.setattr(answers, "MOST_ADDRESSES", 9)
        remembered = remembering()
        now = 0.0
        told: dict[str, tuple[int, float, float]] = {}
        for what, name, count, seconds in steps:
            if what == "found":
                remembered.found(name, [f"192.0.2.{number}" for number in range(count)], seconds, now)
                fresh_until = now + min(max(seconds, 1), 300)
                told[name] = (count, fresh_until, fresh_until + 600)
            elif what == "absent":
                remembered.absent(name, now)
                told[name] = (0, now + 5, now + 5)
            else:
                now += seconds
            held = [answer for other in "abcdef" if (answer := remembered.get(other, now)) is not None]
            assert len(held) <= 4
            assert sum(len(answer.addresses) for answer in held) <= 9
            answer = remembered.get(name, now)
            if answer is not None:
                count_told, fresh_until, usable_until = told[name]
                assert len(answer.addresses) == count_told
                assert answer.is_fresh(now) == (now < fresh_until)
                assert now < usable_until
