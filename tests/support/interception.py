"""Sidecars that intercept, all with one CA that clients trust; they trust that of `certificates.py`."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept
from proxy.core.overlay import Overlay
from proxy.core.policy import Upstream
from proxy.wire.certificate_authority import CERTIFICATE_NAME, load_or_make
from proxy.wire.mint import Leaf, Mint
from support import certificates
from support.sidecar import Running, Start

# Far longer than any test takes.
_PATIENCE_S = 20.0


@cache
def private_directory() -> Path:
    """Where the sidecars' CA is."""
    private = certificates.directory() / "private"
    load_or_make(str(private), None, (), datetime.now(UTC))
    return private


@cache
def trusting(*protocols: str, version: str | None = None) -> ssl.SSLContext:
    """A client that trusts the sidecars' CA, and nothing else.

    Args:
        protocols: what it offers by ALPN; nothing, if there are none.
        version: the only version of TLS that it speaks.
    """
    return certificates.trusting(private_directory() / CERTIFICATE_NAME, *protocols, version=version)


@cache
def unnamed() -> ssl.SSLContext:
    """One that verifies no name, and so need not ask for one."""
    context = certificates.trusting(private_directory() / CERTIFICATE_NAME)
    context.check_hostname = False
    return context


def sections(*matches: str, https: HttpsMode = HttpsMode.INTERCEPT, **tls: object) -> dict[str, Any]:
    """The settings of a sidecar that intercepts, and trusts upstreams.

    Args:
        matches: whose HTTPS is meant; all, if there are none.
        https: what it does with that instead.
        tls: what else it wants of the TLS of these upstreams.
    """
    wanted = Overlay[Any]({"ca": certificates.authority_path()} | tls)
    return {
        "intercept": Intercept(private_directory=str(private_directory())),
        "upstreams": tuple(
            Upstream(match=HostPattern.parse(match), https=https, tls=wanted) for match in matches or ("*",)
        ),
    }


async def start_intercepting(start: Start, *matches: str, **changes: Any) -> Running:
    """Starts a sidecar with these settings, and other sections besides."""
    return await start(**sections(*matches) | changes)


@contextmanager
def slow_minting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Certificates are made only once the test says so, by what it is given."""
    go = threading.Event()
    leaf = Mint.leaf

    def slow(self: Mint, *arguments: Any) -> Leaf:
        assert go.wait(_PATIENCE_S)
        return leaf(self, *arguments)

    monkeypatch.setattr(Mint, "leaf", slow)
    try:
        yield go.set
    finally:
        go.set()
