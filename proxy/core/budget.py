"""What the limits can take at most, of descriptors and of memory, and what fits if there is less.

The figures of memory were measured (bench/memory) and are rounded up; docs/limits.md tells the formula.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.core.acl import MAX_REMEMBERED
from proxy.core.answers import MOST_ADDRESSES, MOST_NAMES
from proxy.core.policy import Limits
from proxy.core.target import MOST_REMEMBERED

# Clients beyond `max_connections` that are being told to go, no more than those; others are closed at once.
TURNED_AWAY = 64
# Exchanges that may race the addresses of a name at once (RFC 8305), and what each opens besides the one
# connection that it keeps: the dialer tries four addresses of each family. Others try one after another.
MAX_RACES = 32
EXTRA_ATTEMPTS = 7
# The event loop, standard streams, the log, listeners, the resolver's sockets, clients of the admin server.
FIXED = 64

KIB = 1024
# Bytes, each with some room above what was measured.
BASE_BYTES = 64 * 1024 * KIB
IDLE_CLIENT_BYTES = 8 * KIB
# On top of four times `max_head`: both heads of an exchange are kept as they came and taken apart.
EXCHANGE_BYTES = 20 * KIB
# One direction of an exchange, its peer not reading: content that waits, and a transport's buffer.
STALLED_BYTES = 128 * KIB
# Content that an attempt has sent already, for another upstream (`fallback.on: failure`).
KEPT_BYTES = 64 * KIB
# Requests that are kept for later: what is held of them until they are on disk, and once more while they are
# written; and how many are delivered at once.
HELD_BYTES = 32 * 1024 * KIB
MOST_DELIVERIES = 32
# What TLS adds to a connection that has carried much; and if it stalls, when what was read waits encrypted.
TLS_BYTES = 64 * KIB
STALLED_TLS_BYTES = 32 * KIB
# One set of settings of TLS towards upstreams, with as many CAs as a system has.
TLS_SETTINGS_BYTES = 1024 * KIB
TUNNEL_BYTES = 15 * KIB
STALLED_TUNNEL_BYTES = 185 * KIB
# Where TLS is intercepted: the libraries for certificates, and what clients are shown, kept by host. OpenSSL
# remembers sessions with each (1 KiB), which are counted now and then.
INTERCEPTION_BYTES = 16 * 1024 * KIB
MOST_LEAVES = 384
MOST_SESSIONS = 16
LEAF_BYTES = (24 + MOST_SESSIONS) * KIB
IDLE_UPSTREAM_BYTES = 4 * KIB
CIRCUIT_BYTES = 4 * KIB
# The last twenty transitions of a circuit, which the API tells.
HISTORY_BYTES = 4 * KIB
NAME_BYTES = 2 * KIB
ADDRESS_BYTES = 96
TARGET_BYTES = 2 * KIB
# A host and an address on which the rules of one entry of `upstreams` were asked, with long names.
RULED_BYTES = 3 * KIB


@dataclass(frozen=True, slots=True)
class Clamped:
    """A limit that was lowered."""

    name: str
    wanted: int
    to: int


def descriptors(limits: Limits) -> int:
    """How many descriptors the limits can take."""
    return _of_clients(limits.max_connections) + limits.idle_total + FIXED


def fitted(limits: Limits, available: int) -> tuple[Limits, tuple[Clamped, ...]]:
    """The limits that so many descriptors are enough for, and which of them had to be lowered.

    Idle connections go first, down to a tenth of what there is. At least one client may always connect.
    """
    if descriptors(limits) <= available:
        return limits, ()
    spare = max(0, available - FIXED)
    idle_total = min(limits.idle_total, max(spare // 10, spare - _of_clients(limits.max_connections)))
    fitting = bisect_right(range(1, limits.max_connections + 1), spare - idle_total, key=_of_clients)
    max_connections = max(1, fitting)
    lowered = replace(
        limits,
        max_connections=max_connections,
        max_tunnels=min(limits.max_tunnels, max_connections),
        idle_total=idle_total,
    )
    return lowered, tuple(_differences(limits, lowered))


def _of_clients(count: int) -> int:
    """What so many clients can take: each may have a connection to an upstream, and some race for theirs."""
    return 2 * count + min(TURNED_AWAY, count) + min(MAX_RACES, count) * EXTRA_ATTEMPTS


def memory_bytes(
    limits: Limits, entries: int = 0, *, intercepts: bool = False, redirects_failures: bool = False
) -> int:
    """How much memory the process can take: all tunnels, and else exchanges, stalled in both directions.

    Each may have an upstream that speaks TLS: any client may ask for an `https://` URL.

    Args:
        limits: the settings.
        entries: how many there are under `upstreams`.
        intercepts: whether one of them has `https: intercept`, so that each client may speak TLS as well.
        redirects_failures: whether one of them has `fallback: {on: failure}`, so that content is kept for it.
    """
    tunnels = min(limits.max_tunnels, limits.max_connections)
    exchanges = limits.max_connections - tunnels
    return (
        BASE_BYTES
        + tunnels * (TUNNEL_BYTES + STALLED_TUNNEL_BYTES)
        + exchanges * (EXCHANGE_BYTES + 4 * limits.max_head + 2 * STALLED_BYTES)
        + limits.max_connections * (TLS_BYTES + STALLED_TLS_BYTES)
        + min(TURNED_AWAY, limits.max_connections) * IDLE_CLIENT_BYTES
        + limits.idle_total * (IDLE_UPSTREAM_BYTES + TLS_BYTES)
        + limits.max_circuits * (CIRCUIT_BYTES + HISTORY_BYTES)
        + (1 + entries) * TLS_SETTINGS_BYTES
        + remembered_bytes(entries)
        + (interception_bytes(limits) if intercepts else 0)
        + (exchanges * KEPT_BYTES if redirects_failures else 0)
    )


def interception_bytes(limits: Limits) -> int:
    """How much more it is where TLS is intercepted."""
    return (
        INTERCEPTION_BYTES
        + limits.max_connections * (TLS_BYTES + STALLED_TLS_BYTES)
        + MOST_LEAVES * LEAF_BYTES
    )


def deferral_bytes(limits: Limits, max_content: int) -> int:
    """How much more it is where requests are kept for later: what is on its way in, and what on its way out.

    Args:
        limits: the settings.
        max_content: `defer.max_content`.
    """
    each = max_content + EXCHANGE_BYTES + 4 * limits.max_head + 2 * STALLED_BYTES
    return 2 * HELD_BYTES + MOST_DELIVERIES * each


def remembered_bytes(entries: int = 0) -> int:
    """How much of that is for what was found out of names, URLs, and who may be called."""
    return (
        MOST_NAMES * NAME_BYTES
        + MOST_ADDRESSES * ADDRESS_BYTES
        + MOST_REMEMBERED * TARGET_BYTES
        + (1 + entries) * MAX_REMEMBERED * RULED_BYTES
    )


def _differences(limits: Limits, lowered: Limits) -> Iterator[Clamped]:
    for name in ("max_connections", "max_tunnels", "idle_total"):
        wanted, to = getattr(limits, name), getattr(lowered, name)
        if to != wanted:
            yield Clamped(f"limits.{name}", wanted, to)
