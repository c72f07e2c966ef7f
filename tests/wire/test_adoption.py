"""A running sidecar goes on with other settings, wholly or not at all; what is under way keeps its own."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs
from support import certificates
from support.client import Answer, Client, get, tunnel
from support.clients import connections
from support.credentials import OTHER, field, line
from support.dns import DnsServer, Record
from support.interception import private_directory
from support.metrics import samples
from support.sidecar import SETTINGS, Running, Start
from support.tls_client import TlsClient, inside
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait, tls_upstream

from proxy import files
from proxy.app import Sidecar
from proxy.control import log
from proxy.control.config import ConfigError
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.host_pattern import HostPattern
from proxy.core.https import BUNDLE_NAME, HttpsMode, Intercept, Tls
from proxy.core.overlay import Overlay
from proxy.core.policy import (
    AccessLog,
    CircuitPolicy,
    Dns,
    Endpoint,
    Limits,
    Listen,
    Log,
    LogLevel,
    Metrics,
    Timeouts,
    Upstream,
)
from proxy.core.quantities import Bytes, Seconds
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.wire import name_servers
from proxy.wire.resolver import Resolver

SERVE = [Expect(), Send(OK)] * 20
# Nobody listens there.
NOWHERE = "127.66.0.1:9"
HERE = Endpoint("127.0.0.1", 0)


async def adopt(proxy: Running, **sections: Any) -> None:
    """Has the sidecar go on with these sections in place of those it has."""
    await proxy.sidecar.adopt(replace(proxy.sidecar.settings, **sections))


async def ask(proxy: Running, url: str, *fields: str) -> Answer:
    async with await Client.connect(proxy.port) as client:
        await client.send(get(url, *fields))
        return await client.answer()


def url_of(upstream: ScriptedUpstream) -> str:
    return f"http://{upstream.authority}/"


def by_tls(host: str = "127.0.0.1", https: HttpsMode = HttpsMode.TUNNEL, **tls: object) -> Upstream:
    wanted: Overlay[Tls] = Overlay({"ca": certificates.authority_path()} | tls)
    return Upstream(match=HostPattern.parse(host), tls=wanted, https=https)


# What is under way.


async def test_an_exchange_under_way_keeps_its_settings_and_the_next_has_the_others(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(head=Seconds(30)))
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Wait(go_on), Send(OK)], [Expect(), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client, await Client.connect(proxy.port) as other:
            await client.send(get(url_of(upstream)))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            await adopt(proxy, timeouts=Timeouts(head=Seconds(5)), via=False)
            await other.send(get(url_of(upstream)))
            late = await upstream.connection(1)
            assert b"Via" not in await late.until(b"\r\n\r\n")
            proxy.clock.now += 10
            assert (await other.answer()).status == 504
            go_on.set()
            answer = await client.answer()
    assert (answer.status, answer.header("Via")) == (200, "1.1 testproxy")


async def test_a_tunnel_stays(start: Start) -> None:
    proxy = await start()
    talk = [Expect(b"\0ping"), Send(b"pong")] * 2
    async with ScriptedUpstream(talk) as upstream, await tunnel(proxy.port, upstream.authority) as client:
        few = {"limits": Limits(max_tunnels=1)}
        for sections, reason in ((few, "local_limit"), ({"egress": Egress()}, "address_denied")):
            await client.send(b"\0ping")
            assert await client.reader.readexactly(4) == b"pong"
            await adopt(proxy, **sections)
            async with await Client.connect(proxy.port) as other:
                await other.send(f"CONNECT {NOWHERE} HTTP/1.1\r\nHost: {NOWHERE}\r\n\r\n".encode())
                assert (await other.answer("CONNECT")).header("X-Breaker-Reason") == reason


# Circuits.


async def test_circuits_keep_their_state_and_their_end(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1, open=Seconds(30)))
    oops = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(oops)], SERVE) as upstream:
        assert (await ask(proxy, url_of(upstream))).status == 500
        circuit = proxy.sidecar.circuits.get(upstream.authority)
        assert circuit is not None
        due = circuit.due
        await adopt(
            proxy, circuit=CircuitPolicy(consecutive_failures=1, open=Seconds(5), recovery_threshold=1)
        )
        assert proxy.sidecar.circuits.get(upstream.authority) is circuit
        assert (proxy.state(upstream.authority), circuit.due) == ("open", due)
        assert circuit.policy.recovery_threshold == 1
        proxy.clock.now = due - 0.001
        assert (await ask(proxy, url_of(upstream))).status == 503
        proxy.clock.now = due
        assert (await ask(proxy, url_of(upstream))).status == 200
        assert proxy.state(upstream.authority) == "closed"


async def test_a_tunnel_that_is_admitted_late_has_the_settings_of_then(start: Start) -> None:
    """Its CONNECT came before; in between its client has said that it cannot be intercepted."""
    proxy = await start(
        upstreams=(by_tls(https=HttpsMode.INTERCEPT),),
        intercept=Intercept(private_directory=str(private_directory())),
    )
    async with tls_upstream(SERVE) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.connected(upstream.authority)
            circuit = CircuitPolicy(window=Seconds(7))
            await adopt(proxy, circuit=circuit)
            tls = certificates.client("h2")
            await client.writer.start_tls(tls, server_hostname="127.0.0.1")
            found = proxy.sidecar.circuits.get(upstream.authority)
            assert found is not None
            assert found.policy.window == Seconds(7)


# Connections to upstreams.


async def test_a_connection_that_rests_is_lent_on_where_its_rules_are_the_same(start: Start) -> None:
    entry = Upstream(match=HostPattern.parse("127.0.0.1"), egress=Overlay({"allow": ()}))
    proxy = await start(upstreams=(entry,))
    async with ScriptedUpstream(SERVE) as upstream:
        for number in range(3):
            await ask(proxy, url_of(upstream))
            other = replace(entry, circuit=Overlay({"open": Seconds(1 + number)}))
            await adopt(proxy, upstreams=(other,), via=bool(number % 2))
            assert proxy.sidecar.data_plane.pool.idle == 1
        await ask(proxy, url_of(upstream))
        assert len(upstream.connections) == 1


async def test_a_connection_to_what_is_forbidden_now_ends(start: Start) -> None:
    proxy = await start()
    go_on = asyncio.Event()
    busy = [Expect(), Wait(go_on), Send(OK), Do.STALL]
    async with ScriptedUpstream(busy, [*SERVE, Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(url_of(upstream)))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            await ask(proxy, url_of(upstream))
            assert proxy.sidecar.data_plane.pool.idle == 1
            await adopt(
                proxy, egress=Egress(addresses=AllowedAddresses.ANY, deny=(Network.parse("127.0.0.1"),))
            )
            assert proxy.sidecar.data_plane.pool.idle == 0
            assert (await ask(proxy, url_of(upstream))).status == 502
            # What was in use does not rest behind it.
            go_on.set()
            assert (await client.answer()).status == 200
            await turns()
            assert proxy.sidecar.data_plane.pool.idle == 0
        await until(lambda: all(connection.ended for connection in upstream.connections))


async def test_connections_that_are_too_many_now_end(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as one, ScriptedUpstream(SERVE) as two:
        await ask(proxy, url_of(one))
        await ask(proxy, url_of(two))
        await adopt(proxy, limits=Limits(idle_total=1))
        assert proxy.sidecar.data_plane.pool.idle == 1
        await ask(proxy, url_of(two))
        assert len(two.connections) == 1, "the longest idle one goes"
        await adopt(proxy, limits=Limits(idle_per_host=0))
        assert proxy.sidecar.data_plane.pool.idle == 0
        await adopt(proxy, limits=Limits())
        await ask(proxy, url_of(one))
        assert proxy.sidecar.data_plane.pool.idle == 1
        await adopt(proxy, timeouts=Timeouts(upstream_idle=Seconds(1)))
        proxy.clock.now += 1
        await until(lambda: proxy.sidecar.data_plane.pool.idle == 0)


# TLS.


async def test_other_tls_ends_the_connections_and_holds_for_the_next(start: Start, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    certificates.authority().cert_pem.write_to_path(str(ca))
    proxy = await start(upstreams=(by_tls(ca=str(ca)),))
    async with tls_upstream(SERVE) as upstream:
        url = f"https://{upstream.authority}/"
        assert (await ask(proxy, url)).status == 200
        await adopt(proxy, via=False)
        assert proxy.sidecar.data_plane.pool.idle == 1
        # The same settings; their file says something else.
        trustme.CA().cert_pem.write_to_path(str(ca))
        await adopt(proxy)
        assert proxy.sidecar.data_plane.pool.idle == 0
        refused = await ask(proxy, url)
        assert (refused.status, refused.header("X-Breaker-Reason")) == (502, "tls_certificate_error")
        await adopt(proxy, upstreams=(by_tls(),))
        assert (await ask(proxy, url)).status == 200


async def test_an_exchange_under_way_dials_again_by_the_tls_it_began_with(
    start: Start, tmp_path: Path
) -> None:
    ca, strange = tmp_path / "ca.pem", tmp_path / "strange.pem"
    certificates.authority().cert_pem.write_to_path(str(ca))
    trustme.CA().cert_pem.write_to_path(str(strange))
    proxy = await start(upstreams=(by_tls(ca=str(ca)),))
    go_on = asyncio.Event()
    async with tls_upstream([Expect(), Send(OK), Expect(), Wait(go_on)], SERVE) as upstream:
        url = f"https://{upstream.authority}/"
        assert (await ask(proxy, url)).status == 200
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"{url}again"))
            await upstream.connections[0].until(b"again")
            ca.unlink()
            for _ in range(2):
                await adopt(proxy, upstreams=(by_tls(ca=str(strange)),))
            go_on.set()
            assert (await client.answer()).status == 200
        assert (await ask(proxy, url)).status == 502


async def test_interception_may_begin_and_end(start: Start) -> None:
    proxy = await start(intercept=Intercept(private_directory=str(private_directory())))
    async with tls_upstream(SERVE) as upstream:
        await adopt(proxy, upstreams=(by_tls(https=HttpsMode.INTERCEPT),))
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 200
            await adopt(proxy, upstreams=(by_tls(),))
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 200, "what stands goes on"
        async with await tunnel(proxy.port, upstream.authority) as client:
            await client.writer.start_tls(certificates.client(), server_hostname="127.0.0.1")


async def test_the_bundle_of_clients_has_other_roots(start: Start, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    trustme.CA().cert_pem.write_to_path(str(roots))
    intercept = Intercept(
        private_directory=str(private_directory()),
        directory=str(tmp_path / "trust"),
        extra_roots=(str(roots),),
    )
    proxy = await start(upstreams=(by_tls(https=HttpsMode.INTERCEPT),), intercept=intercept)
    bundle = tmp_path / "trust" / BUNDLE_NAME
    before = bundle.read_text()
    trustme.CA().cert_pem.write_to_path(str(roots))
    await adopt(proxy)
    after = bundle.read_text()
    assert after != before
    assert roots.read_text().strip() in after


# Names.


async def test_other_name_servers_are_asked_and_who_waits_for_the_former_gets_its_answer(
    start: Start,
) -> None:
    answer = asyncio.Event()
    slow = DnsServer({"a.test": Record(addresses=["127.0.0.1"], after=answer)})
    async with slow, DnsServer({"a.test": ["127.0.0.1"]}) as other, ScriptedUpstream(SERVE) as upstream:
        proxy = await start(dns=Dns(servers=(slow.endpoint,)))
        url = f"http://a.test:{upstream.port}/"
        async with await Client.connect(proxy.port) as client:
            await client.send(get(url))
            await slow.question("a.test")
            await adopt(proxy, dns=Dns(servers=(other.endpoint,)))
            assert (await ask(proxy, url)).status == 200
            answer.set()
            assert (await client.answer()).status == 200
        assert {name for name, _ in other.asked} == {"a.test"}
        assert samples(proxy.sidecar.metrics)["dns_lookups_total{result=answered}"] == 2


async def test_what_is_remembered_of_names_stays_where_their_settings_do(start: Start) -> None:
    async with (
        DnsServer({"a.test": Record(addresses=["127.0.0.1"], ttl=60)}) as server,
        ScriptedUpstream(SERVE) as upstream,
    ):
        proxy = await start(dns=Dns(servers=(server.endpoint,)), timeouts=Timeouts(upstream_idle=Seconds(0)))
        url = f"http://a.test:{upstream.port}/"
        assert (await ask(proxy, url)).status == 200
        asked = len(server.asked)
        await adopt(proxy, via=False)
        assert (await ask(proxy, url)).status == 200
        assert len(server.asked) == asked
        await adopt(proxy, timeouts=Timeouts(upstream_idle=Seconds(0), dns=Seconds(9)))
        assert (await ask(proxy, url)).status == 200
        assert len(server.asked) > asked


async def test_a_look_up_that_hangs_does_not_hold_the_end(start: Start) -> None:
    silent = asyncio.Event()
    async with DnsServer({"a.test": Record(after=silent)}) as server:
        proxy = await start(dns=Dns(servers=(server.endpoint,)))
        async with await Client.connect(proxy.port) as client:
            await client.send(get("http://a.test/"))
            await server.question("a.test")
            await adopt(proxy, dns=Dns())
            await proxy.sidecar.stop()
            assert (await client.answer()).status == 503


# Clients.


async def test_limits_hold_for_clients_that_come(start: Start) -> None:
    proxy = await start()
    long = "X-Long: " + "x" * 20_000
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as stands:
        await stands.send(get(url_of(upstream), long))
        assert (await stands.answer()).status == 200
        await adopt(proxy, limits=Limits(max_head=Bytes(4096), max_fields=16))
        assert (await ask(proxy, url_of(upstream), long)).status == 431
        assert (await ask(proxy, url_of(upstream), *(f"X-{number}: 1" for number in range(20)))).status == 431
        # aiohttp has its limits from the beginning.
        await stands.send(get(url_of(upstream), long))
        assert (await stands.answer()).status == 200


async def test_of_too_many_clients_the_longest_idle_go(start: Start) -> None:
    proxy = await start()
    async with AsyncExitStack() as stack, ScriptedUpstream([Expect(), Do.STALL]) as upstream:
        busy, *idle = [await _connected(proxy, stack, number) for number in range(1, 5)]
        await busy.send(get(url_of(upstream)))
        await upstream.connection(0)
        await adopt(proxy, limits=Limits(max_connections=2))
        assert await idle[0].rest() == b""
        assert await idle[1].rest() == b""
        assert len(proxy.sidecar.data_plane.clients) == 2


async def _connected(proxy: Running, stack: AsyncExitStack, number: int) -> Client:
    """A client that has connected a second later than those before it."""
    proxy.clock.now += 1
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    client = await stack.enter_async_context(await Client.connect(proxy.port))
    await until(lambda: len(proxy.sidecar.data_plane.clients) == number)
    return client


async def test_timeouts_of_clients_hold_for_those_who_are_there(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(client_idle=Seconds(600)))
    async with await Client.connect(proxy.port) as client:
        await until(lambda: connections(proxy))
        await adopt(proxy, timeouts=Timeouts(client_idle=Seconds(10)))
        proxy.clock.now += 11
        assert await client.rest() == b""


async def test_routes_are_others_on_a_connection_that_stands(start: Start) -> None:
    async with ScriptedUpstream(SERVE) as one, ScriptedUpstream(SERVE) as two:

        def routes(upstream: ScriptedUpstream) -> tuple[Route, ...]:
            return (
                Route(
                    path=PathPrefix.parse("/a"), upstream=UpstreamUrl.parse(f"http://{upstream.authority}")
                ),
            )

        proxy = await start(listen=Listen(proxy=HERE, admin=HERE, reverse=HERE), routes=routes(one))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            for upstream in (one, two):
                await adopt(proxy, routes=routes(upstream))
                await client.send(b"GET /a/b HTTP/1.1\r\nHost: me\r\n\r\n")
                assert (await client.answer()).status == 200
                assert len(upstream.connections) == 1


async def test_tokens_are_read_at_once(start: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(line())
    proxy = await start(listen=replace(SETTINGS.listen, credentials_file=str(tokens)))
    async with ScriptedUpstream(SERVE) as upstream:
        assert (await ask(proxy, url_of(upstream), field(token=OTHER))).status == 407
        tokens.write_text(line(token=OTHER))
        await adopt(proxy)
        assert (await ask(proxy, url_of(upstream), field(token=OTHER))).status == 200


# What is shown.


async def test_labels_and_lines_are_others(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as one, ScriptedUpstream(SERVE) as two:
        await ask(proxy, url_of(one))
        await ask(proxy, url_of(two))

        def labelled() -> set[str]:
            return {name for name in samples(proxy.sidecar.metrics) if name.startswith("circuit_state")}

        assert len(labelled()) == 2
        await adopt(proxy, metrics=Metrics(max_circuits=1))
        assert labelled() == {f"circuit_state{{circuit={one.authority},scope=host}}"}
        with capture_logs() as lines:
            await ask(proxy, url_of(one))
            assert lines == []
            await adopt(proxy, log=Log(access=AccessLog.ALL))
            await ask(proxy, url_of(one))
            await proxy.report(4)
            assert [entry["event"] for entry in lines] == ["exchange ended"]


async def test_the_level_is_another(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await start()
    levels: list[LogLevel] = []
    monkeypatch.setattr(log, "set_level", levels.append)
    await adopt(proxy, via=False)
    await adopt(proxy, log=Log(level=LogLevel.DEBUG, access=AccessLog.OFF))
    assert levels == [LogLevel.DEBUG]


# Nothing half-applied.


def in_force(proxy: Running) -> list[object]:
    """Everything that a reload replaces, by identity where it is an object of its own."""
    sidecar = proxy.sidecar
    plane = sidecar.data_plane
    own = vars(sidecar) | vars(plane)
    parts: list[object] = [
        sidecar,
        plane,
        plane.handler,
        plane.pool,
        plane.tunnels,
        plane.clients,
        sidecar.circuits,
    ]
    parts += [own[name] for name in ("_dialer", "_forwarding", "_access", "_by_route", "_credentials")]
    parts += plane.listeners.values()
    # What time changes.
    moving = {"now", "_latest", "_look_at", "_seen", "_changed_lately"}
    return [
        (name, value if isinstance(value, int | float | str) else id(value))
        for part in parts
        for name, value in vars(part).items()
        if name not in moving
    ]


def noted(monkeypatch: pytest.MonkeyPatch, made: list[Resolver], closed: list[Resolver]) -> None:
    """Notes which resolvers are made, and which are closed."""
    make, close = Resolver.__init__, Resolver.close

    def making(self: Resolver, *arguments: Any) -> None:
        make(self, *arguments)
        made.append(self)

    async def closing(self: Resolver) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(Resolver, "__init__", making)
    monkeypatch.setattr(Resolver, "close", closing)


def no_extra(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(files, "import_module", missing)


def no_channel(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no thread is left")

    monkeypatch.setattr(name_servers, "_Channel", fails)


def bad_tokens(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "tokens").write_text("s3cret")


def bad_root(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "root.pem").write_text("nothing")


def no_ca(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "ca.pem").unlink()


def strange_key(_: pytest.MonkeyPatch, folder: Path) -> None:
    trustme.CA().issue_cert("other.test").private_key_pem.write_to_path(str(folder / "me.key"))


def no_folder_for_the_key(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "private").write_text("a file")


def no_folder_for_the_bundle(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "trust").write_text("a file")


@pytest.mark.parametrize(
    "fault",
    [
        bad_tokens,
        bad_root,
        no_ca,
        strange_key,
        no_extra,
        no_channel,
        no_folder_for_the_key,
        no_folder_for_the_bundle,
    ],
    ids=lambda fault: str(fault.__name__),
)
async def test_a_fault_at_any_step_changes_nothing(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch, Path], None],
) -> None:
    (tmp_path / "tokens").write_text(line())
    shown = trustme.CA().issue_cert("sidecar.test")
    shown.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    for name in ("ca.pem", "root.pem"):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / name))
    shown.private_key_pem.write_to_path(str(tmp_path / "me.key"))
    proxy = await start(
        listen=replace(SETTINGS.listen, credentials_file=str(tmp_path / "tokens")),
        intercept=Intercept(private_directory=str(tmp_path / "private"), directory=str(tmp_path / "trust")),
    )
    tls = {"ca": "ca.pem", "client_cert": "me.pem", "client_key": "me.key"}
    entry = by_tls(https=HttpsMode.INTERCEPT, **{key: str(tmp_path / name) for key, name in tls.items()})
    wanted = replace(
        proxy.sidecar.settings,
        upstreams=(entry,),
        dns=Dns(ttl_max=Seconds(7)),
        limits=Limits(max_circuits=3, max_head=Bytes(5000)),
        timeouts=Timeouts(head=Seconds(7)),
        circuit=CircuitPolicy(open=Seconds(7)),
        egress=Egress(),
        log=Log(level=LogLevel.ERROR),
        metrics=Metrics(max_circuits=3),
        via=False,
        intercept=replace(proxy.sidecar.settings.intercept, extra_roots=(str(tmp_path / "root.pem"),)),
    )
    before = in_force(proxy)
    resolvers: list[Resolver] = []
    closed: list[Resolver] = []
    with monkeypatch.context() as patched:
        noted(patched, resolvers, closed)
        fault(patched, tmp_path)
        with pytest.raises((ConfigError, OSError)):
            await proxy.sidecar.adopt(wanted)
    assert in_force(proxy) == before
    assert closed == resolvers
    async with ScriptedUpstream(SERVE) as upstream:
        assert (await ask(proxy, url_of(upstream), field())).status == 200


async def test_all_faults_of_files_are_told_at_once(start: Start, tmp_path: Path) -> None:
    proxy = await start()
    names = [str(tmp_path / name) for name in ("one", "two", "three")]
    upstreams = tuple(by_tls(f"{place}.test", ca=name) for place, name in zip("ab", names, strict=False))
    with pytest.raises(ConfigError) as raised:
        await adopt(proxy, upstreams=upstreams, intercept=Intercept(extra_roots=(names[2],)))
    assert [fault.source for fault in raised.value.faults] == names


async def test_limits_are_lowered_as_at_the_start_and_that_is_told_once(start: Start) -> None:
    del start  # for its proof that nothing is left over
    with capture_logs() as lines:
        sidecar = Sidecar(SETTINGS, available=1000)
        for number in range(3):
            limits = Limits(max_circuits=10_000 + number)
            await sidecar.adopt(replace(sidecar.settings, limits=limits))
            assert sidecar.settings.limits.max_connections < 500
            assert sidecar.circuits.limits == sidecar.settings.limits
        await sidecar.stop()
    assert [line["event"][:14] for line in lines] == ["limits lowered"]
