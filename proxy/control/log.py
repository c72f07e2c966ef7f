"""What is written to standard output: JSON lines, for exchanges, for transitions, for the process itself.

Lines are for machines that ship them and for people who grep them: every line begins with `timestamp`
(ISO 8601, UTC), `level` and `event`; every exchange has the same fields, null where there is nothing to
say. They are pure ASCII: what a peer sent cannot break a line or speak to a terminal.

Never written: a refusal (a sick upstream would fill the disk), a query string, a credential, content. The
paths of webhooks are credentials too, so a path appears as a hash unless `log.path: full`.

The log must not hurt the traffic. `Output` writes only what standard output takes at once; while it is
full, closed or broken, lines are dropped and counted, and the next line that gets through says how many
(`lines_dropped`).
"""

import logging
import os
import select
import sys
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import BinaryIO, TextIO

import structlog
from aiohttp.http import HttpProcessingError
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy import __version__
from proxy.core import policy
from proxy.core.errors import AuthenticationRequired, ProxyInternalError
from proxy.core.exchange import Exchange, Source
from proxy.core.listeners import Listener
from proxy.core.outcome import Verdict
from proxy.core.scope import endpoint_name
from proxy.core.states import State, Transition
from proxy.core.target import Target

# POSIX: a pipe that poll() calls writable takes this much at once (Linux: one page is free).
_CHUNK_BYTES = select.PIPE_BUF
_DIGITS = 6
_LEVELS = {
    policy.LogLevel.DEBUG: logging.DEBUG,
    policy.LogLevel.INFO: logging.INFO,
    policy.LogLevel.WARNING: logging.WARNING,
    policy.LogLevel.ERROR: logging.ERROR,
}


class Output:
    """Standard output, as a logger that takes whole lines, never waits and never raises.

    A write into a full pipe would stop the whole proxy until somebody reads. Making the descriptor
    non-blocking would change it for every process that shares it. So it is asked before each write.

    Args:
        stream: has a file descriptor, which is written to directly; None (a process that was started
            without standard output) drops every line.

    Attributes:
        dropped: how many lines were lost since the last one that got through.
    """

    def __init__(self, stream: TextIO | BinaryIO | None) -> None:
        self.dropped = 0
        self._fd = -1 if stream is None else stream.fileno()
        self._poll = select.poll()
        if stream is not None:
            self._poll.register(self._fd, select.POLLOUT)
        # The end of a line that was begun: it goes out before anything else does.
        self._rest = b""
        # Reentrant, and guarded by a flag: a destructor that logs may run in the middle of a write.
        self._lock = RLock()
        self._writing = False

    def msg(self, line: str) -> None:
        """Writes one line, or drops it."""
        with self._lock:
            if self._writing:
                self.dropped += 1
                return
            self._writing = True
            try:
                self._write(line)
            finally:
                self._writing = False

    # The names by which structlog calls a logger: the level is in the line already.
    debug = info = warning = error = critical = msg

    def _write(self, line: str) -> None:
        self._rest = self._push(self._rest)
        if self._rest:
            self.dropped += 1
            return
        content = line.encode("ascii", "backslashreplace") + b"\n"
        left = self._push(content)
        if left == content:
            self.dropped += 1
            return
        self._rest = left
        self.dropped = 0

    def _push(self, content: bytes) -> bytes:
        """Writes as much as is taken at once, and returns what is left."""
        while content and self._is_writable():
            try:
                taken = os.write(self._fd, content[:_CHUNK_BYTES])
            except OSError:  # nobody reads any more, the disk is full, the descriptor is closed
                break
            content = content[taken:]
        return content

    def _is_writable(self) -> bool:
        # POLLERR, POLLHUP and POLLNVAL say that a write would fail.
        return any(event == select.POLLOUT for _, event in self._poll.poll(0))


class _Handler(logging.Handler):
    """Brings the lines of the standard library's loggers (aiohttp, asyncio) to the same output."""

    def __init__(self, output: Output, formatter: logging.Formatter) -> None:
        super().__init__()
        self._output = output
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- logging's own rule: a faulty record must not raise where it is logged
            self.handleError(record)
        else:
            self._output.msg(line)


def configure(settings: policy.Log, stream: TextIO | BinaryIO | None = None) -> None:
    """Sends all lines of the process to one stream, those of the standard library from `warning` on.

    May be called again; it holds for an `AccessLog` made afterwards.

    Args:
        settings: only `level` matters here.
        stream: has a file descriptor; without one, standard output.
    """
    # sys.stdout is None in a process that was started without it.
    output = Output(stream or sys.stdout)

    def note_dropped(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        if output.dropped:
            event_dict["lines_dropped"] = output.dropped
        return event_dict

    head: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    tail: list[Processor] = [
        structlog.processors.format_exc_info,
        note_dropped,
        _head_first,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*head, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*head, structlog.stdlib.add_logger_name, _without_request],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    root.addHandler(_Handler(output, formatter))
    root.setLevel(max(logging.WARNING, _LEVELS[settings.level]))


def _head_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    head = {key: event_dict.pop(key) for key in ("timestamp", "level", "event")}
    return {**head, **event_dict}


def _without_request(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Drops what aiohttp reports of a malformed request: it quotes the request."""
    raised = event_dict.get("exc_info")
    if isinstance(raised, tuple) and isinstance(raised[1], HttpProcessingError):
        event_dict["exc_info"] = None
    return event_dict


class AccessLog:
    """Writes the lines of exchanges.

    Args:
        settings: `access` and `path` matter here; the level was set by `configure`.
    """

    def __init__(self, settings: policy.Log) -> None:
        self._access = settings.access
        self._path = settings.path
        self._logger: FilteringBoundLogger = _logger().bind()

    def exchange_ended(self, exchange: Exchange, now: float) -> None:
        """Writes the line of an exchange, if it is to have one; to be called once, when it has ended.

        Args:
            exchange: as it ended.
            now: monotonic seconds.
        """
        error = exchange.error
        if self._access is policy.AccessLog.OFF or (error is not None and error.refused):
            return
        failed = (
            # Many clients give their credentials only when asked.
            (error is not None and not isinstance(error, AuthenticationRequired))
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
            address=exchange.address,
            unenforced=exchange.unenforced,
            status=exchange.status,
            source=exchange.source.value,
            outcome=str(exchange.outcome),
            error=error and error.error_type,
            reason=error and error.reason,
            details=error and error.details,
            client_left=exchange.client_left,
            dns_s=_rounded(exchange.dns_s),
            connect_s=_rounded(exchange.connect_s),
            head_s=_rounded(exchange.head_s),
            total_s=_rounded(now - exchange.started),
            request_bytes=exchange.request_bytes,
            response_bytes=exchange.response_bytes,
            reused=exchange.reused,
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


def circuit_changed(transition: Transition) -> None:
    """Writes the line of a transition: a warning when a circuit opens.

    `reason` has the same values as the label of the metrics; `level` is taken by the severity of the line.
    """
    write = _logger().warning if transition.to_state is State.OPEN else _logger().info
    write(
        "circuit changed",
        circuit=transition.key,
        scope=transition.scope.value,
        from_state=transition.from_state.value,
        to_state=transition.to_state.value,
        reason=transition.trigger.value,
        cause=None if transition.cause is None else str(transition.cause),
        open_s=_rounded(transition.open_s),
        open_level=transition.level,
        note=transition.note or None,
    )


def listener_failed(listener: Listener, error: Exception) -> None:
    """Writes that somebody who watches the circuits raised: a fault of ours, which does not hurt them."""
    name = getattr(listener, "__qualname__", type(listener).__qualname__)
    _logger().error("listener failed", listener=name, exc_info=error)


def started(name: str, addresses: Mapping[str, policy.Endpoint]) -> None:
    """Says which addresses are listened on, by their keys under `listen`."""
    told = {key: str(endpoint) for key, endpoint in addresses.items()}
    _logger().info("started", version=__version__, name=name, **told)


def credentials_read(path: str, *, names: int, tokens: int) -> None:
    """Says that these tokens are valid from now on."""
    _logger().info("credentials read", path=path, names=names, tokens=tokens)


def credentials_kept(faults: Sequence[object]) -> None:
    """Warns that the file with the tokens has changed and cannot be used: those from before stay valid."""
    _logger().warning("credentials not changed", faults=[str(fault) for fault in faults])


def egress(settings: policy.Settings) -> None:
    """Says which rules on hosts and addresses are in force, and for how many upstreams others are."""
    rules = settings.egress
    _logger().info(
        "egress",
        addresses=rules.addresses.value,
        allow=list(map(str, rules.allow)),
        deny=list(map(str, rules.deny)),
        hosts_allow=list(map(str, rules.hosts.allow)),
        hosts_deny=list(map(str, rules.hosts.deny)),
        hosts_mode=rules.hosts.mode.value,
        connect_ports=str(rules.connect_ports),
        upstreams_with_rules=sum(bool(upstream.egress.values) for upstream in settings.upstreams),
        internal_routes=sum(route.internal for route in settings.routes),
    )


def draining(timeout_s: float) -> None:
    """Says that the process ends as soon as nothing is in flight, or after this many seconds."""
    _logger().info("draining", timeout_s=timeout_s)


def stopped() -> None:
    """Says that the process ends now."""
    _logger().info("stopped")


def _logger() -> FilteringBoundLogger:
    # Asked for each time: these lines are rare, and `configure` may have been called in between.
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
