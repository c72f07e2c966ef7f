"""Leaves are what their hosts' clients expect, and their key touches no disk."""

import os
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import trusting
from support.handshakes import handshake, memory_files

from proxy.core.host import normalised
from proxy.wire.certificate_authority import LIFE as LIFE_OF_AUTHORITY
from proxy.wire.certificate_authority import Authority, load_or_make
from proxy.wire.mint import BACKDATED, LIFE, LeafFault, Mint

HOST = "api.example.com"
LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
START = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def authority(shared: Path) -> Authority:
    return load_or_make(None, str(shared), (), START).authority


@pytest.fixture
def mint(authority: Authority) -> Mint:
    return Mint(authority)


@pytest.fixture
def client(authority: Authority, shared: Path) -> ssl.SSLContext:
    """Trusts the authority."""
    del authority
    return trusting(shared / "ca-bundle.crt")


# What a client is shown.


@pytest.mark.parametrize(
    ("host", "kind", "told"),
    [
        (HOST, "DNS", HOST),
        ("localhost", "DNS", "localhost"),
        ("a_b.example.com", "DNS", "a_b.example.com"),
        ("-a-.example.com", "DNS", "-a-.example.com"),
        ("xn--bcher-kva.example", "DNS", "xn--bcher-kva.example"),
        ("a" * 63, "DNS", "a" * 63),
        (LONGEST, "DNS", LONGEST),
        ("192.0.2.1", "IP Address", "192.0.2.1"),
        ("2001:db8::1", "IP Address", "2001:DB8:0:0:0:0:0:1"),
    ],
)
async def test_a_client_takes_it_for_the_host(
    mint: Mint, client: ssl.SSLContext, host: str, kind: str, told: str
) -> None:
    shown = await handshake(mint.leaf(host, START).context, client, host)
    assert shown.names == ((kind, told),)
    assert shown.version == "TLSv1.3"


@pytest.mark.parametrize("other", ["www.example.com", "com", "example.com.example.com", "192.0.2.1"])
async def test_a_client_takes_it_for_no_other_host(mint: Mint, client: ssl.SSLContext, other: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        await handshake(mint.leaf("example.com", START).context, client, other)


def test_the_certificate(mint: Mint, authority: Authority) -> None:
    certificate = mint.certificate(HOST, START)
    assert certificate.issuer == authority.certificate.subject
    assert certificate.subject.rfc4514_string() == f"CN={HOST}"
    assert certificate.not_valid_before_utc == START - BACKDATED
    assert certificate.not_valid_after_utc == START + LIFE
    told = {type(each.value): (each.value, each.critical) for each in certificate.extensions}
    usage, critical = told.pop(x509.KeyUsage)
    assert isinstance(usage, x509.KeyUsage)
    assert critical
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    key = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key)
    assert told == {
        x509.SubjectAlternativeName: (x509.SubjectAlternativeName([x509.DNSName(HOST)]), False),
        x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True),
        x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        x509.AuthorityKeyIdentifier: (of_issuer, False),
    }


def test_one_key_and_many_serials(mint: Mint, authority: Authority) -> None:
    first, second = mint.certificate(HOST, START), mint.certificate("other.example.com", START)
    assert first.public_key() == second.public_key() != authority.key.public_key()
    assert first.serial_number != second.serial_number
    assert Mint(authority).certificate(HOST, START).public_key() != first.public_key()


@pytest.mark.parametrize(("host", "named"), [("a" * 60 + ".com", True), ("a" * 61 + ".com", False)])
def test_a_name_that_is_too_long_for_the_subject_is_only_an_alternative(
    mint: Mint, host: str, *, named: bool
) -> None:
    certificate = mint.certificate(host, START)
    assert bool(list(certificate.subject)) is named
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.critical is not named


@pytest.mark.parametrize(
    ("offered", "selected"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
async def test_only_http_1_is_spoken(
    mint: Mint, client: ssl.SSLContext, offered: list[str], selected: str | None
) -> None:
    if offered:
        client.set_alpn_protocols(offered)
    assert (await handshake(mint.leaf(HOST, START).context, client, HOST)).protocol == selected


async def test_the_least_version(mint: Mint, client: ssl.SSLContext) -> None:
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    context = mint.leaf(HOST, START).context
    assert (await handshake(context, client, HOST)).version == "TLSv1.2"
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize("tickets", [True, False])
async def test_no_session_of_tls_1_3_is_remembered(
    mint: Mint, client: ssl.SSLContext, *, tickets: bool
) -> None:
    if not tickets:
        client.options |= ssl.OP_NO_TICKET
    context = mint.leaf(HOST, START).context
    await handshake(context, client, HOST)
    assert context.session_stats()["number"] == 0


_HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,4}", fullmatch=True),
    st.ip_addresses().map(str),
)
_MINT = Mint(load_or_make(None, None, (), START).authority)


@settings(max_examples=100, deadline=None)
@given(_HOSTS)
def test_any_host_works(text: str) -> None:
    try:
        host = normalised(text)
    except ValueError:
        return
    assert _MINT.leaf(host, START).replace_at == START + LIFE / 2


@pytest.mark.parametrize(
    "host",
    ["*.example.com", "*", "API.example.com", "", "a b", "a.", "[::1]", "1.2.3", "::ffff:1.2.3.4", "é"],
)
def test_what_is_no_host_is_refused(mint: Mint, host: str) -> None:
    with pytest.raises(LeafFault, match="it is no host, or not in its normal form"):
        mint.leaf(host, START)


# How long it lasts.


def test_half_its_life(mint: Mint) -> None:
    leaf = mint.leaf(HOST, START)
    assert (leaf.begins, leaf.replace_at) == (START - BACKDATED, START + LIFE / 2)


def test_it_does_not_outlive_its_authority(mint: Mint) -> None:
    ends, begins = START + LIFE_OF_AUTHORITY, START - timedelta(days=1)
    late = ends - timedelta(days=2)
    assert mint.certificate(HOST, late).not_valid_after_utc == ends
    assert mint.leaf(HOST, late).replace_at == ends - timedelta(days=1)
    assert mint.certificate(HOST, begins).not_valid_before_utc == begins
    for now in (ends, begins - timedelta(seconds=1)):
        with pytest.raises(LeafFault, match="authority has ended, or has not begun"):
            mint.leaf(HOST, now)


# Where the key goes.


def test_no_directory_for_temporary_files_is_needed(
    mint: Mint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = memory_files()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    mint.leaf(HOST, START)
    assert memory_files() == before
    # And without files in memory, it would be.
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(LeafFault, match="No such file or directory"):
        mint.leaf(HOST, START)


@pytest.mark.parametrize("how", ["not Linux", "forbidden"])
async def test_a_system_without_files_in_memory(
    mint: Mint, client: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def forbidden(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    if how == "not Linux":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", forbidden)
    await handshake(mint.leaf(HOST, START).context, client, HOST)
    assert list(folder.iterdir()) == []
