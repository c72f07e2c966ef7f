"""The files by which clients trust the sidecar's authority: its certificate alone, and all roots together.

`ca-bundle.crt` has what this system trusts, what the configuration adds, and the authority, since most
clients that are told of a bundle forget about the system's own. Only certificates are copied: a private key
that stands in a file of roots stays there.
"""

import os
import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.core.https import BUNDLE_NAME
from proxy.wire.certificate_files import CertificateFault, make_directory, read, replace

CERTIFICATE_NAME = "ca.crt"

_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE-----[ \t]*\r?\n[A-Za-z0-9+/=\s]{1,65536}-----END CERTIFICATE-----"
)
# How OpenSSL names the files of a directory of roots.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}")
# A system has 150; beyond this, someone has made a mistake.
_MOST_FILES = 4096


@dataclass(frozen=True, slots=True)
class Bundle:
    """What clients were given.

    Args:
        path: of the bundle.
        system_roots: how many certificates it has of this system; 0 is worth a warning.
        extra_roots: how many besides.
    """

    path: str
    system_roots: int
    extra_roots: int


def extra_roots(paths: Iterable[str]) -> tuple[str, ...]:
    """The certificates of files that the configuration names, in PEM, each once.

    Raises:
        CertificateFault: a file cannot be read, has no certificate, or one that is malformed.
    """
    found: dict[str, None] = {}
    for path in paths:
        certificates = list(_certificates(read(Path(path)).content))
        if not certificates:
            raise CertificateFault(path, "has no certificate in PEM")
        for certificate in certificates:
            if certificate is None:
                raise CertificateFault(path, "has a malformed certificate")
            found[certificate] = None
    return tuple(found)


def write(directory: Path, authority: bytes, extra: tuple[str, ...]) -> Bundle:
    """Writes both files, unless they are there with this content.

    Args:
        directory: made if absent; readable by all.
        authority: its certificate, in PEM.
        extra: as `extra_roots` gives them.

    Raises:
        CertificateFault: a file cannot be written.
    """
    make_directory(directory, 0o755)
    system = system_roots(directory)
    ours = authority.decode()
    roots = dict.fromkeys((*system, *extra))
    roots.pop(ours, None)
    bundle = "".join([*roots, ours]).encode()
    _write(directory / CERTIFICATE_NAME, authority)
    _write(directory / BUNDLE_NAME, bundle)
    return Bundle(str(directory / BUNDLE_NAME), len(system), len(extra))


def system_roots(written: Path) -> tuple[str, ...]:
    """What this process trusts by default, as OpenSSL finds it: a file, and directories of hashed names.

    Where SSL_CERT_FILE or SSL_CERT_DIR leads to what is written here, the places that OpenSSL was built with
    are taken: otherwise each start would add to the bundle of the former one, whose authority may be gone.

    Args:
        written: the directory that is written to.

    Returns:
        Certificates in PEM, each once. None of them if there are no files: an image without certificates.
        What cannot be read or is malformed is left out, as it would spoil the bundle for clients.
    """
    places = ssl.get_default_verify_paths()
    written = written.resolve()
    found: dict[str, None] = {}
    for environment, default in (
        (places.openssl_cafile_env, places.openssl_cafile),
        (places.openssl_capath_env, places.openssl_capath),
    ):
        chosen = os.environ.get(environment, default)
        for place in chosen.split(os.pathsep) if default == places.openssl_capath else (chosen,):
            path = Path(place)
            if written in (path.resolve(), path.resolve().parent):
                path = Path(default)
            for file in _files(path):
                with suppress(CertificateFault):
                    found.update(dict.fromkeys(filter(None, _certificates(read(file).content))))
    return tuple(found)


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a directory of hashed names."""
    try:
        if not path.is_dir():
            return [path]
        return sorted(file for file in path.iterdir() if _HASHED.fullmatch(file.name))[:_MOST_FILES]
    except OSError:
        return []


def _certificates(content: bytes) -> Iterator[str | None]:
    """The certificates of a file as everyone writes them; None for one that is malformed."""
    # OpenSSL judges them, as it is what most clients read the bundle with.
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for block in _BLOCK.findall(content):
        try:
            der = ssl.PEM_cert_to_DER_cert(block.decode("ascii"))
            judge.load_verify_locations(cadata=der)
        except (ValueError, ssl.SSLError):
            yield None
        else:
            yield ssl.DER_cert_to_PEM_cert(der)


def _write(path: Path, content: bytes) -> None:
    # What is there may be anything: clients can share the directory for writing.
    with suppress(CertificateFault):
        if read(path).content == content:
            return
    replace(path, content, 0o644)
