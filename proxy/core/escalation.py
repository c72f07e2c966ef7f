"""How long a circuit stays open: longer each time it opens again, and never shorter than the upstream asks.

The n-th opening in a row is on level n. The level falls while the circuit is closed, not at once when it
closes: an upstream that answers the probes and dies again keeps its level.
"""

from math import floor

from proxy.core.policy import CircuitPolicy


def base_s(policy: CircuitPolicy, level: int) -> float:
    """How long an opening on this level lasts, before jitter, in seconds; level >= 1."""
    try:
        return min(policy.open_max, policy.open * policy.open_multiplier ** (level - 1))
    except OverflowError:
        # Only levels from before a reload are so high; see `bounded`.
        return policy.open_max


def longest_s(policy: CircuitPolicy) -> float:
    """How long an opening can last that no upstream has asked for, in seconds."""
    return policy.open_max * (1 + policy.open_jitter)


def raised(policy: CircuitPolicy, level: int) -> int:
    """The level of the next opening; it stops where a further one would last no longer."""
    return bounded(policy, level + 1)


def bounded(policy: CircuitPolicy, level: int) -> int:
    """The level, or the lowest one that lasts as long; settings may have changed since it was reached."""
    longest_s = base_s(policy, level) if level else 0.0
    while level > 1 and base_s(policy, level - 1) == longest_s:
        level -= 1
    return level


def decayed(policy: CircuitPolicy, level: int, closed_s: float) -> int:
    """The level after so many seconds spent closed."""
    return max(0, level - floor(closed_s / policy.level_decay))


def open_s(policy: CircuitPolicy, level: int, drawn: float, retry_after_s: float) -> float:
    """How long this opening lasts, in seconds.

    Args:
        policy: says how long, and how much of it is jitter.
        level: >= 1.
        drawn: at random from 0 to 1.
        retry_after_s: how long the upstream asks to be left alone, from now; negative or NaN is no wish.
    """
    jitter = policy.open_jitter
    drawn_s = base_s(policy, level) * (1 - jitter + 2 * jitter * drawn)
    if policy.retry_after and retry_after_s > 0:
        return max(drawn_s, min(retry_after_s, policy.retry_after_max))
    return drawn_s
