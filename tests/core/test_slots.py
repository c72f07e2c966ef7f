"""How many queries may be under way, in all and of one domain."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.slots import Slots


def taken(slots: Slots, domain: str, count: int) -> Slots:
    for number in range(count):
        slots.take(f"{number}.{domain}")
    return slots


def test_up_to_half_of_all_one_domain_may_take_any() -> None:
    slots = Slots(16)
    for number in range(9):
        assert slots.has_room(f"{number}.slow.test")
        slots.take(f"{number}.slow.test")
    assert not slots.has_room("9.slow.test")
    assert slots.has_room("a.test")
    slots.give_back("8.slow.test")
    assert slots.has_room("9.slow.test")


def test_beyond_half_of_all_each_domain_has_an_eighth() -> None:
    slots = taken(Slots(16), "slow.test", 9)
    for number in range(2):
        assert slots.has_room(f"{number}.other.test")
        slots.take(f"{number}.other.test")
    assert not slots.has_room("2.other.test")
    assert slots.has_room("a.third.test")


def test_nobody_gets_more_than_there_are() -> None:
    slots = taken(Slots(16), "slow.test", 15)
    assert slots.has_room("a.test")
    slots.take("a.test")
    assert not slots.has_room("b.test")
    assert slots.taken == 16


@pytest.mark.parametrize("name", ["slow.test", "a.slow.test", "a.b.slow.test"])
def test_a_domain_is_the_last_two_labels(name: str) -> None:
    assert not taken(Slots(16), "slow.test", 9).has_room(name)


@pytest.mark.parametrize("name", ["low.test", "slow.test.a", "test", "slow", "slow.test.slow"])
def test_other_names_are_of_other_domains(name: str) -> None:
    assert taken(Slots(16), "slow.test", 9).has_room(name)


def test_a_single_label_is_a_domain_of_its_own() -> None:
    slots = Slots(16)
    for _ in range(9):
        slots.take("web")
    assert not slots.has_room("web")
    assert slots.has_room("db")


NAMES = st.sampled_from(["a.x.test", "b.x.test", "a.y.test", "z", "q.w.e.r"])


@given(steps=st.lists(st.tuples(NAMES, st.booleans()), max_size=60))
def test_it_counts_what_is_taken_and_keeps_no_domain_without_any(steps: list[tuple[str, bool]]) -> None:
    slots, held = Slots(8), Counter[str]()
    for name, is_back in steps:
        domain = ".".join(name.split(".")[-2:])
        if not is_back:
            room = held.total() <= 4 or (held.total() < 8 and held[domain] < 1)
            assert slots.has_room(name) == room
            slots.take(name)
            held[domain] += 1
        elif held[domain]:
            slots.give_back(name)
            held[domain] -= 1
        assert slots.taken == held.total()
        assert len(slots) == len(+held)
