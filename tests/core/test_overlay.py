"""Which upstreams an entry is for, and what differs for them."""

import pytest

from proxy.core.overlay import HostPattern, Overlay
from proxy.core.policy import CircuitPolicy, Seconds


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


def test_only_what_was_written_differs() -> None:
    base = CircuitPolicy(consecutive_failures=7)
    assert Overlay[CircuitPolicy]({"open": Seconds(1)}).onto(base) == CircuitPolicy(
        consecutive_failures=7, open=Seconds(1)
    )
    assert Overlay[CircuitPolicy]().onto(base) is base
