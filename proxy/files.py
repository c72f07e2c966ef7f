"""The files that the settings name: read at the start, which a fault in one of them ends."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from proxy.control import admin_token, credentials_file, log, state_file
from proxy.control.admin_token import MadeToken, TokenFile
from proxy.control.config import ConfigError, Fault
from proxy.core.https import HttpsMode, Tls
from proxy.core.policies import Policies
from proxy.core.policy import Settings
from proxy.wire import trust_bundle
from proxy.wire.certificate_files import CertificateFault
from proxy.wire.upstream_tls import UpstreamTls

if TYPE_CHECKING:
    from proxy.wire.leaves import Leaves

_NEEDS_EXTRA = "https: intercept needs an extra: pip install 'breaker-proxy[intercept]'"


def check(settings: Settings) -> None:
    """Reads the files that others have made, and makes none.

    Raises:
        ConfigError: one of them cannot be used.
    """
    if settings.listen.credentials_file is not None:
        credentials_file.read(settings.listen.credentials_file)
    if settings.state_file is not None:
        state_file.check(settings.state_file)
    if settings.admin.token_file is not None:
        admin_token.read(settings.admin.token_file)
    upstream_tls(Policies(settings).tls)
    if _is_to_intercept(settings):
        _require_extra()
    with _config_errors("intercept.extra_roots"):
        trust_bundle.extra_roots(settings.intercept.extra_roots)


def token(settings: Settings, clock: Callable[[], float]) -> TokenFile | MadeToken | None:
    """The token of the admin port; None where only this machine can call, and nobody has chosen one.

    Raises:
        ConfigError: its file cannot be used.
    """
    if settings.admin.token_file is not None:
        return TokenFile(settings.admin.token_file, clock)
    return None if settings.listen.admin.is_loopback else MadeToken()


def upstream_tls(ways: Iterable[Tls]) -> UpstreamTls:
    """TLS towards upstreams.

    Args:
        ways: all in which it is spoken (`Policies.tls`).

    Raises:
        ConfigError: a certificate or a key cannot be used.
    """
    with _config_errors("upstreams.tls"):
        return UpstreamTls(ways)


def leaves(settings: Settings) -> "Leaves | None":
    """The certificates for what is to be intercepted, with the CA that signs them; None if nothing is.

    Raises:
        ConfigError: the CA or one of its directories cannot be used.
    """
    intercept = settings.intercept
    if not _is_to_intercept(settings):
        return None
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
def _config_errors(key: str) -> Iterator[None]:
    """Makes a fault of the configuration of one in a file that it names."""
    try:
        yield
    except CertificateFault as error:
        raise ConfigError([Fault(error.path, None, key, error.reason)]) from error
