"""The table of circuits: finds those of a call, asks them, and stays within its bound.

Peers choose the keys, so the table is bounded (`limits.max_circuits`), and so are the endpoints of one host
(`limits.max_per_host`). A circuit with nothing booked leaves with its last permit. One that is closed, has
nothing in flight and was not touched for `limits.circuit_idle` is gone, whether it has been swept out or not.
A full table makes room by the closed circuit that has been idle for longest, then by the half-open one that
nobody has called for `circuit_idle`; open, forced and busy ones stay. With nothing to evict, a new key passes
unprotected and is counted.

`advance` makes due transitions visible early. It never changes a decision: everything here is decided as of
when it was due.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from proxy.core.breaker import Circuit, Draw
from proxy.core.eviction import Abandoned
from proxy.core.exchange import FOREVER, Entry, Exchange
from proxy.core.listeners import Listener, Listeners, OnFault
from proxy.core.overrides import Force
from proxy.core.permit import Permit
from proxy.core.policy import CircuitPolicy, Limits, Mode
from proxy.core.record import Record
from proxy.core.refusals import refused
from proxy.core.states import State, Transition
from proxy.core.tally import Tally

_ENFORCE, _DISABLED, _DEFERRED = Mode.ENFORCE, Mode.DISABLED, Entry.DEFERRED


class Circuits:
    """All circuits of the process.

    Args:
        draw: a number from 0 to 1 at random, for the jitter of openings.
        listeners: called after each transition, in order. They may use the table.
        on_fault: told of a listener that raised; the others are called all the same.

    Attributes:
        limits: `max_circuits`, `max_per_host` and `circuit_idle`; the defaults until it is told others.
        evictions: circuits that left a full table to make room.
        unprotected: calls that passed without a circuit, since there was no room.
    """

    def __init__(self, *, draw: Draw, listeners: tuple[Listener, ...] = (), on_fault: OnFault) -> None:
        self.limits = Limits()
        self.totals = Tally()
        self.evictions = 0
        self.unprotected = 0
        self._draw = draw
        self._listeners = Listeners(listeners, on_fault)
        self._table: dict[str, Circuit] = {}
        self._endpoints: dict[str, int] = {}
        # The circuits at rest, longest idle first.
        self._at_rest: OrderedDict[str, Circuit] = OrderedDict()
        self._abandoned = Abandoned(self._table)
        # The circuits whose override has an end, and the first such end.
        self._forced: dict[str, Circuit] = {}
        self._override_ends = FOREVER
        # The latest time that a call has told; a permit may be left without a clock.
        self._latest = -FOREVER

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(self._table.values())

    def __repr__(self) -> str:
        return f"<Circuits {len(self._table)} of {self.limits.max_circuits}, {len(self._at_rest)} at rest>"

    def get(self, key: str) -> Circuit | None:
        """The circuit of a key, if it has one."""
        return self._table.get(key)

    # Calls.

    def admit(
        self, host: str, policy: CircuitPolicy, exchange: Exchange, now: float, endpoint: str | None = None
    ) -> Permit:
        """Gives leave to send one call.

        Args:
            host: the key of its host's circuit, `host:port`.
            policy: the settings for it.
            exchange: the call.
            now: monotonic seconds.
            endpoint: the key of its endpoint's circuit, by `CircuitKey.endpoint`; None asks the host only.

        Raises:
            DestinationUnavailable: 503, with the reason and the seconds after which a call may pass.
            ConnectionLimitReached: 503, too many calls are under way.
        """
        self._hear(now)
        if policy.mode is _DISABLED:
            return self._pass_unasked(host, policy, exchange, now)
        at_host = self._obtain(host, host, policy, now)
        if endpoint is not None:
            return self._admit_both(host, at_host, endpoint, policy, exchange, now=now)
        if at_host is None:
            return Permit(policy, exchange, self._ended)
        reason = at_host.refusal(now, is_deferred=exchange.entry is _DEFERRED)
        if reason is not None:
            return self._refuse((at_host,), at_host, reason, exchange, now)
        permit = Permit(policy, exchange, self._ended, at_host.seat(exchange, now))
        self._at_rest.pop(host, None)
        return permit

    def _admit_both(
        self,
        host: str,
        at_host: Circuit | None,
        endpoint: str,
        policy: CircuitPolicy,
        exchange: Exchange,
        *,
        now: float,
    ) -> Permit:
        # Not at rest any more, or making room for the endpoint could evict its own host.
        self._at_rest.pop(host, None)
        at_endpoint = None
        # Without room for the host there is none for the endpoint; but one that is there may be open.
        if at_host is not None or endpoint in self._table:
            at_endpoint = self._obtain(endpoint, host, policy, now)
        asked = tuple(circuit for circuit in (at_host, at_endpoint) if circuit is not None)
        # All are asked before any is taken, so that no refusal has anything to give back.
        for circuit in asked:
            if (reason := circuit.refusal(now, is_deferred=exchange.entry is _DEFERRED)) is not None:
                return self._refuse(asked, circuit, reason, exchange, now)
        host_seat = None if at_host is None else at_host.seat(exchange, now)
        endpoint_seat = None if at_endpoint is None else at_endpoint.seat(exchange, now)
        if host_seat is not None:
            host_seat.has_endpoint = endpoint_seat is not None
        self._at_rest.pop(host, None)
        self._at_rest.pop(endpoint, None)
        return Permit(policy, exchange, self._ended, host_seat, endpoint_seat)

    def _refuse(
        self, asked: tuple[Circuit, ...], refusing: Circuit, reason: str, exchange: Exchange, now: float
    ) -> Permit:
        enforced = refusing.policy.mode is _ENFORCE
        later_s = refusing.count_refusal(reason, now, enforced=enforced)
        wait_s = max(circuit.open_s_left(now) for circuit in asked) + later_s
        for circuit in asked:
            self._ended(circuit)
        if enforced:
            raise refused(reason, refusing.key, wait_s)
        # A shadow: the call passes, and is booked nowhere.
        return Permit(refusing.policy, exchange, self._ended)

    def _pass_unasked(self, host: str, policy: CircuitPolicy, exchange: Exchange, now: float) -> Permit:
        circuit = self._table.get(host)
        if circuit is not None and circuit.policy is not policy:
            circuit.adopt(policy, now)
        return Permit(policy, exchange, self._ended)

    # The table.

    def _obtain(self, key: str, host: str, policy: CircuitPolicy, now: float) -> Circuit | None:
        """The circuit of a key, up to date; None if there is no room for it."""
        circuit = self._find(key, now)
        if circuit is None:
            return self._new(key, host, policy, now)
        # Before a listener hears of anything: it might need room, and this one would seem abandoned.
        circuit.touched = now
        if now >= circuit.due:
            circuit.advance(now)
        if circuit.policy is not policy:
            circuit.adopt(policy, now)
        return circuit

    def _find(self, key: str, now: float) -> Circuit | None:
        """The circuit of a key, unless it is gone."""
        circuit = self._table.get(key)
        if circuit is not None and now - circuit.touched >= self.limits.circuit_idle and key in self._at_rest:
            self._remove(circuit)
            return None
        return circuit

    def _new(self, key: str, host: str, policy: CircuitPolicy, now: float) -> Circuit | None:
        self._drop_gone(now)
        is_endpoint = key != host
        if is_endpoint and self._endpoints.get(host, 0) >= self.limits.max_per_host:
            return None
        while len(self._table) >= self.limits.max_circuits:
            if self._at_rest:
                evicted = next(iter(self._at_rest.values()))
            else:
                found = self._abandoned.find(self.limits.circuit_idle, now)
                if found is None:
                    self.unprotected += 1
                    return None
                evicted = found
            self._remove(evicted)
            self.evictions += 1
        circuit = Circuit(
            key, host, policy, totals=self.totals, draw=self._draw, listener=self._changed, now=now
        )
        self._table[key] = circuit
        if is_endpoint:
            self._endpoints[host] = self._endpoints.get(host, 0) + 1
        return circuit

    def _remove(self, circuit: Circuit) -> None:
        del self._table[circuit.key]
        self._at_rest.pop(circuit.key, None)
        if circuit.key != circuit.host:
            left = self._endpoints[circuit.host] - 1
            if left:
                self._endpoints[circuit.host] = left
            else:
                del self._endpoints[circuit.host]

    def _drop_gone(self, now: float) -> None:
        while self._at_rest:
            circuit = next(iter(self._at_rest.values()))
            if now - circuit.touched < self.limits.circuit_idle:
                return
            self._remove(circuit)

    def _ended(self, circuit: Circuit) -> None:
        """Files a circuit after a call of it has ended, or was refused."""
        # The time of leaving a permit is not told, but it is not before the latest that any call has told.
        self._hear(circuit.touched)
        if not circuit.is_at_rest or self._table.get(circuit.key) is not circuit:
            return
        if circuit.is_blank:
            self._remove(circuit)
            return
        circuit.touched = self._latest
        self._rest(circuit)

    def _rest(self, circuit: Circuit) -> None:
        # What comes to rest later was touched later, so that the order is that of being touched.
        self._at_rest[circuit.key] = circuit
        self._at_rest.move_to_end(circuit.key)

    # Time and settings.

    def advance(self, now: float) -> None:
        """Makes all due transitions and drops what is gone, so that it is seen early."""
        self._end_overrides(now)
        # A copy, since listeners may use the table.
        for circuit in list(self._table.values()):
            if now >= circuit.due:
                circuit.advance(now)
        self._drop_gone(now)

    def configure(self, limits: Limits, policy_of: Callable[[str], CircuitPolicy], now: float) -> None:
        """Goes on with these settings.

        Args:
            limits: from now on.
            policy_of: the settings of a host, by the key of its circuit.
            now: monotonic seconds.
        """
        self.limits = limits
        for circuit in list(self._table.values()):
            circuit.adopt(policy_of(circuit.host), now)

    def _hear(self, now: float) -> None:
        """Learns the time of a call; the sweeper's is none, or it would change what rests for how long."""
        if now > self._latest:
            self._end_overrides(now)
            self._latest = now

    def _end_overrides(self, now: float) -> None:
        # In the order in which they end, so that they come to rest in that order.
        while now >= self._override_ends:
            min(self._forced.values(), key=lambda forced: forced.due).advance(now)

    # Steering.

    def force(
        self,
        key: str,
        policy: CircuitPolicy,
        force: Force,
        now: float,
        *,
        ttl_s: float | None = None,
        note: str = "",
    ) -> Circuit | None:
        """Forces a circuit; see `Circuit.force`. One that is not in the table yet comes into it.

        Returns:
            The circuit; None if there is no room for it, or if it is that of an unknown endpoint.
        """
        self._hear(now)
        host, is_endpoint, _ = key.partition("#")
        circuit = self._find(key, now) if is_endpoint else self._obtain(key, host, policy, now)
        if circuit is not None:
            circuit.force(force, now, ttl_s=ttl_s, note=note)
        return circuit

    def clear_override(self, key: str, now: float, *, note: str = "") -> Circuit | None:
        """Gives a circuit back to itself; see `Circuit.clear_override`. None if there is no such circuit."""
        self._hear(now)
        circuit = self._find(key, now)
        if circuit is not None:
            circuit.clear_override(now, note=note)
        return circuit

    def reset(self, key: str, now: float, *, note: str = "") -> Circuit | None:
        """Has a circuit start anew; see `Circuit.reset`. None if there is no such circuit."""
        self._hear(now)
        circuit = self._find(key, now)
        if circuit is not None:
            circuit.reset(now, note=note)
        return circuit

    def resume(self, record: Record, policy: CircuitPolicy, now: float) -> bool:
        """Takes in a circuit of an earlier process, where there is room without evicting any; tells nobody.

        Returns:
            Whether it is in the table now.
        """
        self._hear(now)
        if record.key in self._table or len(self._table) >= self.limits.max_circuits:
            return False
        circuit = self._new(record.key, record.host, policy, now)
        if circuit is None:
            return False
        circuit.resume(record, now)
        self._file(circuit)
        return True

    def _changed(self, circuit: Circuit, transition: Transition) -> None:
        """Files a circuit after a transition, and has the listeners told."""
        if self._table.get(circuit.key) is circuit:
            self._file(circuit)
        self._listeners.tell(transition)

    def _file(self, circuit: Circuit) -> None:
        key = circuit.key
        self._at_rest.pop(key, None)
        if circuit.is_at_rest:
            self._rest(circuit)
        elif circuit.state is not State.CLOSED:
            self._abandoned.add(circuit)
        self._forced.pop(key, None)
        if circuit.override is not None and circuit.due < FOREVER:
            self._forced[key] = circuit
        self._override_ends = min((forced.due for forced in self._forced.values()), default=FOREVER)
