"""Which upstreams a pattern is for, and which of many is the first."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.host_pattern import HostPattern, HostPatterns


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("API.example.com", "api.example.com", 443, True),
        ("api.example.com.", "api.example.com", 443, True),
        ("api.example.com", "xapi.example.com", 443, False),
        ("api.example.com:8443", "api.example.com", 8443, True),
        ("api.example.com:8443", "api.example.com", 443, False),
        ("*.example.com", "api.example.com", 443, True),
        ("*.example.com", "a.b.c.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("*.example.com:80", "a.example.com", 443, False),
        ("*", "anything", 1, True),
        ("*:80", "anything", 81, False),
        ("[2001:DB8::1]:443", "2001:db8::1", 443, True),
        ("[2001:db8:0::1]", "2001:db8::1", 443, True),
        ("192.0.2.1", "192.0.2.1", 80, True),
        ("[::ffff:192.0.2.1]", "192.0.2.1", 80, True),
        ("*.EXAMPLE.com.", "a.example.com", 443, True),
    ],
)
def test_which_upstreams_match(pattern: str, host: str, port: int, *, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port) is matches


@pytest.mark.parametrize("pattern", ["api.example.com", "*.example.com:80", "[::1]:443", "*"])
def test_a_pattern_is_shown_as_it_is_written(pattern: str) -> None:
    assert str(HostPattern.parse(pattern)) == pattern


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            "a b",
            "*example.com",
            "a.*.com",
            "http://a",
            "a:0",
            "a:65536",
            "a:",
            ".a",
            "*.",
            "::1",
            5,
            None,
        ),
        *("127.1", "0x7f.0.0.1", "*.192.0.2.1", "*.1", "[*.::1]", "[*]", "*.*", "a..b", "[::1%25lo]"),
    ],
)
def test_what_is_no_pattern(written: object) -> None:
    with pytest.raises(ValueError, match="expected a host"):
        HostPattern.parse(written)


def test_it_is_told_why_a_host_is_no_pattern() -> None:
    with pytest.raises(ValueError, match=r"got '\*\.192\.0\.2\.1': nothing is below an address"):
        HostPattern.parse("*.192.0.2.1")


@pytest.mark.parametrize(
    ("host", "port", "place"),
    [
        ("a.example.com", 80, 0),
        ("a.example.com", 443, 1),
        ("b.c.example.com", 80, 1),
        ("example.com", 80, None),
        ("b.example.org", 8443, 3),
        ("b.example.org", 80, 4),
        ("other", 8443, 3),
        ("2001:db8::1", 80, 6),
        ("other", 80, None),
    ],
)
def test_the_first_of_a_list(host: str, port: int, place: int | None) -> None:
    written = (
        *("a.example.com:80", "*.example.com", "a.example.com", "*:8443", "*.example.org"),
        *("*.example.com", "[2001:db8::1]"),
    )
    patterns = HostPatterns(map(HostPattern.parse, written))
    assert patterns.first(host, port) == place
    assert patterns.match(host, port) is (place is not None)


def test_no_pattern_matches_where_there_is_none() -> None:
    assert HostPatterns(()).first("a", 80) is None
    assert not HostPatterns(()).match("a", 80)


# Few labels and ports, so that many match.
ports = st.sampled_from([80, 443])
names = st.lists(st.sampled_from(["a", "b", "aa"]), min_size=1, max_size=4).map(".".join)
hosts = st.one_of(names, st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]))
patterns_of_hosts = st.builds(
    HostPattern, st.one_of(hosts, names.map("*.{}".format), st.just("*")), st.one_of(st.none(), ports)
)


@given(st.lists(patterns_of_hosts, max_size=8), hosts, ports)
@example([HostPattern("*.a"), HostPattern("a.a"), HostPattern("*")], "a.a", 80)
@example([HostPattern("*", 443), HostPattern("a"), HostPattern("a", 80)], "a", 80)
def test_the_first_is_the_one_that_a_look_at_each_finds(
    patterns: list[HostPattern], host: str, port: int
) -> None:
    matching = (place for place, pattern in enumerate(patterns) if pattern.matches(host, port))
    assert HostPatterns(patterns).first(host, port) == next(matching, None)
