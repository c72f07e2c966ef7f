"""The authority is made once, found again, refused where it cannot be trusted, and shown to clients."""

import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from support.certificates import trusting
from support.handshakes import handshake
from support.process import PATIENCE_S, ROOT

from proxy.wire import certificate_authority
from proxy.wire.certificate_authority import LIFE, RENEW_BEFORE, Authority, Opened, Origin, load_or_make
from proxy.wire.certificate_files import CertificateFault
from proxy.wire.leaves import Leaves

NOW = datetime.now(UTC).replace(microsecond=0)
NOBODY = 65534
HOST = "api.example.com"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "private"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def opened(private: Path | None, shared: Path | None = None, now: datetime = NOW, *roots: Path) -> Opened:
    return load_or_make(
        None if private is None else str(private),
        None if shared is None else str(shared),
        tuple(map(str, roots)),
        now,
    )


def refused(private: Path, shared: Path | None = None, now: datetime = NOW) -> str:
    """Why, by which path; and nothing of what is there has been touched."""
    before = contents(private)
    with pytest.raises(CertificateFault) as raised:
        opened(private, shared, now)
    assert contents(private) == before
    assert raised.value.path.startswith(str(private))
    return raised.value.path.removeprefix(str(private)) + ": " + raised.value.reason


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.is_dir() else {}


def pem_of(key: Any, password: bytes | None = None) -> bytes:
    scheme: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        scheme = serialization.BestAvailableEncryption(password)
    encoded: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme)
    return encoded


def certificate_of(
    key: Any,
    *,
    ca: bool | None = True,
    signs: bool = True,
    issuer: Any = None,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=365),
) -> bytes:
    """A certificate as another program may have made it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Ours")])
    usage = x509.KeyUsage(
        key_cert_sign=signs,
        crl_sign=False,
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(usage, critical=True)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    signing = key if issuer is None else issuer
    digest = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signing, digest).public_bytes(serialization.Encoding.PEM)


def put(private: Path, key: bytes | None, certificate: bytes | None, mode: int = 0o600) -> None:
    private.mkdir(exist_ok=True)
    if key is not None:
        (private / "ca.key").write_bytes(key)
        (private / "ca.key").chmod(mode)
    if certificate is not None:
        (private / "ca.crt").write_bytes(certificate)


async def verified(authority: Authority, bundle: Path) -> None:
    """A client that trusts the bundle takes a leaf of the authority."""
    leaves = Leaves(authority, lambda: NOW)
    try:
        await handshake(await leaves.context(HOST), trusting(bundle), HOST)
    finally:
        leaves.close()


# What it is.


def test_the_certificate_is_one_of_an_authority() -> None:
    certificate = opened(None).authority.certificate
    assert certificate.version is x509.Version.v3
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        NOW - timedelta(days=1),
        NOW + LIFE,
    )
    told = {each.value.__class__: (each.value, each.critical) for each in certificate.extensions}
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    assert told.pop(x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert told.pop(x509.SubjectKeyIdentifier) == (identifier, False)
    usage, critical = told.pop(x509.KeyUsage)
    assert isinstance(usage, x509.KeyUsage)
    assert critical
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert told == {}
    assert certificate.subject.rfc4514_string() == f"CN=breaker-proxy CA {identifier.digest.hex()[:8]}"


def test_each_is_another() -> None:
    first, second = opened(None).authority, opened(None).authority
    assert first.fingerprint != second.fingerprint
    assert first.certificate.subject != second.certificate.subject
    assert first.key.private_numbers() != second.key.private_numbers()


async def test_clients_that_read_the_bundle_take_its_leaves(private: Path, shared: Path) -> None:
    await verified(opened(private, shared).authority, shared / "ca-bundle.crt")
    await verified(opened(private, shared).authority, shared / "ca.crt")


async def test_clients_that_do_not_read_it_do_not(private: Path, shared: Path, tmp_path: Path) -> None:
    opened(None, shared)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        await verified(opened(private, tmp_path / "other").authority, shared / "ca-bundle.crt")


# Where it lies.


def test_who_may_read_what(private: Path, shared: Path) -> None:
    before = os.umask(0)
    try:
        found = opened(private, shared)
    finally:
        os.umask(before)
    assert found.origin is Origin.MADE
    modes = {str(p): stat.S_IMODE(p.stat().st_mode) for p in (private, *private.iterdir(), *shared.iterdir())}
    assert modes == {
        str(private): 0o700,
        str(private / "ca.key"): 0o600,
        str(private / "ca.crt"): 0o644,
        str(shared / "ca.crt"): 0o644,
        str(shared / "ca-bundle.crt"): 0o644,
    }
    assert not any(b"PRIVATE" in content for content in contents(shared).values())
    assert (shared / "ca.crt").read_bytes() == found.authority.pem == (private / "ca.crt").read_bytes()


def test_without_a_private_directory_the_key_touches_no_file(tmp_path: Path, shared: Path) -> None:
    opened(None, shared)
    assert {path.name for path in tmp_path.rglob("*")} == {"shared", "ca.crt", "ca-bundle.crt"}


def test_without_a_shared_directory_nothing_is_written_for_clients(tmp_path: Path, private: Path) -> None:
    assert opened(private).bundle is None
    assert {path.name for path in tmp_path.rglob("*")} == {"private", "ca.crt", "ca.key"}


def test_a_restart_keeps_it(private: Path, shared: Path) -> None:
    first = opened(private, shared)
    before = contents(private) | contents(shared)
    second = opened(private, shared, NOW + LIFE - RENEW_BEFORE - timedelta(days=1))
    assert second.origin is Origin.LOADED
    assert second.authority.fingerprint == first.authority.fingerprint
    assert contents(private) | contents(shared) == before


def test_extra_roots_are_added_and_their_keys_are_not(private: Path, shared: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = tmp_path / "root.pem"
    certificate = certificate_of(key)
    root.write_bytes(pem_of(key) + certificate)
    bundle = opened(private, shared, NOW, root).bundle
    assert bundle is not None
    assert bundle.extra_roots == 1
    written = (shared / "ca-bundle.crt").read_bytes()
    assert certificate in written
    assert b"PRIVATE" not in written


def test_a_wrong_extra_root_is_refused_before_anything_is_written(
    private: Path, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(CertificateFault, match="empty: has no certificate"):
        opened(private, shared, NOW, tmp_path / "empty")
    assert not private.exists()
    assert not shared.exists()


@pytest.mark.parametrize("below", ["", "key", "a/key"])
@pytest.mark.parametrize("linked", [False, True])
def test_clients_may_not_read_the_key(shared: Path, tmp_path: Path, below: str, *, linked: bool) -> None:
    shared.mkdir()
    outer = shared
    if linked:
        outer = tmp_path / "link"
        outer.symlink_to(shared)
    why = f"the key may not lie in {shared}, which clients read"
    assert refused(outer / below, shared) == f": {why}"
    assert list(shared.iterdir()) == []


def test_clients_may_not_read_the_key_in_a_directory_that_is_still_to_be_made(shared: Path) -> None:
    assert refused(shared / "key", shared).endswith("which clients read")
    assert not shared.exists()


def test_clients_may_not_read_the_key_in_a_volume_that_is_mounted_twice(
    private: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may not mount, so this says what the system would say."""
    private.mkdir()
    shared.mkdir()
    monkeypatch.setattr(Path, "samefile", lambda one, two: {one, two} == {private, shared})
    assert refused(private, shared) == f": the key may not lie in {shared}, which clients read"
    assert refused(private / "below", shared).endswith("which clients read")


def test_the_directory_for_clients_may_lie_in_the_private_one(private: Path) -> None:
    assert opened(private, private / "shared").origin is Origin.MADE


def test_a_name_that_only_begins_alike_is_another(tmp_path: Path) -> None:
    assert opened(tmp_path / "tls-private", tmp_path / "tls").origin is Origin.MADE


# What is refused.


def test_a_key_that_others_may_use(private: Path) -> None:
    opened(private)
    for mode in (0o604, 0o602, 0o644, 0o666, 0o777):
        (private / "ca.key").chmod(mode)
        assert (
            refused(private) == f"/ca.key: others may read or write it: its mode is {mode:04o}, expected 0600"
        )
    for mode in (0o620, 0o660):
        (private / "ca.key").chmod(mode)
        assert refused(private) == f"/ca.key: its group may write it: its mode is {mode:04o}, expected 0600"
    # A Secret with fsGroup is 0440, and others set it to 0400.
    for mode in (0o400, 0o440, 0o600, 0o640, 0o700):
        (private / "ca.key").chmod(mode)
        assert opened(private).origin is Origin.LOADED


def test_what_is_no_key(private: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    expected = "is of a kind that clients do not know: expected EC P-256, or RSA with 2048 bits"
    for content, why in (
        (b"", "is no private key in PEM"),
        (bytes(range(256)), "is no private key in PEM"),
        (certificate_of(elliptic), "is no private key in PEM"),
        (pem_of(elliptic)[:100], "is no private key in PEM"),
        (pem_of(elliptic, b"secret"), "is encrypted"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), expected),
        (pem_of(ec.generate_private_key(ec.SECP256K1())), expected),
        (pem_of(rsa.generate_private_key(65537, 1024)), expected),  # noqa: S505 -- that is why
    ):
        put(private, content, certificate_of(elliptic))
        assert refused(private) == f"/ca.key: {why}"


def test_what_is_no_certificate(private: Path) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    good = certificate_of(key)
    for content, why in (
        (b"", "is no certificate in PEM"),
        (bytes(range(256)), "is no certificate in PEM"),
        (pem_of(key), "is no certificate in PEM"),
        (good[:200], "is no certificate in PEM"),
        (good + certificate_of(other), "has 2 certificates, expected one"),
        (certificate_of(other), "is not the certificate of ca.key"),
        (certificate_of(key, ca=False), "is not the certificate of an authority"),
        (certificate_of(key, ca=None), "is not the certificate of an authority"),
        (certificate_of(key, signs=False), "is not the certificate of an authority"),
        (certificate_of(key, issuer=other), "is not self-signed"),
    ):
        put(private, pem_of(key), content)
        assert refused(private) == f"/ca.crt: {why}"


def test_a_certificate_without_its_key(private: Path) -> None:
    put(private, None, certificate_of(ec.generate_private_key(ec.SECP256R1())))
    assert refused(private) == "/ca.key: is missing, though there is ca.crt"


def test_what_cannot_be_read(private: Path) -> None:
    private.mkdir()
    os.mkfifo(private / "ca.key")
    with pytest.raises(CertificateFault, match=r"ca.key: cannot be read: it is not a regular file"):
        opened(private)
    (private / "ca.key").unlink()
    (private / "ca.key").symlink_to("nowhere")
    with pytest.raises(CertificateFault, match=r"ca.key: cannot be read: No such file or directory"):
        opened(private)
    with pytest.raises(CertificateFault, match="embedded null byte"):
        load_or_make("a\0b", "c", (), NOW)
    with pytest.raises(CertificateFault, match="embedded null byte"):
        load_or_make("a\0b", None, (), NOW)


def test_a_private_directory_that_is_none(private: Path) -> None:
    private.touch()
    with pytest.raises(CertificateFault, match="private: cannot be made: File exists"):
        opened(private)


# Of other makers.


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
async def test_an_authority_of_ones_own(private: Path, shared: Path, kind: str) -> None:
    keys: dict[str, Callable[[], Any]] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
    }
    key = keys[kind]()
    put(private, pem_of(key), certificate_of(key))
    found = opened(private, shared)
    assert found.origin is Origin.LOADED
    leaves = Leaves(found.authority, lambda: NOW)
    # It has no key identifier, which RFC 5280 asks for and strict clients insist on.
    lenient = ssl.create_default_context(cafile=shared / "ca-bundle.crt")
    lenient.verify_flags &= ~ssl.VERIFY_X509_STRICT
    await handshake(await leaves.context(HOST), lenient, HOST)
    leaves.close()


def test_the_symlinks_of_a_kubernetes_secret(private: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private.mkdir()
    put(private / "..1", pem_of(key), certificate_of(key), 0o440)
    (private / "..data").symlink_to("..1")
    for name in ("ca.key", "ca.crt"):
        (private / name).symlink_to(f"..data/{name}")
    assert opened(private).origin is Origin.LOADED


# The end.


@pytest.mark.parametrize("after", [LIFE - RENEW_BEFORE, LIFE - timedelta(days=1), LIFE, LIFE * 2])
async def test_near_its_end_and_past_it_a_new_one_is_made(
    private: Path, shared: Path, after: timedelta
) -> None:
    first = opened(private, shared, NOW - after).authority
    (shared / "ca.crt").rename(shared / "former.crt")
    second = opened(private, shared)
    assert second.origin is Origin.RENEWED
    assert second.authority.certificate.not_valid_after_utc == NOW + LIFE
    assert second.authority.fingerprint != first.fingerprint
    assert (private / "ca.crt").read_bytes() == (shared / "ca.crt").read_bytes() == second.authority.pem
    assert first.pem not in (shared / "ca-bundle.crt").read_bytes()
    assert opened(private).origin is Origin.LOADED
    await verified(second.authority, shared / "ca-bundle.crt")
    if after < LIFE:
        # Clients that have read the former one go on.
        await verified(second.authority, shared / "former.crt")


def test_one_of_another_maker_keeps_its_name(private: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    put(private, pem_of(key), certificate_of(key, ends=NOW + timedelta(days=30)))
    renewed = opened(private)
    assert renewed.origin is Origin.RENEWED
    assert renewed.authority.certificate.subject.rfc4514_string() == "O=Ours"


def test_one_that_has_not_begun_is_refused(private: Path) -> None:
    opened(private)
    early = NOW - timedelta(days=2)
    begins = f"{NOW - timedelta(days=1):%Y-%m-%d %H:%M}"
    assert refused(private, None, early) == f"/ca.crt: is valid from {begins} UTC on, which is to come"


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nobody may write to a directory, root included: its rights are given up meanwhile."""
    directory.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that can be reached without the rights of root."""
    path = Path(mkdtemp())
    path.chmod(0o755)
    yield path
    rmtree(path)


def made_read_only(directory: Path, now: datetime) -> Authority:
    authority = opened(directory, None, now).authority
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory / "ca.key", NOBODY, NOBODY)
    return authority


def test_a_read_only_directory_will_do(open_path: Path) -> None:
    path = open_path / "private"
    authority = made_read_only(path, NOW)
    with read_only(path):
        found = opened(path)
    assert found.origin is Origin.LOADED
    assert found.authority.fingerprint == authority.fingerprint


def test_one_that_cannot_be_renewed_is_used_to_its_end(open_path: Path) -> None:
    path = open_path / "private"
    authority = made_read_only(path, NOW)
    last = NOW + LIFE - timedelta(seconds=1)
    with read_only(path):
        found = opened(path, None, last)
    assert found.origin is Origin.EXPIRING
    assert found.authority.fingerprint == authority.fingerprint
    with read_only(path):
        why = refused(path, None, NOW + LIFE)
    ended = f"{NOW + LIFE:%Y-%m-%d}"
    assert why == f"/ca.crt: ended {ended}, and the next one cannot be written: Permission denied"


def test_a_read_only_directory_without_one_is_refused(open_path: Path) -> None:
    path = open_path / "private"
    path.mkdir()
    with read_only(path):
        assert refused(path) == "/ca.key: cannot be written: Permission denied"


def test_a_key_that_may_not_be_read(open_path: Path) -> None:
    path = open_path / "private"
    made_read_only(path, NOW)
    (path / "ca.key").chmod(0)
    with read_only(path), pytest.raises(CertificateFault, match=r"ca.key: cannot be read: Permission denied"):
        opened(path)


# Several processes, and crashes.

_START = """
import sys
from datetime import UTC, datetime
from proxy.wire.certificate_authority import load_or_make
sys.stdin.readline()
print(load_or_make(sys.argv[1], sys.argv[2], (), datetime.now(UTC)).authority.fingerprint)
"""
_CRASH = """
import os, sys
from datetime import UTC, datetime
from proxy.wire.certificate_authority import load_or_make
left, flush = int(sys.argv[3]), os.fsync
def fsync(descriptor):
    global left
    if not left:
        os._exit(9)
    left -= 1
    flush(descriptor)
os.fsync = fsync
load_or_make(sys.argv[1], sys.argv[2], (), datetime.now(UTC))
"""


def started(source: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", source, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_start_at_once_have_the_same(private: Path, shared: Path) -> None:
    processes = [started(_START, private, shared) for _ in range(6)]
    said = [process.communicate("\n", PATIENCE_S)[0].strip() for process in processes]
    assert set(said) == {opened(private, shared).authority.fingerprint}
    assert set(contents(private)) == {"ca.key", "ca.crt"}
    assert set(contents(shared)) == {"ca.crt", "ca-bundle.crt"}


_STEPS = ("read_if_there", "read", "create", "replace")


def at_each_step(monkeypatch: pytest.MonkeyPatch, intrude: Callable[[int], None]) -> list[str]:
    """Calls `intrude` before each access to a file; gives the accesses."""
    seen: list[str] = []
    for name in _STEPS:
        before = getattr(certificate_authority, name)

        def step(*arguments: Any, name: str = name, before: Callable[..., Any] = before) -> Any:
            seen.append(name)
            intrude(len(seen) - 1)
            return before(*arguments)

        monkeypatch.setattr(certificate_authority, name, step)
    return seen


def other(private: Path, now: datetime) -> str:
    """What another process has that starts now, wholly between two steps of ours."""
    process = started(
        _START.replace("datetime.now(UTC)", f"datetime.fromisoformat({now.isoformat()!r})"),
        private,
        private / "s",
    )
    return process.communicate("\n", PATIENCE_S)[0].strip()


@pytest.mark.parametrize("moment", range(6))
def test_another_process_may_start_at_any_step(
    private: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    theirs: list[str] = []

    def intrude(step: int) -> None:
        if step == moment:
            theirs.append(other(private, NOW))

    seen = at_each_step(monkeypatch, intrude)
    ours = opened(private).authority.fingerprint
    assert theirs == [ours]
    assert moment < len(seen)


@pytest.mark.parametrize("moment", range(3))
async def test_another_process_may_renew_it_at_any_step(
    private: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    first = opened(private, None, NOW - LIFE).authority
    theirs: list[str] = []

    def intrude(step: int) -> None:
        if step == moment:
            theirs.append(other(private, NOW))

    at_each_step(monkeypatch, intrude)
    ours = opened(private, shared).authority
    assert theirs
    assert ours.certificate.public_key() == first.certificate.public_key()
    # Whichever of the two clients have read, they take the leaves of both.
    await verified(ours, private / "ca.crt")
    await verified(ours, private / "s" / "ca.crt")


@pytest.mark.parametrize("moment", range(8))
def test_a_crash_at_any_moment_leaves_nothing_that_is_refused(
    private: Path, shared: Path, moment: int
) -> None:
    process = started(_CRASH, private, shared, moment)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 9
    found = opened(private, shared)
    assert opened(private, shared).authority.fingerprint == found.authority.fingerprint
    for directory in (private, shared):
        for path in directory.glob(".*"):
            key = b"PRIVATE" in path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == (0o600 if key else 0o644)
            assert directory == private or not key
            os.utime(path, (0, 0))
    (private / "ca.crt").unlink()
    (shared / "ca.crt").unlink()
    opened(private, shared)
    assert set(contents(private)) == {"ca.key", "ca.crt"}
    assert set(contents(shared)) == {"ca.crt", "ca-bundle.crt"}


# The extra.


def test_the_program_does_not_import_cryptography_unless_it_must() -> None:
    process = started("import sys, proxy.app, proxy.cli; print('cryptography' in sys.modules)")
    assert process.communicate(timeout=PATIENCE_S)[0] == "False\n"
