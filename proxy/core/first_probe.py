"""Who has the first probe of an opening, where deferred requests wait for a circuit as well as live calls.

By default whoever comes first. While requests are kept for later, the first probe is theirs, so that no live
call pays for it. If that fails, the probes of the next opening are the live calls': one poisoned request
cannot hold a circuit open. No claim holds for long, since nobody may come to make use of it.
"""

from enum import Enum

# A deferred request waits already, so that it comes at once or not at all.
DEFERRED_CLAIM_S = 1.0


class FirstProbe(Enum):
    """Whose the first probe of an opening is."""

    ANY = "any"
    DEFERRED = "deferred"
    LIVE = "live"


def holds_back(
    first_probe: FirstProbe, *, is_deferred: bool, half_open_s: float, open_s: float, are_given: bool
) -> bool:
    """Whether a call has to leave a probe to others.

    Args:
        first_probe: the claim.
        is_deferred: whether the call is a request that was kept for later.
        half_open_s: for how long the circuit has been half-open.
        open_s: the setting `circuit.open`, for which a claim of live calls holds.
        are_given: whether any probe of this opening has been given so far.
    """
    if first_probe is FirstProbe.DEFERRED:
        return not is_deferred and not are_given and half_open_s < DEFERRED_CLAIM_S
    return first_probe is FirstProbe.LIVE and is_deferred and half_open_s < open_s
