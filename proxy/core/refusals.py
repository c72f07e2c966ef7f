"""Why a call gets no seat, and what its client is told."""

from math import ceil

from proxy.core.errors import ConnectionLimitReached, DestinationUnavailable, ProxyError

CIRCUIT_OPEN = "circuit_open"
CIRCUIT_FORCED_OPEN = "circuit_forced_open"
CIRCUIT_HALF_OPEN = "circuit_half_open"
CIRCUIT_RAMPING = "circuit_ramping"
TOO_MANY_IN_FLIGHT = "too_many_in_flight"
# No circuit's reason: a live call waits behind deferred ones (`fallback.order: strict`).
ORDER = "order"

_TOLD: dict[str, tuple[type[ProxyError], str, str]] = {
    CIRCUIT_OPEN: (DestinationUnavailable, "Circuit open", "the upstream failed"),
    CIRCUIT_FORCED_OPEN: (DestinationUnavailable, "Circuit forced open", "an operator opened the circuit"),
    CIRCUIT_HALF_OPEN: (DestinationUnavailable, "Circuit half-open", "probes are under way"),
    CIRCUIT_RAMPING: (DestinationUnavailable, "Circuit ramping", "calls come back in growing shares"),
    TOO_MANY_IN_FLIGHT: (ConnectionLimitReached, "Too many in flight", "too many calls are under way"),
}
# Every reason with which a circuit refuses a call; the `reason` label of the refusals.
REJECTION_REASONS = tuple(_TOLD)


def refused(reason: str, key: str, retry_after_s: float) -> ProxyError:
    """The answer to a call that got no seat: 503.

    Args:
        reason: one of REJECTION_REASONS.
        key: of the circuit.
        retry_after_s: how long the client should wait; told in whole seconds, at least one.
    """
    error, phrase, details = _TOLD[reason]
    wait_s = max(1, ceil(retry_after_s))
    return error(details, reason=reason, phrase=f"{phrase} for {key}", retry_after_s=wait_s)
