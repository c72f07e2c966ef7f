"""The settings of HTTPS: what becomes of it, how upstreams are verified, where our own CA lives."""

from dataclasses import dataclass
from enum import Enum

from proxy.core.host_pattern import HostPattern

# What clients are to trust, in `intercept.directory`.
BUNDLE_NAME = "ca-bundle.crt"


class HttpsMode(Enum):
    """What the proxy does with the HTTPS of an upstream (`https`).

    `tunnel` passes bytes on unseen. `intercept` ends the client's TLS here, so that each request walks the
    line. `originate` lets clients speak HTTP, and speaks HTTPS for them; a CONNECT is a tunnel there.
    """

    TUNNEL = "tunnel"
    INTERCEPT = "intercept"
    ORIGINATE = "originate"


class TlsVersion(Enum):
    """The least version of TLS that an upstream may speak (`tls.min_version`)."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How TLS is spoken to an upstream, wherever the proxy speaks it. The upstream is always verified.

    Attributes:
        ca: a file of certificates (PEM) that are trusted instead of the system's.
        client_cert, client_key: files (PEM) with what we show to an upstream that asks for it; without
            `client_key` the key stands in `client_cert`.
        server_name: the name to ask for (SNI) and to verify, in place of the host.
        min_version: the least version.
    """

    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None
    min_version: TlsVersion = TlsVersion.TLS_1_2


@dataclass(frozen=True, slots=True, kw_only=True)
class Intercept:
    """Our own CA, with which `https: intercept` ends TLS.

    Attributes:
        directory: gets `ca.crt` and `ca-bundle.crt`, for clients to read; None writes neither.
        private_directory: keeps the key of the CA over restarts.
        ephemeral: makes a CA for this process alone, where there is no private directory.
        exclude: hosts that are tunnelled all the same.
        extra_roots: files of certificates (PEM) that go into the bundle as well.
    """

    directory: str | None = None
    private_directory: str | None = None
    ephemeral: bool = False
    exclude: tuple[HostPattern, ...] = ()
    extra_roots: tuple[str, ...] = ()
