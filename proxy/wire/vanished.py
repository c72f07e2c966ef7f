"""Peers that vanish without a word, and how to leave one without a word: what the kernel does for us.

A machine that is switched off, or a network that drops packets, sends no FIN. Then the peer counts as gone
once its system has acknowledged nothing for `body_idle`: the time for which a peer that is there may stop in
the middle of content. By default it is a minute, of which the first half passes before the kernel asks.

What was sent and is not acknowledged is kept for five seconds longer (TCP_USER_TIMEOUT, RFC 5482), so that
our own deadline, which can say what happened, comes first. That option also ends connections whose peer is
there but does not read. So in tunnels, where silence is allowed for longer, it is off: there the kernel gives
up what is not acknowledged after its own 15 minutes or so (tcp_retries2), or `tunnel_idle` ends the tunnel.
"""

import asyncio
import socket
import struct
from contextlib import suppress

# The most between two probes, however long `body_idle` is: firewalls forget connections that are silent.
_FIRST_PROBE_S = 60
_PROBE_S = 15
_PROBES = 4
_MARGIN_S = 5.0
# What a C int of milliseconds holds.
_MOST_MS = 2**31 - 1

_Options = tuple[tuple[int, int, int], ...]


def options(body_idle_s: float) -> _Options:
    """The options (level, option, value) of a connection whose peer may say nothing for so long.

    Those that the system lacks are left out.
    """
    wanted = {
        "TCP_KEEPIDLE": _within(body_idle_s / 2, _FIRST_PROBE_S),
        "TCP_KEEPINTVL": _within(body_idle_s / 2 / _PROBES, _PROBE_S),
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": int(min((body_idle_s + _MARGIN_S) * 1000, _MOST_MS)),
    }
    known = [
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in wanted.items()
        if hasattr(socket, name)
    ]
    return ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *known)


def notice(sock: socket.socket, body_idle_s: float) -> None:
    """Has the kernel notice a peer that vanishes; what a listener accepts inherits this from it (Linux)."""
    for level, option, value in options(body_idle_s):
        with suppress(OSError):  # a Unix socket, or a connection that has been reset by now
            sock.setsockopt(level, option, value)


def allow_stalling(transport: asyncio.Transport | None) -> None:
    """Lets a peer that is there leave what it was sent unread for as long as it likes."""
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with a RST; the kernel sends a FIN for one that is merely aborted."""
    raw = transport.get_extra_info("socket")
    if raw is not None:  # with TLS, a connection that is lost already has none
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _within(seconds: float, most_s: int) -> int:
    return max(1, min(int(seconds), most_s))
