"""A table of circuits with literal times and no chance, and calls made on it in one line."""

from dataclasses import dataclass, field, replace
from typing import Any

from proxy.core.breaker import Circuit
from proxy.core.errors import ProxyError
from proxy.core.exchange import Awaited, Entry, Exchange
from proxy.core.listeners import Listener
from proxy.core.outcome import NEUTRAL, SUCCESS, FailureKind, Outcome, failed
from proxy.core.permit import Permit
from proxy.core.policy import CircuitPolicy, Limits
from proxy.core.quantities import Seconds
from proxy.core.registry import Circuits
from proxy.core.scope import CircuitKey
from proxy.core.states import Condition, State, Transition

HOST = "api.example.com:443"
FAILED = failed(FailureKind.STATUS)
REFUSED = failed(FailureKind.REFUSED)
SILENT = failed(FailureKind.RESPONSE_TIMEOUT)
ABANDONED = failed(FailureKind.ABANDONED)
BY_PATH = CircuitKey.parse("path")
# Openings of exactly their base, whose end is what all are told, and a lease that is easy to reckon with.
POLICY = CircuitPolicy(open_jitter=0.0, retry_spread=0.0, probe_lease=Seconds(50))


def policy(**changes: Any) -> CircuitPolicy:
    """The settings of most tests, but for what is given; numbers are seconds where seconds are expected."""
    converted: dict[str, Any] = {
        name: Seconds(value)
        if isinstance(value, int | float) and isinstance(getattr(POLICY, name), float)
        else value
        for name, value in changes.items()
    }
    return replace(POLICY, **converted)


def exchange(started: float = 0.0, entry: Entry = Entry.FORWARD) -> Exchange:
    """A call that has just begun."""
    return Exchange(entry, "POST", started)


@dataclass
class Rig:
    """A table, and what its listeners have heard.

    Attributes:
        drawn: what the jitter's draw gives.
    """

    policy: CircuitPolicy = POLICY
    limits: Limits = field(default_factory=Limits)
    listeners: tuple[Listener, ...] = ()
    drawn: float = 0.5
    heard: list[Transition] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.circuits = Circuits(
            draw=lambda: self.drawn,
            listeners=(self.heard.append, *self.listeners),
            on_fault=lambda _, error: self.faults.append(error),
        )
        self.circuits.limits = self.limits

    def admit(
        self, now: float, host: str = HOST, endpoint: str | None = None, entry: Entry = Entry.FORWARD
    ) -> Permit:
        """Asks for a permit."""
        return self.circuits.admit(host, self.policy, exchange(now, entry), now, endpoint)

    def waiting(
        self, awaited: Awaited, now: float, host: str = HOST, endpoint: str | None = None
    ) -> tuple[Permit, Exchange]:
        """Asks for a permit, for a call that waits at once."""
        waiting = exchange(now)
        permit = self.circuits.admit(host, self.policy, waiting, now, endpoint)
        waiting.wait_for(awaited, 1000.0, now)
        return permit, waiting

    def call(self, outcome: Outcome, now: float, host: str = HOST) -> None:
        """A whole call of a host, over in no time."""
        with self.admit(now, host) as permit:
            permit.settle(outcome, now)

    def answer(
        self,
        status: int,
        now: float,
        host: str = HOST,
        endpoint: str | None = None,
        retry_after_at: float | None = None,
    ) -> None:
        """A whole call with a response, over in no time."""
        with self.admit(now, host, endpoint) as permit:
            permit.connected(now)
            permit.settle(permit.head(status, retry_after_at, now), now)

    def silence(self, now: float, endpoint: str | None, outcome: Outcome = SILENT, host: str = HOST) -> None:
        """A whole call that connects and gets no answer, over in no time."""
        with self.admit(now, host, endpoint) as permit:
            permit.connected(now)
            permit.settle(outcome, now)

    def fail(self, count: int, now: float, host: str = HOST) -> None:
        """So many failed calls."""
        for _ in range(count):
            self.call(FAILED, now, host)

    def succeed(self, count: int, now: float, host: str = HOST) -> None:
        """So many good calls."""
        for _ in range(count):
            self.call(SUCCESS, now, host)

    def refusal(
        self, now: float, host: str = HOST, endpoint: str | None = None
    ) -> tuple[str, int | None] | None:
        """Why a call is refused, and when to try again; None if it passes (and says nothing)."""
        try:
            with self.admit(now, host, endpoint) as permit:
                permit.settle(NEUTRAL, now)
        except ProxyError as error:
            return error.reason, error.retry_after_s
        return None

    def passes(self, now: float, host: str = HOST, endpoint: str | None = None) -> bool:
        """Whether a call passes; it says nothing of the upstream."""
        return self.refusal(now, host, endpoint) is None

    def circuit(self, key: str = HOST) -> Circuit:
        """The circuit of a key, which it has."""
        circuit = self.circuits.get(key)
        assert circuit is not None
        return circuit

    def state(self, now: float, key: str = HOST) -> State:
        """The state of a circuit, up to date; that of one that is not there is closed."""
        circuit = self.circuits.get(key)
        if circuit is None:
            return State.CLOSED
        circuit.advance(now)
        return circuit.state

    def condition(self, now: float, key: str = HOST) -> Condition:
        """What an operator sees of a circuit."""
        self.circuit(key).advance(now)
        return self.circuit(key).condition


def half_open(now: float = 30.0, **changes: Any) -> Rig:
    """A rig whose host opened at now - 30 s and is half-open since `now`."""
    rig = Rig(policy(**changes))
    rig.fail(5, now - 30.0)
    assert rig.state(now) is State.HALF_OPEN
    return rig
