"""What of the table outlives its process: taken now and then, and given to the table of the next one.

Where it is kept meanwhile is not known here (`control/state_file.py`), and neither is what a clock on the
wall says: only how many seconds went by.
"""

from collections.abc import Callable, Iterable

from proxy.core.breaker import Circuit
from proxy.core.exchange import FOREVER
from proxy.core.policy import CircuitPolicy
from proxy.core.record import CONDITIONS, HIGHEST_LEVEL, Record
from proxy.core.registry import Circuits
from proxy.core.scope import Scope
from proxy.core.states import Condition, State

_CLOSED, _HALF_OPEN = State.CLOSED, State.HALF_OPEN
# Where there is not room for all: an operator's word first, then what keeps calls away, then the rest.
_PRECEDENCE = {
    Condition.FORCED_OPEN: 0,
    Condition.FORCED_CLOSED: 0,
    Condition.OPEN: 1,
    Condition.HALF_OPEN: 2,
}


def changes(circuits: Circuits) -> int:
    """A number that grows whenever something else is to be remembered than before; else it stays."""
    return circuits.evictions + sum(circuits.totals.transitions.values())


def take(circuits: Iterable[Circuit], now: float) -> list[Record]:
    """What is to be remembered, at most one record for each circuit; changes nothing.

    Args:
        circuits: a table, or some of its circuits.
        now: monotonic seconds; what is due and was not looked at since counts as due now.
    """
    return [
        _record(circuit, now)
        for circuit in circuits
        if circuit.state is not _CLOSED or circuit.override is not None
    ]


def _record(circuit: Circuit, now: float) -> Record:
    state, override = circuit.state, circuit.override
    # What is due while half-open is the lease of a probe, which ends with the process.
    has_end = state is not _HALF_OPEN and circuit.due < FOREVER
    return Record(
        key=circuit.key,
        state=CONDITIONS[state, None if override is None else override.force],
        level=min(circuit.level, HIGHEST_LEVEL),
        since_s=max(0.0, now - circuit.changed_at),
        left_s=max(0.0, circuit.due - now) if has_end else None,
        spread_s=0.0 if circuit.spread is None else circuit.spread.width_s,
        told_by="" if circuit.scope is Scope.HOST else str(circuit.policy.key),
        # What an operator has typed may be no text that can be written.
        note="" if override is None else override.note.encode("utf-8", "replace").decode("utf-8"),
    )


def restore(
    circuits: Circuits,
    records: Iterable[Record],
    policy_of: Callable[[str], CircuitPolicy],
    elapsed_s: float,
    now: float,
) -> int:
    """Gives a table what is left of the records; no listener is told, for nothing has changed.

    Args:
        circuits: the table; what it has already stays.
        records: in any order; their number is bounded by the room that the table has.
        policy_of: the settings of a host, by the key of its circuit; raises ValueError if it is none.
        elapsed_s: since the records were taken; below 0 (a clock was set back) is 0.
        now: monotonic seconds.

    Returns:
        How many circuits it has got.
    """
    restored = 0
    for record in sorted(records, key=_precedence):
        try:
            policy = policy_of(record.host)
        except ValueError:
            # What is a host may be told in another way since.
            continue
        left = record.aged(max(0.0, elapsed_s), policy)
        if left is not None:
            restored += circuits.resume(left, policy, now)
    return restored


def _precedence(record: Record) -> int:
    return _PRECEDENCE[record.state]
