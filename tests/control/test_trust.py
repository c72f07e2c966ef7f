"""Who may call: a table of heads and addresses. What clients get is in tests/process/test_admin_api.py."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.control.problems import Problem
from proxy.control.trust import Token, Trust
from proxy.core.host_pattern import HostPattern

HERE = "127.0.0.1"
OURS = ("Host", "127.0.0.1:3129")
RIGHT = ("Authorization", "Bearer right")


class RightToken:
    def check(self, token: str) -> bool:
        return token == "right"


def asked(trust: Trust, peer: str | None, *fields: tuple[str, str]) -> str:
    """The reason of the refusal, with its status; empty if the request may pass."""
    try:
        trust.check(CIMultiDictProxy(CIMultiDict(fields)), peer)
    except Problem as problem:
        challenge = "" if "WWW-Authenticate" in problem.headers else "without a challenge"
        return f"{problem.status} {problem.reason}{challenge if problem.status == 401 else ''}"
    return ""


def trust_of(token: Token | None, hosts: tuple[HostPattern, ...] = ()) -> Trust:
    trust = Trust()
    trust.configure(token, hosts)
    return trust


LOCAL = trust_of(None, (HostPattern("admin.test"), HostPattern("*.internal", 8080), HostPattern("fd00::1")))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:3129",
        "localhost",
        "LOCALHOST:3129",
        "[::1]",
        "[::1]:8080",
        "admin.test",
        "Admin.Test:3129",
        "a.internal:8080",
        "[fd00::1]:3129",
    ],
)
@pytest.mark.parametrize("peer", [HERE, "127.8.8.8", "::1"])
def test_whoever_calls_from_here_by_one_of_its_names_may(host: str, peer: str) -> None:
    assert asked(LOCAL, peer, ("Host", host)) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "evil.test:3129",
        "admin.test.evil.test",
        "a.internal",
        "a.internal:80",
        "127.0.0.2",
        "0.0.0.0",
        "127.1",
        "[::]",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "",
        "localhost:",
        "localhost:a",
        "localhost, evil.test",
        "user@localhost",
        "localhost/",
        "http://localhost",
        " localhost",
        "local\u0000host",
    ],
)
def test_by_another_name_nobody_may(host: str) -> None:
    assert asked(LOCAL, HERE, ("Host", host)) == "421 unknown_host"


def test_a_request_has_one_host() -> None:
    assert asked(LOCAL, HERE) == "421 unknown_host"
    assert asked(LOCAL, HERE, OURS, ("Host", "evil.test")) == "421 unknown_host"
    assert asked(LOCAL, HERE, OURS, OURS) == "421 unknown_host"


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.168.1.7", "8.8.8.8", "fe80::1%eth0", "::", "", None, "x"])
def test_nobody_may_from_elsewhere_without_a_token(peer: str | None) -> None:
    assert asked(LOCAL, peer, OURS) == "401 token_required"
    assert asked(trust_of(RightToken()), peer, OURS) == "401 token_required"
    assert asked(trust_of(RightToken()), peer, OURS, RIGHT) == ""


@pytest.mark.parametrize("host", ["10.0.0.7:3129", "anything.test", ""])
def test_with_the_token_the_host_does_not_matter(host: str) -> None:
    assert asked(trust_of(RightToken()), "10.0.0.7", ("Host", host), RIGHT) == ""


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        "right",
        "Basic right",
        "Basic cmlnaHQ6cmlnaHQ=",
        "Bearer right right",
        "Bearer\tright",
        "Bearer=right",
        "",
        "Bearer \u00e9",
    ],
)
@pytest.mark.parametrize("trust", [trust_of(RightToken()), LOCAL])
def test_a_wrong_token_is_refused_whoever_shows_it(authorization: str, trust: Trust) -> None:
    assert asked(trust, HERE, OURS, ("Authorization", authorization)) == "401 token_wrong"


def test_a_token_is_shown_once_and_where_there_is_none_no_token_is_right() -> None:
    assert asked(trust_of(RightToken()), HERE, OURS, RIGHT, RIGHT) == "401 token_wrong"
    assert asked(LOCAL, HERE, OURS, RIGHT) == "401 token_wrong"
    assert asked(trust_of(RightToken()), HERE, OURS, ("authorization", "bearer  right ")) == ""


@pytest.mark.parametrize("trust", [trust_of(RightToken()), LOCAL])
@pytest.mark.parametrize(
    "field",
    [
        ("Origin", "http://evil.test"),
        ("Origin", "null"),
        ("Origin", ""),
        # Another port of this machine is another origin.
        ("Origin", "http://127.0.0.1:8000"),
        ("Origin", "http://127.0.0.1"),
        ("Origin", "http://localhost:3129"),
        ("Origin", "file://127.0.0.1:3129"),
        ("Origin", "http://127.0.0.1:3129/"),
        ("Origin", "http://127.0.0.1:3129.evil.test"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", ""),
    ],
)
def test_no_page_of_another_origin_gets_in(trust: Trust, field: tuple[str, str]) -> None:
    shown = () if trust is LOCAL else (RIGHT,)
    assert asked(trust, HERE, OURS, *shown, field) == "403 foreign_origin"
    assert (
        asked(trust, HERE, OURS, *shown, ("Origin", "http://127.0.0.1:3129"), field) == "403 foreign_origin"
    )


@pytest.mark.parametrize(
    "fields",
    [
        [OURS, ("Origin", "http://127.0.0.1:3129"), ("Sec-Fetch-Site", "same-origin")],
        [OURS, ("Sec-Fetch-Site", "none")],
        [("Host", "LocalHost:3129"), ("Origin", "http://localhost:3129")],
        # Behind something that speaks TLS.
        [("Host", "admin.test"), ("Origin", "https://admin.test")],
    ],
)
def test_our_own_page_gets_in(fields: list[tuple[str, str]]) -> None:
    assert asked(LOCAL, HERE, *fields) == ""
