"""How targets are named over the wire: routes, loops, and how far a request may go."""

from typing import Any

import pytest
from support.client import ESTABLISHED, Client, get, request
from support.interception import start_intercepting
from support.sidecar import SETTINGS, Start
from support.tls_client import TlsClient, inside
from support.upstream import OK, Expect, ScriptedUpstream, Send, tls_upstream

from proxy.core.exchange import Entry
from proxy.core.host_pattern import HostPattern
from proxy.core.policy import Endpoint, Listen
from proxy.core.route import PathPrefix, Route, UpstreamUrl

SERVE = [Expect(), Send(OK)] * 20
REVERSE = Listen(proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0))


def routed(upstream: ScriptedUpstream, path: str = "/", host: str | None = None, base: str = "") -> Route:
    return Route(
        upstream=UpstreamUrl.parse(f"http://{upstream.authority}{base}"),
        host=None if host is None else HostPattern.parse(host),
        path=PathPrefix.parse(path),
    )


def reverse(*routes: Route) -> dict[str, Any]:
    """The sections for these routes."""
    return {"listen": REVERSE, "routes": routes}


def received(upstream: ScriptedUpstream) -> bytes:
    return b"".join(bytes(connection.received) for connection in upstream.connections)


# Routes.


async def test_a_route_changes_the_path_and_the_host_and_nothing_else(start: Start) -> None:
    async with ScriptedUpstream([Expect(b"event"), Send(OK)]) as upstream:
        proxy = await start(**reverse(routed(upstream, "/stripe", base="/base/")))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(
                b"POST /stripe/v1/%2e%2E?a=%20&&b HTTP/1.1\r\nX: \xe4\r\nhOST: Sidecar:3130\r\nx: 2\r\n"
                b"Content-Length: 5\r\n\r\nevent"
            )
            answer = await client.answer("POST")
        assert (answer.status, answer.content) == (200, b"ok")
        assert received(upstream) == (
            b"POST /base/v1/%2e%2E?a=%20&&b HTTP/1.1\r\nX: \xe4\r\n"
            + f"hOST: {upstream.authority}\r\n".encode()
            + b"x: 2\r\nContent-Length: 5\r\nVia: 1.1 testproxy\r\n\r\nevent"
        )
        exchange = await proxy.report()
        assert exchange.entry is Entry.REVERSE
        assert exchange.target is not None
        assert exchange.target.host_port == upstream.authority
        assert proxy.state(upstream.authority) == "closed"


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (b"GET /a?b HTTP/1.1\r\nHost: one.test\r\n", b"GET /x/a?b HTTP/1.1\r\nHost: "),
        (b"GET /a?b HTTP/1.1\r\nHost: ONE.test:3130\r\n", b"GET /x/a?b HTTP/1.1\r\nHost: "),
        (b"GET /a?b HTTP/1.1\r\nHost: one.test.\r\n", b"GET /x/a?b HTTP/1.1\r\nHost: "),
        (b"GET /a?b HTTP/1.0\r\nHost: one.test\r\n", b"GET /x/a?b HTTP/1.1\r\nHost: "),
        # RFC 9112 section 3.2.2: the absolute-form counts, and not the Host field beside it.
        (b"GET http://one.test/a HTTP/1.1\r\nHost: two.test\r\n", b"GET /x/a HTTP/1.1\r\nHost: "),
        (b"GET http://one.test:3130?b HTTP/1.1\r\nHost: two.test\r\n", b"GET /x/?b HTTP/1.1\r\nHost: "),
        (b"OPTIONS http://one.test HTTP/1.1\r\nHost: two.test\r\n", b"OPTIONS * HTTP/1.1\r\nHost: "),
        (b"OPTIONS * HTTP/1.1\r\nHost: one.test\r\n", b"OPTIONS * HTTP/1.1\r\nHost: "),
        (b"GET /two HTTP/1.1\r\nHost: two.test\r\n", b""),
        (b"GET http://two.test/a HTTP/1.1\r\nHost: one.test\r\n", b""),
        # RFC 9112 section 3.2: HTTP/1.0 clients may send no Host, and no route names that.
        (b"GET / HTTP/1.0\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost:\r\n", b""),
        (b"OPTIONS * HTTP/1.0\r\n", b""),
    ],
)
async def test_a_route_of_a_host(start: Start, head: bytes, sent: bytes) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream, host="one.test", base="/x")))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(head + b"\r\n")
            answer = await client.answer()
        assert answer.status == (200 if sent else 404)
        assert received(upstream).startswith(sent + upstream.authority.encode() if sent else b"")
        assert len(upstream.connections) == bool(sent)


@pytest.mark.parametrize("head", [b"GET /a HTTP/1.0\r\n", b"GET /a HTTP/1.1\r\nHost:\r\n"])
async def test_who_names_no_host_gets_a_route_for_any(start: Start, head: bytes) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(head + b"X: 1\r\n\r\n")
            assert (await client.answer()).status == 200
        host = f"GET /a HTTP/1.1\r\nHost: {upstream.authority}\r\nX: 1\r\n".encode()
        assert received(upstream).startswith(host)


async def test_no_route_is_404_and_the_connection_serves_on(start: Start) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream, "/a")))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(b"POST /ab?secret HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nevent")
            answer = await client.answer("POST")
            assert (answer.status, answer.header("X-Breaker-Reason")) == (404, "no_route")
            assert answer.header("Proxy-Status") == (
                "testproxy; error=destination_not_found;"
                ' details="no route leads from this host and path to an upstream"'
            )
            assert "secret" not in repr(answer)
            await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer()).status == 200
        exchange = await proxy.report(2)
    assert [str(exchange.outcome) for exchange in proxy.exchanges] == ["neutral", "success"]
    assert exchange.entry is Entry.REVERSE
    assert len(proxy.sidecar.circuits) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n",
        b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a\r\n",
        b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n",
        b"GET / HTTP/1.1\r\nHost: a:0\r\n",
        b"GET / HTTP/1.1\r\nHost: a:65536\r\n",
        b"GET / HTTP/1.1\r\nHost: \xe4\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a..b\r\n",
        b"GET / HTTP/1.0\r\nHost: a b\r\n",
    ],
    ids=repr,
)
async def test_what_no_route_can_be_asked_for_closes_the_connection(start: Start, head: bytes) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(head + b"\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (400, "bad_request")
            assert answer.header("Connection") == "close"
            assert await client.rest() == b""
        await proxy.report()
        assert not upstream.connections
        assert len(proxy.sidecar.circuits) == 0


async def test_routes_and_the_proxy_share_circuits_and_connections(start: Start) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        async with (
            await Client.connect(proxy.sidecar.reverse_port) as by_route,
            await Client.connect(proxy.port) as by_proxy,
        ):
            await by_route.send(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await by_route.answer()).status == 200
            await by_proxy.send(get(f"http://{upstream.authority}/two"))
            assert (await by_proxy.answer()).status == 200
            # Each port speaks its own language.
            await by_proxy.send(b"GET /three HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await by_proxy.answer()).header("X-Breaker-Reason") == "not_a_proxy_request"
        assert len(upstream.connections) == 1
        assert len(proxy.sidecar.circuits) == 1


# Loops.


@pytest.mark.parametrize(
    "via",
    [
        "1.1 testproxy",
        "1.0 testproxy",
        "HTTP/1.1 TestProxy",
        "1.1 testproxy (a comment)",
        "1.1 other,1.1\ttestproxy , 1.1 third",
        "1.1 other\r\nvia: 1.1 testproxy",
        "1.1 testproxy\r\nConnection: via",
    ],
)
async def test_a_request_that_was_here_before_goes_no_further(start: Start, via: str) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        for port, method, target in (
            (proxy.port, "GET", f"http://{upstream.authority}/"),
            (proxy.sidecar.reverse_port, "GET", "/"),
            (proxy.port, "CONNECT", upstream.authority),
        ):
            async with await Client.connect(port) as client:
                await client.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n".encode())
                answer = await client.answer(method)
                reason = answer.header("X-Breaker-Reason")
                assert (answer.status, reason) == (502, "proxy_loop_detected")
        await proxy.report(3)
        assert [str(exchange.outcome) for exchange in proxy.exchanges] == ["neutral"] * 3
        assert not upstream.connections
        assert len(proxy.sidecar.circuits) == 0


@pytest.mark.parametrize(
    "via",
    ["1.1 other", "1.1 testproxy2", "1.1 test", "1.1 other (testproxy)", "testproxy", "1.1 testproxy:80", ""],
)
async def test_others_on_the_way_are_no_loop(start: Start, via: str) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", f"Via: {via}"))
        assert (await client.answer()).status == 200
        assert f"\r\nVia: {via}\r\nVia: 1.1 testproxy\r\n\r\n".encode() in received(upstream)


async def test_the_way_back_to_ourselves_is_refused(start: Start) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        sidecar = proxy.sidecar
        for port in (sidecar.proxy_port, sidecar.reverse_port, sidecar.admin_port):
            for host in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]"):
                for method, target in (("GET", f"http://{host}:{port}/"), ("CONNECT", f"{host}:{port}")):
                    async with await Client.connect(proxy.port) as client:
                        await client.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                        answer = await client.answer(method)
                        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "address_denied")
        # One report each, and none of a request that came in by the way back.
        await proxy.report(30)
        assert len(sidecar.circuits) == 0


# Max-Forwards.


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("1", "0"),
        ("10", "9"),
        ("007", "6"),
        ("9" * 18, "9" * 17 + "8"),
        ("9" * 19, "9" * 19),
        ("9" * 5000, "9" * 5000),
        ("x", "x"),
        ("-1", "-1"),
        ("+1", "+1"),
        ("1.5", "1.5"),
        ("0x0", "0x0"),
        ("0, 1", "0, 1"),
        ("", ""),
    ],
    ids=lambda value: value[:20],
)
async def test_max_forwards_is_counted_down_in_its_place(
    start: Start, method: str, asked: str, sent: str
) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as client:
        lines = ("A: 1", f"max-FORWARDS: {asked}", "B: 0")
        await client.send(request(method, f"http://{upstream.authority}/", *lines))
        assert (await client.answer(method)).status == 200
        assert f"\r\nA: 1\r\nmax-FORWARDS: {sent}\r\nB: 0\r\n".encode() in received(upstream)


@pytest.mark.parametrize("zero", ["0", "000", "0" * 30, "0\r\nConnection: max-forwards"])
@pytest.mark.parametrize("entry", [Entry.FORWARD, Entry.REVERSE])
async def test_a_request_that_may_go_no_further_is_answered_here(
    start: Start, zero: str, entry: Entry
) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(**reverse(routed(upstream)))
        port = proxy.port if entry is Entry.FORWARD else proxy.sidecar.reverse_port
        target = f"http://{upstream.authority}/" if entry is Entry.FORWARD else "/"
        async with await Client.connect(port) as client:
            for method, status in (("OPTIONS", 200), ("TRACE", 405)):
                head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nCookie: s3cret\r\nMax-Forwards: {zero}\r\n"
                await client.send(head.encode() + b"\r\n")
                answer = await client.answer(method)
                assert answer.status == status
                assert answer.header("X-Breaker-Reason") == "max_forwards"
                assert answer.header("Connection") is None
                if method == "OPTIONS":
                    assert (answer.header("Content-Length"), answer.content) == ("0", b"")
                else:
                    assert answer.header("Allow") == "OPTIONS"
                assert "s3cret" not in repr(answer)
        exchange = await proxy.report(2)
        assert exchange.entry is entry
        assert str(exchange.outcome) == "neutral"
        assert not upstream.connections
        assert len(proxy.sidecar.circuits) == 0


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
async def test_other_methods_mean_nothing_by_max_forwards(start: Start, method: str) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as client:
        for count in ("0", "5"):
            await client.send(request(method, f"http://{upstream.authority}/", f"Max-Forwards: {count}"))
            await client.answer(method)
            assert f"\r\nMax-Forwards: {count}\r\n".encode() in received(upstream)


# OPTIONS for a whole server, on the proxy port.


@pytest.mark.parametrize(("path", "sent"), [("", "*"), ("/", "/"), ("?a", "/?a"), ("/a", "/a"), ("/*", "/*")])
async def test_options_without_a_path_is_for_the_whole_server(start: Start, path: str, sent: str) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as client:
        await client.send(f"OPTIONS http://{upstream.authority}{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await client.answer("OPTIONS")).status == 200
        line = f"OPTIONS {sent} HTTP/1.1\r\nHost: {upstream.authority}\r\n"
        assert received(upstream).startswith(line.encode())


async def test_options_for_the_proxy_itself_is_no_proxy_request(start: Start) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await client.answer("OPTIONS")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (400, "not_a_proxy_request")


# Inside of a CONNECT.


INSIDE = {
    "the same": ("GET /a?b HTTP/1.1\r\nHost: {authority}", 200, None),
    "the same, spelled otherwise": ("GET /a?b HTTP/1.1\r\nHost: LOCALHOST.:{port}", 200, None),
    "another host": ("GET / HTTP/1.1\r\nHost: other:{port}", 421, "misdirected_request"),
    "its address": ("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}", 421, "misdirected_request"),
    "another port": ("GET / HTTP/1.1\r\nHost: localhost:1", 421, "misdirected_request"),
    "the default port": ("GET / HTTP/1.1\r\nHost: localhost", 421, "misdirected_request"),
    "absolute": ("GET {scheme}://{authority}/a?b HTTP/1.1\r\nHost: other", 200, None),
    "absolute, another host": (
        "GET {scheme}://other:{port}/ HTTP/1.1\r\nHost: {authority}",
        421,
        "misdirected_request",
    ),
    "absolute, another scheme": (
        "GET {other}://{authority}/ HTTP/1.1\r\nHost: {authority}",
        421,
        "misdirected_request",
    ),
    "a strange scheme": (
        "GET ftp://{authority}/ HTTP/1.1\r\nHost: {authority}",
        400,
        "bad_request",
    ),
    "no host": ("GET /a?b HTTP/1.1", 400, "bad_request"),
    "no host, HTTP/1.0": ("GET /a?b HTTP/1.0", 200, None),
    "an empty host": ("GET /a?b HTTP/1.1\r\nHost:", 200, None),
    "no sense": ("GET / HTTP/1.1\r\nHost: a b", 400, "bad_request"),
    "the whole server": ("OPTIONS * HTTP/1.1\r\nHost: {authority}", 200, None),
    "a CONNECT": ("CONNECT {authority} HTTP/1.1\r\nHost: {authority}", 400, "bad_request"),
    "a loop": ("GET / HTTP/1.1\r\nHost: {authority}\r\nVia: 1.1 testproxy", 502, "proxy_loop_detected"),
    "the last hop": ("OPTIONS / HTTP/1.1\r\nHost: {authority}\r\nMax-Forwards: 0", 200, "max_forwards"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("case", INSIDE)
async def test_what_is_inside_of_a_connect_is_for_its_authority(start: Start, case: str, scheme: str) -> None:
    """RFC 9110 section 7.4: what is for somebody else is misdirected."""
    text, status, reason = INSIDE[case]
    proxy = await start_intercepting(start)
    upstream = tls_upstream(SERVE) if scheme == "https" else ScriptedUpstream(SERVE)
    async with upstream:
        authority = f"localhost:{upstream.port}"
        other = {"http": "https", "https": "http"}[scheme]
        asked = text.format(authority=authority, port=upstream.port, scheme=scheme, other=other)
        client = await _inside(scheme, proxy.port, authority)
        async with client:
            await client.send(asked.encode() + b"\r\n\r\n")
            method = asked.partition(" ")[0]
            answer = await client.answer(method)
        assert answer.status == status
        assert answer.header("X-Breaker-Reason") == reason
        exchange = await proxy.report(2)
        assert exchange.entry is (Entry.INTERCEPTED if scheme == "https" else Entry.FORWARD)
        if reason is None:
            target = "*" if case == "the whole server" else "/a?b"
            line = f"{method} {target} HTTP/1.1\r\n"
            assert received(upstream).startswith(line.encode())
            # The Host is the client's own, or where it has none that of the CONNECT.
            spelled = f"LOCALHOST.:{upstream.port}" if "spelled" in case else authority
            assert f"\r\nHost: {spelled}\r\n".encode() in received(upstream)
        else:
            assert not upstream.connections
            assert len(proxy.sidecar.circuits) == 0


async def _inside(scheme: str, port: int, authority: str) -> Client:
    """A client behind its CONNECT, with TLS or without."""
    if scheme == "https":
        return await TlsClient.through(port, authority)
    client = await Client.connect(port)
    await client.send(request("CONNECT", authority))
    assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
    return client


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_who_asks_for_another_name_in_tls_is_misdirected_whatever_it_asks(
    start: Start, method: str
) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.through(proxy.port, "localhost:9", host="other.test") as client:
        asks = inside("GET", "localhost:9") if method == "GET" else request(method, "localhost:9")
        await client.send(asks)
        answer = await client.answer(method)
        assert answer.status == (400 if method == "CONNECT" else 421)
    await proxy.report(2)
