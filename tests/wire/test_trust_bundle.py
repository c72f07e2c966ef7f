"""What clients are given to trust: this system's roots, those of the configuration, and the sidecar's own."""

import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.core.https import BUNDLE_NAME
from proxy.wire.certificate_authority import load_or_make
from proxy.wire.certificate_files import CertificateFault
from proxy.wire.trust_bundle import CERTIFICATE_NAME, Bundle, extra_roots, system_roots, write

BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def root() -> bytes:
    """A certificate that nobody else has."""
    return load_or_make(None, None, (), datetime.now(UTC)).authority.pem


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an image without certificates, until a test says otherwise."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent" / "file"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "absent" / "directory"))


def written_to(directory: Path, *contents: bytes) -> None:
    directory.mkdir()
    for number, content in enumerate(contents):
        (directory / f"0000000{number}.0").write_bytes(content)


# What this system trusts.


def test_a_system_without_roots_has_none(tmp_path: Path) -> None:
    assert system_roots(tmp_path / "shared") == ()


def test_the_file_and_the_directory_are_what_openssl_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = root(), root(), root()
    (tmp_path / "file").write_bytes(first)
    written_to(tmp_path / "hashed", second, first)
    (tmp_path / "hashed" / "README").write_bytes(third)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "file"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "hashed"))
    assert system_roots(tmp_path / "shared") == (first.decode(), second.decode())


def test_several_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [root(), root()]
    for number, each in enumerate(roots):
        written_to(tmp_path / str(number), each)
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / '0'}{os.pathsep}{tmp_path / '1'}")
    assert system_roots(tmp_path / "shared") == tuple(each.decode() for each in roots)


def test_the_systems_own_are_those_that_python_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR")
    default = ssl.create_default_context()
    default.load_default_certs()
    listed = default.get_ca_certs(binary_form=True)
    found = {ssl.PEM_cert_to_DER_cert(each) for each in system_roots(tmp_path / "shared")}
    assert found >= set(listed)


def test_what_is_wrong_with_a_systems_root_costs_that_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = root()
    written_to(tmp_path / "hashed", BROKEN + good, b"", bytes(range(256)))
    os.mkfifo(tmp_path / "hashed" / "00000009.0")
    (tmp_path / "hashed" / "00000008.0").symlink_to("nowhere")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "hashed"))
    assert system_roots(tmp_path / "shared") == (good.decode(),)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_former_bundle_is_no_root_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A Pod often has the same environment in all containers."""
    shared, link = tmp_path / "shared", tmp_path / "link"
    link.symlink_to(shared)
    monkeypatch.setenv(variable, str(link / BUNDLE_NAME if variable == "SSL_CERT_FILE" else link))
    former, ours = root(), root()
    write(shared, former, ())
    (shared / "00000000.0").symlink_to(BUNDLE_NAME)
    write(shared, ours, ())
    bundle = (shared / BUNDLE_NAME).read_bytes()
    assert former not in bundle
    assert bundle.endswith(ours)


# What the configuration adds.


def test_a_root_in_any_company(tmp_path: Path) -> None:
    first, second = root(), root()
    path = tmp_path / "roots.pem"
    path.write_bytes("# Größe\n".encode() + first + b"\nissuer=x\n" + second.replace(b"\n", b"\r\n") + first)
    assert extra_roots([str(path)]) == (first.decode(), second.decode())


def test_what_is_wrong_with_a_root(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    for content, why in (
        (b"", "has no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----", "has no certificate in PEM"),
        (bytes(range(256)), "has no certificate in PEM"),
        (root() + BROKEN, "has a malformed certificate"),
        (root().replace(b"\nMII", b"\nMI"), "has a malformed certificate"),
    ):
        path.write_bytes(content)
        with pytest.raises(CertificateFault) as raised:
            extra_roots([str(path)])
        assert str(raised.value) == f"{path}: {why}"
    with pytest.raises(CertificateFault, match="none: cannot be read: No such file or directory"):
        extra_roots([str(tmp_path / "none")])


def test_a_good_file_does_not_excuse_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(root())
    (tmp_path / "empty").touch()
    with pytest.raises(CertificateFault, match="empty: has no certificate"):
        extra_roots([str(tmp_path / "good"), str(tmp_path / "empty")])


# What is written.


def test_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, extra, ours = root(), root(), root()
    (tmp_path / "file").write_bytes(system)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "file"))
    shared = tmp_path / "a" / "shared"
    bundle = write(shared, ours, (extra.decode(), system.decode(), ours.decode()))
    assert bundle == Bundle(str(shared / BUNDLE_NAME), system_roots=1, extra_roots=3)
    assert (shared / CERTIFICATE_NAME).read_bytes() == ours
    assert (shared / BUNDLE_NAME).read_bytes() == system + extra + ours
    assert {stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()} == {0o644}


def test_what_is_as_it_should_be_is_not_written(tmp_path: Path) -> None:
    ours = root()
    write(tmp_path, ours, ())
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    write(tmp_path, ours, ())
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    write(tmp_path, ours, (root().decode(),))
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert after[CERTIFICATE_NAME] == before[CERTIFICATE_NAME]
    assert after[BUNDLE_NAME] != before[BUNDLE_NAME]


def test_whatever_clients_have_put_there_is_replaced(tmp_path: Path) -> None:
    ours = root()
    os.mkfifo(tmp_path / CERTIFICATE_NAME)
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / BUNDLE_NAME).symlink_to("theirs")
    write(tmp_path, ours, ())
    assert (tmp_path / CERTIFICATE_NAME).read_bytes() == ours
    assert (tmp_path / BUNDLE_NAME).read_bytes() == ours
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / BUNDLE_NAME).mkdir()
    with pytest.raises(CertificateFault, match=r"ca-bundle.crt: cannot be written: Is a directory"):
        write(tmp_path, root(), ())


def test_the_bundle_can_be_loaded(tmp_path: Path) -> None:
    extra, ours = root(), root()
    write(tmp_path, ours, (extra.decode(),))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / BUNDLE_NAME)
    assert context.cert_store_stats()["x509_ca"] == 2
