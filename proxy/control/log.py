"""What is written to standard output: JSON lines, for transitions and for the process itself.

Lines are for machines that ship them and for people who grep them: every line begins with `timestamp`
(ISO 8601, UTC), `level` and `event`. They are pure ASCII: what a peer sent cannot break a line or speak to a
terminal. The lines of exchanges are in `access_log.py`.

Never written: a query string, a credential, content.

The log must not hurt the traffic. `Output` writes only what standard output takes at once; while it is
full, closed or broken, lines are dropped and counted, and the next line that gets through says how many
(`lines_dropped`).
"""

import logging
import os
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from threading import RLock
from typing import BinaryIO, TextIO

import structlog
from aiohttp.http import HttpProcessingError
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from proxy import __version__
from proxy.core import policy
from proxy.core.budget import Clamped
from proxy.core.https import HttpsMode
from proxy.core.listeners import Listener
from proxy.core.states import State, Transition

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

    May be called again; it holds for a `logger` asked for afterwards.

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


def set_level(level: policy.LogLevel) -> None:
    """Has another level, for a `logger` asked for afterwards; where lines go stays as it is."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))
    logging.getLogger().setLevel(max(logging.WARNING, _LEVELS[level]))


def _head_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    head = {key: event_dict.pop(key) for key in ("timestamp", "level", "event")}
    return {**head, **event_dict}


def _without_request(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Drops what aiohttp reports of a malformed request: it quotes the request."""
    raised = event_dict.get("exc_info")
    if isinstance(raised, tuple) and isinstance(raised[1], HttpProcessingError):
        event_dict["exc_info"] = None
    return event_dict


def circuit_changed(transition: Transition) -> None:
    """Writes the line of a transition: a warning when a circuit opens.

    `reason` has the same values as the label of the metrics; `level` is taken by the severity of the line.
    """
    write = logger().warning if transition.to_state is State.OPEN else logger().info
    write(
        "circuit changed",
        circuit=transition.key,
        scope=transition.scope.value,
        from_state=transition.from_state.value,
        to_state=transition.to_state.value,
        reason=transition.trigger.value,
        cause=None if transition.cause is None else str(transition.cause),
        open_s=rounded(transition.open_s),
        open_level=transition.level,
        note=transition.note or None,
    )


def listener_failed(listener: Listener, error: Exception) -> None:
    """Writes that somebody who watches the circuits raised: a fault of ours, which does not hurt them."""
    name = getattr(listener, "__qualname__", type(listener).__qualname__)
    logger().error("listener failed", listener=name, exc_info=error)


def started(name: str, addresses: Mapping[str, policy.Endpoint]) -> None:
    """Says which addresses are listened on, by their keys under `listen`."""
    told = {key: str(endpoint) for key, endpoint in addresses.items()}
    logger().info("started", version=__version__, name=name, **told)


def credentials_read(path: str, *, names: int, tokens: int) -> None:
    """Says that these tokens are valid from now on."""
    logger().info("credentials read", path=path, names=names, tokens=tokens)


def credentials_kept(faults: Sequence[object]) -> None:
    """Warns that the file with the tokens has changed and cannot be used: those from before stay valid."""
    logger().warning("credentials not changed", faults=[str(fault) for fault in faults])


def egress(settings: policy.Settings) -> None:
    """Says which rules on hosts and addresses are in force, and for how many upstreams others are."""
    rules = settings.egress
    logger().info(
        "egress",
        addresses=rules.addresses.value,
        allow=list(map(str, rules.allow)),
        deny=list(map(str, rules.deny)),
        hosts_allow=list(map(str, rules.hosts.allow)),
        hosts_deny=list(map(str, rules.hosts.deny)),
        hosts_mode=rules.hosts.mode.value,
        connect_ports=str(rules.connect_ports),
        sni=rules.sni.value,
        upstreams_with_rules=sum(bool(upstream.egress.values) for upstream in settings.upstreams),
        internal_routes=sum(route.internal for route in settings.routes),
    )


def https(settings: policy.Settings) -> None:
    """Says for how many upstreams HTTPS is more than a tunnel, and which hosts are tunnelled all the same."""
    modes = [upstream.https for upstream in settings.upstreams]
    logger().info(
        "https",
        upstreams_intercepted=modes.count(HttpsMode.INTERCEPT),
        upstreams_originated=modes.count(HttpsMode.ORIGINATE),
        exclude=list(map(str, settings.intercept.exclude)),
    )


def intercepting(
    *,
    fingerprint: str,
    not_after: datetime,
    origin: str,
    is_expiring: bool = False,
    bundle: str | None = None,
    system_roots: int | None = None,
    extra_roots: int | None = None,
) -> None:
    """Says which CA ends the TLS of clients, and what they were given to trust it; warns if they will fail.

    Args:
        fingerprint: SHA-256 of its certificate, in hexadecimal digits.
        not_after: the end of its validity, with a time zone.
        origin: where it comes from, such as `made` or `loaded`.
        is_expiring: whether that end is near, and it could not be renewed.
        bundle: the path of the file for clients, None if none is written.
        system_roots: how many certificates of this system are in it, None without a bundle.
        extra_roots: how many of `intercept.extra_roots` are.
    """
    hints = []
    if is_expiring:
        hints.append("the CA ends soon: let intercept.private_directory be written, and start again")
    if system_roots == 0:
        hints.append(
            "no certificate of the system was found, so that with the bundle clients trust nothing that is"
            " tunnelled: install ca-certificates, or name a file in intercept.extra_roots"
        )
    write = logger().warning if hints else logger().info
    write(
        "intercepting",
        fingerprint_sha256=fingerprint,
        not_after=not_after.isoformat(),
        origin=origin,
        bundle=bundle,
        system_roots=system_roots,
        extra_roots=extra_roots,
        hint="; ".join(hints) or None,
    )


def limits_clamped(clamped: Iterable[Clamped], available: int, wanted: int) -> None:
    """Warns that there are fewer descriptors than the limits could take, and says what holds instead."""
    logger().warning(
        "limits lowered: too few descriptors (raise the hard limit, ulimit -Hn, or lower them yourself)",
        descriptors=available,
        wanted=wanted,
        **{each.name: f"{each.wanted} -> {each.to}" for each in clamped},
    )


def draining(timeout_s: float) -> None:
    """Says that the process ends as soon as nothing is in flight, or after this many seconds."""
    logger().info("draining", timeout_s=timeout_s)


def stopped() -> None:
    """Says that the process ends now."""
    logger().info("stopped")


def logger() -> FilteringBoundLogger:
    """The logger of the lines of this process, as `configure` was called last."""
    # Here it is asked for each time: these lines are rare, and `configure` may have been called in between.
    made: FilteringBoundLogger = structlog.get_logger()
    return made


def rounded(seconds: float | None) -> float | None:
    """Seconds as lines hold them, to the microsecond."""
    return None if seconds is None else round(seconds, _DIGITS)
