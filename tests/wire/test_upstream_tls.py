"""TLS towards upstreams: whom we believe, what we show, and what becomes of it where that does not do."""

import asyncio
import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from support import certificates
from support.certificates import NAME
from support.client import Answer, Client, get
from support.sidecar import Running, Start
from support.turns import until
from support.upstream import OK, Do, Expect, Refuse, ScriptedUpstream, Send

from proxy.core.client_hello import parse
from proxy.core.errors import TlsAlertReceived, TlsCertificateError, TlsProtocolError
from proxy.core.host_pattern import HostPattern
from proxy.core.https import Tls, TlsVersion
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Upstream
from proxy.wire.certificate_files import CertificateFault
from proxy.wire.upstream_tls import UpstreamTls

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
SERVE = [Expect(), Send(OK)] * 5


@pytest.fixture
def ca() -> str:
    """The file of the CA that signs the upstreams' certificates."""
    return certificates.authority_path()


def entry(host: str, **tls: Any) -> Upstream:
    return Upstream(match=HostPattern.parse(host), tls=Overlay(tls))


def showing(tmp_path: Path) -> tuple[str, str]:
    """The files of a certificate of ours, and of its key."""
    ours = certificates.certificate("sidecar.test")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "me.key"))
    return str(tmp_path / "me.pem"), str(tmp_path / "me.key")


def in_one_file(tmp_path: Path, *paths: str) -> str:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(Path(path).read_bytes() for path in paths))
    return str(both)


async def ask(proxy: Running, authority: str) -> Answer:
    async with await Client.connect(proxy.port) as client:
        await client.send(get(f"https://{authority}/"))
        return await client.answer()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_an_upstream_of_a_private_ca_is_believed(
    start: Start, ca: str, host: str, version: str
) -> None:
    proxy = await start(upstreams=(entry(f"[{host}]" if ":" in host else host, ca=ca),))
    where = "127.0.0.1" if host == "localhost" else host
    server = certificates.server(host, version=version)
    async with ScriptedUpstream(SERVE, host=where, tls=server) as upstream:
        authority = f"localhost:{upstream.port}" if host == "localhost" else upstream.authority
        answer = await ask(proxy, authority)
        assert (answer.status, answer.content) == (200, b"ok")
        exchange = await proxy.report()
    assert str(exchange.outcome) == "success"
    assert exchange.tls_s is not None


async def test_a_private_ca_is_believed_for_its_own_upstream_alone(start: Start, ca: str) -> None:
    proxy = await start(upstreams=(entry("other.test", ca=ca),))
    async with ScriptedUpstream(SERVE, tls=certificates.server("127.0.0.1")) as upstream:
        answer = await ask(proxy, upstream.authority)
    assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_certificate_error")


@pytest.mark.parametrize(
    ("name", "server", "reason"),
    [
        ("127.0.0.1", {"is_expired": True}, "certificate has expired"),
        ("127.0.0.1", {"is_trusted": False}, "unable to get local issuer certificate"),
        (NAME, {}, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
    ids=["expired", "of another CA", "for another name"],
)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_certificate_that_is_not_valid_is_a_failure_and_says_why(
    start: Start, ca: str, name: str, server: dict[str, Any], version: str, reason: str
) -> None:
    proxy = await start(circuit=ONE_FAILURE, upstreams=(entry("127.0.0.1", ca=ca),))
    async with ScriptedUpstream(SERVE, tls=certificates.server(name, **server, version=version)) as upstream:
        answer = await ask(proxy, upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_certificate_error")
        assert reason in str(answer.header("Proxy-Status"))
        exchange = await proxy.report()
        assert proxy.state(upstream.authority) == "open"
        assert (await ask(proxy, upstream.authority)).status == 503
    assert str(exchange.outcome) == "failure(tls)"
    assert isinstance(exchange.error, TlsCertificateError)


async def test_a_common_name_says_nothing_of_the_host(start: Start, ca: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority().issue_cert(common_name="localhost").configure_cert(server)
    proxy = await start(upstreams=(entry("localhost", ca=ca),))
    async with ScriptedUpstream(SERVE, tls=server) as upstream:
        answer = await ask(proxy, f"localhost:{upstream.port}")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_certificate_error")


def signs_itself(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server of 127.0.0.1, and the file of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "itself")])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    unsigned = unsigned.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = unsigned.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path, key_path = tmp_path / "itself.pem", tmp_path / "itself.key"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(certificate.public_bytes(pem))
    key_path.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return context, str(path)


async def test_one_that_signs_itself_is_believed_where_it_is_named(start: Start, tmp_path: Path) -> None:
    server, path = signs_itself(tmp_path)
    async with ScriptedUpstream(SERVE, tls=server) as upstream:
        answer = await ask(await start(), upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_certificate_error")
        assert "self-signed certificate" in str(answer.header("Proxy-Status"))
        assert (
            await ask(await start(upstreams=(entry("127.0.0.1", ca=path),)), upstream.authority)
        ).status == 200


@pytest.mark.parametrize(
    ("least", "spoken", "passes"),
    [
        (TlsVersion.TLS_1_2, "1.2", True),
        (TlsVersion.TLS_1_2, "1.3", True),
        (TlsVersion.TLS_1_3, "1.3", True),
        (TlsVersion.TLS_1_3, "1.2", False),
    ],
)
async def test_the_least_version(
    start: Start, ca: str, least: TlsVersion, spoken: str, *, passes: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE, upstreams=(entry("127.0.0.1", ca=ca, min_version=least),))
    server = certificates.server("127.0.0.1", version=spoken)
    if passes:
        async with ScriptedUpstream(SERVE, tls=server) as upstream:
            assert (await ask(proxy, upstream.authority)).status == 200
        return
    async with ScriptedUpstream([Refuse(server)]) as upstream:
        answer = await ask(proxy, upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_protocol_error")
        exchange = await proxy.report()
    assert isinstance(exchange.error, TlsProtocolError)
    assert exchange.error.details == "the upstream speaks no version of TLS from tls.min_version on"
    assert proxy.state(upstream.authority) == "open"


async def test_what_speaks_no_tls_is_a_failure(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream(
        [Expect(b"\x16\x03"), Send(b"HTTP/1.1 400 Bad\r\n\r\n"), Do.STALL]
    ) as upstream:
        answer = await ask(proxy, upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_protocol_error")
        assert "does not seem to speak TLS" in str(answer.header("Proxy-Status"))
        assert proxy.state(upstream.authority) == "open"


@pytest.mark.parametrize("last", [[], [Do.RESET]], ids=["closed", "reset"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x03"], ids=["at once", "in the middle"])
async def test_a_handshake_that_is_cut_is_a_failure_of_tls(
    start: Start, said: bytes, last: list[Any]
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(b"\x16\x03"), Send(said), *last]) as upstream:
        answer = await ask(proxy, upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
        assert str((await proxy.report()).outcome) == "failure(tls)"
        assert proxy.state(upstream.authority) == "open"


async def test_a_handshake_that_stalls_ends_by_its_own_timeout(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"https://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"\x16\x03")
        proxy.clock.now += 5
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (504, "connection_timeout")
        exchange = await proxy.report()
        await until(lambda: upstream.connections[0].ended)
    assert str(exchange.outcome) == "failure(tls)"


@pytest.mark.parametrize(("after_s", "outcome"), [(2.9, "neutral"), (3, "failure(abandoned)")])
async def test_a_client_that_leaves_in_the_handshake(start: Start, after_s: float, outcome: str) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"https://{upstream.authority}/"))
            await (await upstream.connection(0)).until(b"\x16\x03")
            proxy.clock.now += after_s
        assert str((await proxy.report()).outcome) == outcome
        await until(lambda: upstream.connections[0].ended)


# What we show.


@pytest.mark.parametrize("is_one_file", [True, False])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_certificate_of_ours_is_shown_to_who_asks(
    start: Start, ca: str, tmp_path: Path, version: str, *, is_one_file: bool
) -> None:
    certificate, key = showing(tmp_path)
    ours: dict[str, str] = {"client_cert": certificate, "client_key": key}
    if is_one_file:
        ours = {"client_cert": in_one_file(tmp_path, key, certificate)}
    proxy = await start(upstreams=(entry("127.0.0.1", ca=ca, **ours),))
    server = certificates.server("127.0.0.1", version=version, asks_clients=True)
    async with ScriptedUpstream(SERVE, tls=server) as upstream:
        assert (await ask(proxy, upstream.authority)).status == 200
        assert (await ask(proxy, upstream.authority)).status == 200
        assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    ("version", "alert"), [("1.2", "handshake_failure"), ("1.3", "certificate_required")]
)
async def test_where_there_is_none_the_upstreams_alert_tells(
    start: Start, ca: str, version: str, alert: str
) -> None:
    """In TLS 1.3 it comes behind the handshake, when the request is on its way."""
    proxy = await start(circuit=ONE_FAILURE, upstreams=(entry("127.0.0.1", ca=ca),))
    server = certificates.server("127.0.0.1", version=version, asks_clients=True)
    async with ScriptedUpstream([Refuse(server)]) as upstream:
        answer = await ask(proxy, upstream.authority)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "tls_alert_received")
        assert alert in str(answer.header("Proxy-Status"))
        exchange = await proxy.report()
    assert str(exchange.outcome) == "failure(tls)"
    assert isinstance(exchange.error, TlsAlertReceived)
    assert proxy.state(upstream.authority) == "open"


async def test_another_name_may_be_asked_for_and_verified(start: Start, ca: str) -> None:
    proxy = await start(upstreams=(entry("127.0.0.1", ca=ca, server_name=NAME),))
    server = certificates.server()
    asked: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    async with ScriptedUpstream(SERVE, tls=server) as upstream:
        assert (await ask(proxy, upstream.authority)).status == 200
        received = upstream.connections[0].received
        assert f"Host: {upstream.authority}\r\n".encode() in received
    assert asked == [NAME]


async def test_an_address_is_not_asked_for_by_name(start: Start, ca: str) -> None:
    """RFC 6066 section 3: literal addresses are not permitted in SNI."""
    proxy = await start(upstreams=(entry("127.0.0.1", ca=ca),))
    server = certificates.server("127.0.0.1")
    asked: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    async with ScriptedUpstream(SERVE, tls=server) as upstream:
        assert (await ask(proxy, upstream.authority)).status == 200
    assert asked == [None]


async def test_only_http_1_1_is_offered(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"\x16\x03")]) as upstream:
        assert (await ask(proxy, upstream.authority)).status == 502
        hello = parse(upstream.connections[0].received)
    assert hello is not None
    assert hello.protocols == ("http/1.1",)


# The system's roots.


async def test_the_systems_roots_are_read_once_and_not_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    load = ssl.SSLContext.load_default_certs

    def noted(self: ssl.SSLContext, *arguments: Any) -> None:
        threads.append(threading.get_ident())
        load(self, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", noted)
    contexts = UpstreamTls([Tls()])
    assert threads == []
    first = asyncio.ensure_future(contexts.ready(Tls()))
    others = [asyncio.ensure_future(contexts.ready(Tls())) for _ in range(3)]
    await asyncio.sleep(0)
    # One who gives up takes nothing from the others.
    first.cancel()
    await asyncio.gather(*others)
    await contexts.ready(Tls())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    contexts.transport(Tls(), "a").abort()


async def test_what_is_as_before_is_taken_over(ca: str, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Path(ca).read_bytes())  # noqa: ASYNC240 -- of a test
    kept, changed, gone = Tls(ca=ca), Tls(ca=str(other)), Tls(ca=ca, min_version=TlsVersion.TLS_1_3)
    former = UpstreamTls([kept, changed, gone])
    await former.ready(Tls())
    trustme.CA().cert_pem.write_to_path(str(other))
    new = Tls(ca=str(other), min_version=TlsVersion.TLS_1_3)
    contexts = UpstreamTls([kept, changed, new, Tls()], former)
    assert contexts.reread == {changed}
    for way, is_same in ((kept, True), (changed, False), (Tls(), True)):
        same = _context_of(contexts, way) is _context_of(former, way)
        assert same == is_same
    assert UpstreamTls([kept], contexts).reread == frozenset()


async def test_the_systems_roots_are_read_once_for_all_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: read.append(None))
    former = UpstreamTls()
    contexts = UpstreamTls((), former)
    await asyncio.gather(former.ready(Tls()), contexts.ready(Tls()))
    assert _context_of(contexts, Tls()) is _context_of(former, Tls())
    assert len(read) == 1


def _context_of(contexts: UpstreamTls, way: Tls) -> object:
    return contexts.transport(way, "a.test").get_extra_info("sslcontext")


def test_nothing_of_the_system_is_read_where_a_ca_is_named(ca: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", None)
    UpstreamTls([Tls(ca=ca)])


# Files.


@pytest.fixture
def files(tmp_path: Path, ca: str) -> Path:
    """A directory of files, good and bad."""
    showing(tmp_path)
    other = certificates.certificate("other.test")
    other.private_key_pem.write_to_path(str(tmp_path / "other.key"))
    key = serialization.load_pem_private_key((tmp_path / "me.key").read_bytes(), None)
    of_other_kind = ed25519.Ed25519PrivateKey.generate()
    plain, secret = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "authority.pem").write_bytes(Path(ca).read_bytes())
    (tmp_path / "ed.key").write_bytes(of_other_kind.private_bytes(pem, pkcs8, plain))
    (tmp_path / "secret.key").write_bytes(key.private_bytes(pem, pkcs8, secret))
    (tmp_path / "der").write_bytes(ssl.PEM_cert_to_DER_cert((tmp_path / "authority.pem").read_text()))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "letters").write_text("Főtanúsítvány\n")
    (tmp_path / "cut").write_bytes((tmp_path / "authority.pem").read_bytes()[:300])
    (tmp_path / "remarks").write_text("# Főtanúsítvány\n" + (tmp_path / "authority.pem").read_text(), "utf-8")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


NO_CERTIFICATE = "has no certificate in PEM, or a malformed one"
NO_KEY = "has no private key in PEM, or a malformed one"
NO_PAIR = "the key does not belong to the certificate"
NO_FILE = "cannot be read: it is not a regular file"


@pytest.mark.parametrize(
    ("way", "at_fault", "reason"),
    [
        ({"ca": "missing"}, "missing", "cannot be read: No such file or directory"),
        ({"ca": "directory"}, "directory", "cannot be read: Is a directory"),
        ({"ca": "pipe"}, "pipe", NO_FILE),
        ({"ca": "empty"}, "empty", NO_CERTIFICATE),
        ({"ca": "letters"}, "letters", NO_CERTIFICATE),
        ({"ca": "der"}, "der", NO_CERTIFICATE),
        ({"ca": "cut"}, "cut", NO_CERTIFICATE),
        ({"ca": "me.key"}, "me.key", NO_CERTIFICATE),
        ({"client_cert": "missing", "client_key": "me.key"}, "missing", "cannot be read: No such file"),
        ({"client_cert": "me.pem", "client_key": "missing"}, "missing", "cannot be read: No such file"),
        ({"client_cert": "pipe", "client_key": "me.key"}, "pipe", NO_FILE),
        ({"client_cert": "me.pem", "client_key": "pipe"}, "pipe", NO_FILE),
        ({"client_cert": "me.key", "client_key": "me.pem"}, "me.key", NO_CERTIFICATE),
        ({"client_cert": "me.pem"}, "me.pem", NO_KEY),
        ({"client_cert": "me.pem", "client_key": "empty"}, "empty", NO_KEY),
        ({"client_cert": "me.pem", "client_key": "authority.pem"}, "authority.pem", NO_KEY),
        ({"client_cert": "me.pem", "client_key": "other.key"}, "other.key", NO_PAIR),
        ({"client_cert": "me.pem", "client_key": "ed.key"}, "ed.key", NO_PAIR),
        (
            {"client_cert": "me.pem", "client_key": "secret.key"},
            "secret.key",
            "the key is encrypted, and there is no setting for its password",
        ),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_told_with_its_path(
    files: Path, way: dict[str, Any], at_fault: str, reason: str
) -> None:
    paths: dict[str, Any] = {key: str(files / name) for key, name in way.items()}
    with pytest.raises(CertificateFault) as caught:
        UpstreamTls([Tls(**paths)])
    assert caught.value.path == str(files / at_fault)
    assert caught.value.reason.startswith(reason)


def test_remarks_in_other_alphabets_do_no_harm(files: Path) -> None:
    UpstreamTls([Tls(ca=str(files / "remarks"))])
