"""Clients and upstreams that try to fool the rules on HTTPS, or to exhaust what carries it."""

import ssl
from contextlib import suppress

import pytest
from support import certificates
from support.client import Client, get, tunnel
from support.interception import private_directory, start_intercepting
from support.sidecar import Start
from support.tls_client import TlsClient
from support.tls_peer import hello
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.egress import AllowedAddresses, Egress, SniRules
from proxy.core.errors import ClientTlsFailed, HttpRequestDenied
from proxy.core.host_pattern import HostPattern
from proxy.core.https import Tls
from proxy.core.overlay import Overlay
from proxy.core.policy import Upstream
from proxy.wire.certificate_authority import CERTIFICATE_NAME
from proxy.wire.upstream_tls import UpstreamTls

# A warning that the client gives up something (user_canceled). Servers in Go skip it before a ClientHello.
WARNING = bytes.fromhex("1503010002015a")
ENFORCED = Egress(addresses=AllowedAddresses.ANY, sni=SniRules.ENFORCE)
REPORTED = Egress(addresses=AllowedAddresses.ANY, sni=SniRules.REPORT)


@pytest.mark.parametrize("size", [1, 5, 5000], ids=str)
async def test_no_alert_goes_ahead_of_a_hello_for_somebody_else(start: Start, size: int) -> None:
    proxy = await start(egress=ENFORCED)
    sent = WARNING + hello("denied.test")
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, f"localhost:{upstream.port}", sent[:size]) as client:
            client.writer.write(sent[size:])
            with suppress(ConnectionResetError):  # by what was not read by then
                assert await client.rest() == b""
        exchange = await proxy.report()
        await until(lambda: upstream.connections[0].ended)
    assert upstream.connections[0].received == b""
    assert isinstance(exchange.error, HttpRequestDenied)
    assert (exchange.error.reason, str(exchange.outcome)) == ("sni_denied", "neutral")


async def test_an_alert_ahead_passes_where_nothing_is_enforced(start: Start) -> None:
    proxy = await start(egress=REPORTED)
    async with ScriptedUpstream([Expect(WARNING), Send(b"heard")]) as upstream:
        async with await tunnel(proxy.port, f"localhost:{upstream.port}", WARNING) as client:
            assert await client.rest() == b"heard"
        exchange = await proxy.report()
    assert (exchange.unenforced, str(exchange.outcome)) == (None, "success")


@pytest.mark.parametrize("group", ["ffdhe8192", "secp521r1"])
async def test_no_client_chooses_a_key_exchange_that_keeps_the_loop(start: Start, group: str) -> None:
    proxy = await start_intercepting(start)
    context = certificates.trusting(private_directory() / CERTIFICATE_NAME)
    context.set_ecdh_curve(group)
    async with await TlsClient.standing(proxy.port, "localhost:9", context) as client:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.inside.shake()
        assert isinstance((await proxy.report()).error, ClientTlsFailed)


async def test_no_upstream_chooses_one(start: Start) -> None:
    ours = Upstream(match=HostPattern.parse("*"), tls=Overlay({"ca": certificates.authority_path()}))
    proxy = await start(upstreams=(ours,))
    server = certificates.server("127.0.0.1", version="1.3")
    server.set_ecdh_curve("ffdhe8192")
    async with ScriptedUpstream([Expect(), Send(OK)], tls=server) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"https://{upstream.authority}/"))
            assert (await client.answer()).status == 502
        exchange = await proxy.report()
    assert str(exchange.outcome) == "failure(tls)"
    assert exchange.error is not None
    assert exchange.error.details == "TLS with the upstream failed: key exchange over a finite field"


async def test_no_upstream_of_tls_1_2_chooses_one_of_its_own_making() -> None:
    way = Tls(ca=certificates.authority_path())
    context = UpstreamTls([way]).transport(way, "a.test").get_extra_info("sslcontext")
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert "ECDHE-RSA-AES128-GCM-SHA256" in names
    assert not [name for name in names if name.startswith("DHE")]
