"""The lines of exchanges: which of them have one, what it holds, and what is said once for each host.

Every line of an exchange has the same fields, null where there is nothing to say. Never written: a refusal (a
sick upstream would fill the disk), a query string, a credential, content. The paths of webhooks are
credentials too, so a path appears as a hash unless `log.path: full`.

What would be the same with every call, and is for somebody to mend, is said once for a host, whatever
`log.access` is. Clients choose the hosts: beyond MAX_HOSTS it is not said of any more.
"""

from pathlib import PurePath

from structlog.typing import FilteringBoundLogger

from proxy.control.log import logger, rounded
from proxy.core import policy
from proxy.core.errors import (
    AuthenticationRequired,
    CaNotTrusted,
    ClientTlsClosed,
    Draining,
    ProxyError,
    ProxyInternalError,
)
from proxy.core.exchange import Exchange, Source
from proxy.core.https import BUNDLE_NAME
from proxy.core.outcome import Verdict
from proxy.core.scope import endpoint_name
from proxy.core.target import Target

# Of how many hosts a thing is said.
MAX_HOSTS = 1000


class _Once:
    """Remembers of which hosts something was said."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()

    def is_first(self, exchange: Exchange) -> bool:
        """Whether it is to be said of the host of this one."""
        host = "" if exchange.target is None else exchange.target.host
        if host in self._hosts or len(self._hosts) == MAX_HOSTS:
            return False
        self._hosts.add(host)
        return True


class AccessLog:
    """Writes the lines of exchanges.

    Args:
        bundle_directory: `intercept.directory`, for the hint to clients that do not trust our CA.
    """

    def __init__(self, bundle_directory: str | None = None) -> None:
        self._hint = _how_to_trust(bundle_directory)
        self._untrusting = _Once()
        self._closing = _Once()
        self._tunnelled = _Once()

    def configure(self, settings: policy.Log) -> None:
        """Goes on with `access` and `path`; what was said once is not said again."""
        self._access = settings.access
        self._path = settings.path
        # Of the level that is in force now.
        self._logger: FilteringBoundLogger = logger().bind()

    def exchange_ended(self, exchange: Exchange, now: float) -> None:
        """Writes the line of an exchange, if it is to have one; to be called once, when it has ended.

        Args:
            exchange: as it ended.
            now: monotonic seconds.
        """
        error = exchange.error
        if isinstance(error, CaNotTrusted) and self._untrusting.is_first(exchange):
            self._not_trusted("client does not trust the CA", exchange, error)
        elif isinstance(error, ClientTlsClosed) and self._closing.is_first(exchange):
            # Node, Python's asyncio and at times Java say no more; nor does a client that had to hurry.
            self._not_trusted("client may not trust the CA", exchange, error)
        if exchange.tunnelled_because is not None and self._tunnelled.is_first(exchange):
            self._not_intercepted(exchange, exchange.tunnelled_because)
        if self._access is policy.AccessLog.OFF or (error is not None and error.refused):
            return
        failed = (
            (error is not None and not _is_usual(error))
            or exchange.unenforced is not None
            or exchange.outcome.verdict is Verdict.FAILURE
            or (exchange.source is Source.UPSTREAM and (exchange.status or 0) >= 500)  # noqa: PLR2004 -- RFC 9110 section 15.6
        )
        if not failed and self._access is policy.AccessLog.ERRORS:
            return
        if isinstance(error, ProxyInternalError):
            write = self._logger.error
        else:
            write = self._logger.warning if failed else self._logger.info
        write(
            "exchange ended",
            entry=exchange.entry.value,
            client_name=exchange.client_name,
            method=exchange.method,
            upstream=None if exchange.target is None else self._name(exchange.target),
            server_name=exchange.server_name,
            address=exchange.address,
            unenforced=exchange.unenforced,
            fell_back_for=exchange.fell_back_for,
            original=None if exchange.original is None else self._name(exchange.original),
            status=exchange.status,
            source=exchange.source.value,
            outcome=str(exchange.outcome),
            error=error and error.error_type,
            reason=error and error.reason,
            details=error and error.details,
            client_left=exchange.client_left,
            dns_s=rounded(exchange.dns_s),
            connect_s=rounded(exchange.connect_s),
            tls_s=rounded(exchange.tls_s),
            head_s=rounded(exchange.head_s),
            total_s=rounded(now - exchange.started),
            request_bytes=exchange.request_bytes,
            response_bytes=exchange.response_bytes,
            reused=exchange.reused,
        )

    def _not_trusted(self, event: str, exchange: Exchange, error: ProxyError) -> None:
        self._logger.warning(
            event,
            upstream=_host_of(exchange),
            server_name=exchange.server_name,
            client_name=exchange.client_name,
            details=error.details,
            hint=self._hint,
        )

    def _not_intercepted(self, exchange: Exchange, why: str) -> None:
        self._logger.info(
            "tunnelled in spite of https: intercept",
            upstream=_host_of(exchange),
            server_name=exchange.server_name,
            client_name=exchange.client_name,
            because=why,
        )

    def _name(self, target: Target) -> str:
        path, _, _ = target.origin_form.partition("?")
        if not path:  # a tunnel
            return target.circuit
        if self._path is policy.PathLog.FULL:
            return target.circuit + path
        # The name that its circuit has with `circuit.key: path`, so that one leads to the other.
        # surrogatepass: a str that is not text has a hash as well.
        return endpoint_name(target.circuit, path.encode("utf-8", "surrogatepass"))


def _is_usual(error: ProxyError) -> bool:
    """Whether nobody has to know: many clients give their credentials only when asked; idle tunnels end."""
    return isinstance(error, AuthenticationRequired) or (isinstance(error, Draining) and error.was_idle)


def _host_of(exchange: Exchange) -> str | None:
    return None if exchange.target is None else exchange.target.circuit


def _how_to_trust(directory: str | None) -> str:
    if directory is None:
        how = f"set intercept.directory, and make the client trust the {BUNDLE_NAME} that is written there"
    else:
        how = f"make the client trust {PurePath(directory) / BUNDLE_NAME}"
    return f"{how} (see docs/https.md); a client that trusts only its own list needs intercept.exclude"
