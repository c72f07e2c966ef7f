"""What is read from the fields of one head beside framing: who is named, asked for, or may pass."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.headers import Field, Fields, Head, trailers_of


def test_a_field_that_a_proxy_reads_is_found_in_any_case_with_all_its_values() -> None:
    head = Head([(b"vIA", b"1.1 a"), (b"X", b"1"), (b"Via", b""), (b"VIA", b"1.0 b")])
    assert head.has(b"via")
    assert list(head.values(b"via")) == [b"1.1 a", b"", b"1.0 b"]
    assert not head.has(b"expect")
    assert list(head.values(b"expect")) == []
    assert not head.has(b"x"), "nobody reads it"


@pytest.mark.parametrize("name", [b"Connection", b"Transfer-Encoding", b"TE", b"Upgrade", b"Keep-Alive"])
def test_a_hop_by_hop_field_is_read_although_it_stays(name: bytes) -> None:
    head = Head([(name, b"x")])
    assert head.has(name.lower())
    assert list(head.values(name.lower())) == [b"x"]
    assert head.kept == []


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([], set()),
        ([b"close"], {b"close"}),
        ([b"Keep-Alive, X-One"], {b"keep-alive", b"x-one"}),
        ([b"\t a ,b\t", b"C"], {b"a", b"b", b"c"}),
        ([b"a,,"], {b"a", b""}),
        ([b""], {b""}),
        # Only space and tab surround a member; whoever strips more reads another message.
        ([b"\x0bclose"], {b"\x0bclose"}),
        ([b"close\xa0"], {b"close\xa0"}),
    ],
)
def test_the_members_of_a_list(values: list[bytes], options: set[bytes]) -> None:
    assert Head([(b"Connection", value) for value in values]).options(b"connection") == options


# Where `Host` stands, since its value is replaced in its place.


@pytest.mark.parametrize(
    ("fields", "host_at"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([(b"A", b"1")], None, id="no-host"),
        pytest.param([(b"Host", b"h")], 0, id="first"),
        pytest.param([(b"A", b"1"), (b"hOST", b"h"), (b"B", b"2")], 1, id="between"),
        pytest.param([(b"X-Host", b"1"), (b"Host", b"h")], 1, id="behind-one-that-looks-alike"),
        pytest.param([(b"TE", b"x"), (b"Upgrade", b"x"), (b"Host", b"h")], 0, id="behind-hop-by-hop"),
        pytest.param(
            [(b"X-One", b"1"), (b"A", b"1"), (b"Host", b"h"), (b"Connection", b"x-one")],
            1,
            id="behind-what-connection-names",
        ),
        pytest.param(
            [(b"Connection", b"x-one"), (b"Host", b"h"), (b"X-One", b"1")], 0, id="before-what-it-names"
        ),
        pytest.param([(b"Connection", b"x-one"), (b"X-One", b"1")], None, id="named-and-no-host"),
        pytest.param([(b"A", b"1"), (b"Host", b"h"), (b"Connection", b"host")], 1, id="named-itself"),
        pytest.param(
            [(b"A", b"1"), (b"Host", b"h"), (b"Connection", b"Host, a")], 0, id="named-with-another"
        ),
    ],
)
def test_where_host_stands(fields: Fields, host_at: int | None) -> None:
    head = Head(fields)
    assert head.host_at == host_at
    if host_at is not None:
        assert head.kept[host_at][0].lower() == b"host"


hosts_at_most_once = st.permutations([b"Host", b"A", b"B", b"TE", b"Via", b"X-One"]).flatmap(
    lambda names: st.lists(
        st.sampled_from([b"host", b"a", b"b", b"te", b"via", b"x-one", b"close"]), max_size=3
    ).map(lambda named: [*((name, b"v") for name in names), (b"Connection", b", ".join(named))])
)


@given(hosts_at_most_once, st.integers(0, 6))
def test_host_stands_where_it_says_whatever_connection_names(fields: list[Field], rotated: int) -> None:
    head = Head(fields[rotated:] + fields[:rotated])
    assert head.host_at is not None
    assert [at for at, field in enumerate(head.kept) if field[0] == b"Host"] == [head.host_at]


# What goes on and what goes no further than us.


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        pytest.param([], False, id="absent"),
        pytest.param([(b"Expect", b"100-continue")], True, id="alone"),
        pytest.param([(b"Expect", b"x"), (b"Connection", b"close")], True, id="connection-names-another"),
        pytest.param([(b"Expect", b"x"), (b"Connection", b"close, EXPECT")], False, id="connection-names-it"),
        pytest.param([(b"Connection", b"expect")], False, id="named-and-absent"),
    ],
)
def test_a_field_that_connection_names_does_not_pass(fields: Fields, passes: bool) -> None:  # noqa: FBT001 -- a column
    assert Head(fields).passes(b"expect") is passes


@pytest.mark.parametrize("name", [b"host", b"content-length"])
def test_what_cannot_be_taken_away_passes(name: bytes) -> None:
    assert Head([(name, b"5"), (b"Connection", name)]).passes(name)


@pytest.mark.parametrize(
    ("fields", "expects"),
    [
        pytest.param([], False, id="absent"),
        pytest.param([(b"Expect", b"100-Continue")], True, id="in-any-case"),
        pytest.param([(b"Expect", b"x, 100-continue")], True, id="in-a-list"),
        pytest.param([(b"Expect", b"x"), (b"Expect", b"100-continue")], True, id="in-a-second-field"),
        pytest.param([(b"Expect", b"200-ok")], False, id="another-expectation"),
        pytest.param([(b"Expect", b"")], False, id="empty"),
        pytest.param([(b"Expect", b"100-continue"), (b"Connection", b"expect")], False, id="for-us-alone"),
    ],
)
def test_who_may_wait_for_a_100(fields: Fields, expects: bool) -> None:  # noqa: FBT001 -- a column
    assert Head(fields).expects_continue is expects


@pytest.mark.parametrize(
    ("fields", "wants"),
    [
        pytest.param([], False, id="absent"),
        pytest.param([(b"TE", b"trailers")], True, id="alone"),
        pytest.param([(b"te", b"gzip;q=0.5, Trailers")], True, id="in-a-list"),
        pytest.param([(b"TE", b"gzip"), (b"TE", b"trailers")], True, id="in-a-second-field"),
        pytest.param([(b"TE", b"trailers"), (b"Connection", b"TE")], True, id="named-as-it-must-be"),
        pytest.param([(b"TE", b"gzip")], False, id="a-coding"),
        pytest.param([(b"TE", b"trailersx")], False, id="looks-alike"),
        pytest.param([(b"TE", b"")], False, id="empty"),
        pytest.param([(b"Trailer", b"trailers")], False, id="another-field"),
    ],
)
def test_who_takes_trailers(fields: Fields, wants: bool) -> None:  # noqa: FBT001 -- a column
    assert Head(fields).wants_trailers is wants


ASKED = (b"Connection", b"Upgrade")


@pytest.mark.parametrize(
    ("fields", "upgrades"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([ASKED, (b"Upgrade", b"websocket")], True, id="websocket"),
        pytest.param([(b"uPGRADE", b"WebSocket"), (b"connection", b"keep-alive, upgrade")], True, id="case"),
        pytest.param([(b"Upgrade", b"websocket")], False, id="connection-does-not-name-it"),
        pytest.param([(b"Upgrade", b"websocket"), (b"Connection", b"close")], False, id="names-another"),
        pytest.param([ASKED], False, id="no-protocol"),
        pytest.param([ASKED, (b"Upgrade", b"h2c")], False, id="h2c"),
        pytest.param([ASKED, (b"Upgrade", b"websocket, h2c")], False, id="websocket-and-another"),
        pytest.param([ASKED, (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")], False, id="two-fields"),
        # aiohttp takes neither for an upgrade, and would parse the frames behind a 101 as requests.
        pytest.param([ASKED, (b"Upgrade", b"websocket, websocket")], False, id="websocket-twice"),
        pytest.param([ASKED, *[(b"Upgrade", b"websocket")] * 2], False, id="the-same-field-twice"),
        pytest.param([ASKED, (b"Upgrade", b"websocket,")], False, id="an-empty-member"),
        pytest.param([ASKED, (b"Upgrade", b"websocket/13")], False, id="with-a-version"),
        pytest.param([ASKED, (b"Upgrade", b"")], False, id="empty"),
    ],
)
def test_only_to_a_websocket_a_hop_may_be_upgraded(fields: Fields, upgrades: bool) -> None:  # noqa: FBT001 -- a column
    assert Head(fields).upgrades is upgrades


# Trailers.


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"Proxy-Authenticate",
        b"Proxy-Authentication-Info",
        b"TE",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Content-Length",
        b"Content-Type",
        b"Content-Encoding",
        b"Content-Range",
        b"Host",
        b"Authorization",
        b"Set-Cookie",
        b"Expect",
        b"Max-Forwards",
        b"Cache-Control",
        b"Trailer",
        b"X-Breaker-Reason",
        b"Proxy-Status",
        b"Via",
        b"Location",
        b"Retry-After",
        b"Age",
        b"Date",
        b"Expires",
        b"Vary",
        b"WWW-Authenticate",
    ],
)
@pytest.mark.parametrize("spell", [bytes.title, bytes.lower, bytes.upper])
def test_what_is_no_trailer(name: bytes, spell: Callable[[bytes], bytes]) -> None:
    assert trailers_of([(b"A", b"1"), (spell(name), b"x"), (b"B", b"2")], Head([])) == [
        (b"A", b"1"),
        (b"B", b"2"),
    ]


def test_trailers_keep_order_case_duplicates_and_bytes() -> None:
    trailers = [(b"x-Sum", b"\xff"), (b"Server-Timing", b"a"), (b"X-SUM", b""), (b"Grpc-Status", b"0")]
    assert trailers_of(trailers, Head([])) == trailers
    assert trailers_of([], Head([])) == []


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        ([], [b"X-Sum", b"x-sum", b"Y"]),
        ([(b"Connection", b"close")], [b"X-Sum", b"x-sum", b"Y"]),
        ([(b"Connection", b"X-SUM")], [b"Y"]),
        ([(b"connection", b"close , x-sum\t"), (b"Connection", b",y")], []),
        ([(b"X-Connection", b"x-sum")], [b"X-Sum", b"x-sum", b"Y"]),
    ],
    ids=["no Connection", "it names none", "it names one", "over two fields", "another field"],
)
def test_a_trailer_that_connection_names_goes_no_further(fields: Fields, passed: list[bytes]) -> None:
    trailers = [(b"X-Sum", b"1"), (b"x-sum", b"2"), (b"Y", b"3")]
    assert [name for name, _ in trailers_of(trailers, Head(fields))] == passed
