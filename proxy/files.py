"""The files that the settings name: read at the start, which a fault in one of them ends, and by a reload."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.control import admin_token, credentials_file, log, state_file
from proxy.control.config import ConfigError, Fault
from proxy.core.credentials import Credentials
from proxy.core.https import HttpsMode, Intercept, Tls
from proxy.core.policies import ways_of
from proxy.core.policy import Settings
from proxy.store import volume
from proxy.wire import trust_bundle
from proxy.wire.certificate_files import CertificateFault
from proxy.wire.upstream_tls import UpstreamTls

if TYPE_CHECKING:
    from proxy.wire.leaves import Leaves

_NEEDS_EXTRA = "https: intercept needs an extra: pip install 'breaker-proxy[intercept]'"


@dataclass(frozen=True, slots=True)
class Named:
    """What the files say that others have made.

    Attributes:
        upstream_tls: what upstreams are trusted by, and shown.
        credentials: the tokens of clients; None asks nobody.
        admin_token: the token of the admin port; None where no file is named.
    """

    upstream_tls: UpstreamTls
    credentials: Credentials | None
    admin_token: bytes | None


def check(settings: Settings, former: UpstreamTls | None = None) -> Named:
    """Reads the files that others have made, and makes none.

    Args:
        settings: name them.
        former: what is made of those that say what they said, when this was made.

    Raises:
        ConfigError: some of them cannot be used; with all faults.
    """
    faults: list[Fault] = []
    credentials, token, tls = None, None, UpstreamTls()
    with _gathered(faults):
        if settings.listen.credentials_file is not None:
            credentials = credentials_file.read(settings.listen.credentials_file)
    with _gathered(faults):
        if settings.state_file is not None:
            state_file.check(settings.state_file)
    with _gathered(faults):
        if settings.admin.token_file is not None:
            token = admin_token.read(settings.admin.token_file)
    with _gathered(faults):
        tls = upstream_tls(ways_of(settings), former)
    with _gathered(faults):
        if _is_to_intercept(settings):
            _require_extra()
    for path in settings.intercept.extra_roots:
        with _gathered(faults), _config_errors("intercept.extra_roots"):
            trust_bundle.extra_roots([path])
    if faults:
        raise ConfigError(faults)
    return Named(tls, credentials, token)


def doubts(settings: Settings) -> Iterator[tuple[str, str]]:
    """What of the files can be used, and may not do what is expected of it: as (key, what to know)."""
    path = settings.defer.path
    if path is not None and (doubt := volume.doubt(Path(path))) is not None:
        yield "defer.path", doubt


def upstream_tls(ways: Collection[Tls], former: UpstreamTls | None = None) -> UpstreamTls:
    """TLS towards upstreams.

    Args:
        ways: all in which it is spoken (`ways_of`).
        former: as in `UpstreamTls`.

    Raises:
        ConfigError: certificates or keys cannot be used; with all faults.
    """
    try:
        return UpstreamTls(ways, former)
    except CertificateFault as error:
        # First: by now it may have mended itself.
        faults = [Fault(error.path, None, "upstreams.tls", error.reason)]
        for way in ways:
            with _gathered(faults), _config_errors("upstreams.tls"):
                UpstreamTls([way])
        raise ConfigError(list(dict.fromkeys(faults))) from error


def leaves(settings: Settings, former: "Leaves | None" = None) -> "Leaves | None":
    """The certificates for what is to be intercepted, with the CA that signs them; None if nothing is.

    A CA that is there stays. The bundle for clients is written anew where it would say something else.

    Args:
        settings: name the directories.
        former: what a reload has had so far.

    Raises:
        ConfigError: the CA or one of its directories cannot be used, or the bundle cannot be written.
    """
    if not _is_to_intercept(settings):
        return former
    if former is None:
        return _first_leaves(settings.intercept)
    intercept = settings.intercept
    if intercept.directory is not None:
        with _config_errors("intercept"):
            extra = trust_bundle.extra_roots(intercept.extra_roots)
            trust_bundle.write(Path(intercept.directory), former.authority.pem, extra)
    return former


def _first_leaves(intercept: Intercept) -> "Leaves":
    _require_extra()
    from proxy.wire.certificate_authority import (  # noqa: PLC0415 -- an extra, imported only where it is used
        Origin,
        load_or_make,
    )
    from proxy.wire.leaves import Leaves  # noqa: PLC0415 -- as above

    now = datetime.now(UTC)
    with _config_errors("intercept"):
        opened = load_or_make(intercept.private_directory, intercept.directory, intercept.extra_roots, now)
    bundle = opened.bundle
    log.intercepting(
        fingerprint=opened.authority.fingerprint,
        not_after=opened.authority.certificate.not_valid_after_utc,
        origin=opened.origin.value,
        is_expiring=opened.origin is Origin.EXPIRING,
        bundle=None if bundle is None else bundle.path,
        system_roots=None if bundle is None else bundle.system_roots,
        extra_roots=None if bundle is None else bundle.extra_roots,
    )
    return Leaves(opened.authority, lambda: datetime.now(UTC))


def _is_to_intercept(settings: Settings) -> bool:
    return any(upstream.https is HttpsMode.INTERCEPT for upstream in settings.upstreams)


def _require_extra() -> None:
    """Sees to it that there is what interception needs beside the product itself."""
    try:
        import_module("cryptography")
    except ImportError as error:
        raise ConfigError([Fault("defaults", None, "upstreams.https", _NEEDS_EXTRA)]) from error


@contextmanager
def _gathered(faults: list[Fault]) -> Iterator[None]:
    """Goes on behind faults, and keeps them."""
    try:
        yield
    except ConfigError as error:
        faults += error.faults


@contextmanager
def _config_errors(key: str) -> Iterator[None]:
    """Makes a fault of the configuration of one in a file that it names."""
    try:
        yield
    except CertificateFault as error:
        raise ConfigError([Fault(error.path, None, key, error.reason)]) from error
