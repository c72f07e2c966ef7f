"""A naive model of circuits: it remembers everything and computes each answer anew from that.

Written from the design and not from the engine: no counters, no due times, no buckets. A circuit is a list of
what was booked in its generation; a call is a list of who owed when. It is slow and hard to get wrong.
"""

from dataclasses import dataclass, field
from itertools import takewhile
from math import inf, modf, sqrt

from proxy.core.exchange import Awaited
from proxy.core.outcome import Outcome, Verdict
from proxy.core.policy import CircuitPolicy, Mode

CONNECTING = {Awaited.CONNECTION: "connect_timeout", Awaited.TLS: "tls"}
UPSTREAM_OWES = {
    **CONNECTING,
    Awaited.UPSTREAM_WINDOW: "response_timeout",
    Awaited.RESPONSE_HEAD: "response_timeout",
    Awaited.RESPONSE_CONTENT: "truncated",
}


# From, to, why, when.
Change = tuple[str, str, str, float]
# Calls, failed, slow, and for how long the upstream owed in them.
Recount = tuple[int, int, int, float]


@dataclass(eq=False)
class NaiveCall:
    """One call: what it waited for from when on, and when the upstream took content."""

    waits: list[tuple[float, Awaited]] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    head_at: float | None = None

    def owed_s(self, until: float) -> float:
        """For how long the upstream owed, until then."""
        total = 0.0
        ends = [at for at, _ in self.waits[1:]] + [inf]
        for (since, awaited), end in zip(self.waits, ends, strict=False):
            if awaited in UPSTREAM_OWES:
                total += max(0.0, min(end, until) - since)
        return total

    def kind_at(self, deadline: float) -> str | None:
        """What the end of a lease says: a kind of failure, or nothing."""
        before = [awaited for at, awaited in self.waits if at < deadline]
        if not before or before[-1] not in UPSTREAM_OWES:
            return None
        if any(deadline - 5 <= at < deadline for at in self.took):
            return None
        return UPSTREAM_OWES[before[-1]]


@dataclass(eq=False)
class NaiveSeat:
    """A place of a call in one circuit."""

    call: NaiveCall
    generation: int
    probe_since: float | None
    settled: bool = False


@dataclass
class Booked:
    """One verdict in the books."""

    at: float
    verdict: Verdict
    upstream_s: float = 0.0
    slow: bool = False
    silent_endpoint: str | None = None


@dataclass(eq=False)
class NaiveCircuit:
    """One circuit."""

    key: str
    policy: CircuitPolicy
    drawn: float
    state: str = "closed"
    since: float = 0.0
    generation: int = 0
    level: int = 0
    open_s: float = 0.0
    turned_away: list[str] = field(default_factory=list)
    forced: tuple[str, float] | None = None
    booked: list[Booked] = field(default_factory=list)
    wish: float | None = None
    ramp_since: float | None = None
    asked: list[float] = field(default_factory=list)
    seats: list[NaiveSeat] = field(default_factory=list)
    touched: float = 0.0
    late: int = 0
    calls: int = 0
    waits: list[float] = field(default_factory=list)
    spared_s: float = 0.0
    changes: list[Change] = field(default_factory=list)

    # What it knows.

    @property
    def is_endpoint(self) -> bool:
        return "#" in self.key

    @property
    def probes(self) -> list[NaiveSeat]:
        return [
            seat
            for seat in self.seats
            if seat.probe_since is not None and not seat.settled and seat.generation == self.generation
        ]

    @property
    def run(self) -> int:
        """Failures since the last success, each silent endpoint once."""
        back = list(takewhile(lambda booked: booked.verdict is not Verdict.SUCCESS, reversed(self.booked)))
        own = [b for b in back if b.verdict is Verdict.FAILURE and b.silent_endpoint is None]
        return len(own) + len({b.silent_endpoint for b in back if b.silent_endpoint is not None})

    def buckets(self, now: float) -> list[Recount]:
        """A recount of the window, tenth by tenth, oldest first."""
        bucket_s = self.policy.window / 10
        recounts = []
        for back in range(9, -1, -1):
            seen = [
                b
                for b in self.booked
                if b.silent_endpoint is None and b.at // bucket_s == now // bucket_s - back
            ]
            bad = [b for b in seen if b.verdict in {Verdict.FAILURE, Verdict.THROTTLED}]
            owed_s = sum(b.upstream_s for b in seen)
            recounts.append((len(seen), len(bad), sum(b.slow for b in seen), owed_s))
        return recounts

    def window(self, now: float) -> Recount:
        """A recount of the window."""
        calls, bad, slow, owed_s = zip(*self.buckets(now), strict=True)
        return sum(calls), sum(bad), sum(slow), sum(owed_s)

    def ramp_passes(self, now: float) -> bool:
        if self.ramp_since is None or now >= self.ramp_since + self.policy.ramp:
            return True
        account = 0.9
        for at in [*self.asked, now]:
            account += 0.1 + 0.9 * (at - self.ramp_since) / self.policy.ramp
            passes = account >= 1 - 1e-9
            account -= passes
        return passes

    @property
    def is_at_rest(self) -> bool:
        return self.state == "closed" and not self.forced and not self.seats

    @property
    def is_blank(self) -> bool:
        return self.is_at_rest and not (self.calls or self.changes or self.booked)

    @property
    def next_due(self) -> float:
        if self.forced:
            return self.forced[1]
        if self.state == "open":
            return self.since + self.open_s
        return min((self.lease_end(seat) for seat in self.probes), default=inf)

    def lease_end(self, seat: NaiveSeat) -> float:
        assert seat.probe_since is not None
        return seat.probe_since + self.policy.lease_s

    # What happens to it.

    def advance(self, now: float) -> None:
        while (due := self.next_due) <= now:
            if self.forced:
                self.forced = None
                self.change("half_open" if self.state == "open" else "closed", "override_ended", due)
            elif self.state == "open":
                self.change("half_open", "open_elapsed", due)
            else:
                seat = min(self.probes, key=self.lease_end)
                kind = seat.call.kind_at(due)
                seat.settled = True
                if kind is not None and not (self.is_endpoint and kind in CONNECTING.values()):
                    self.calls += 1
                    self.waits.append(seat.call.owed_s(due))
                    self.wish = None
                    self.change("open", "probe_failed", due)

    def refusal(self, now: float) -> str | None:
        if self.state == "open":
            return "circuit_forced_open" if self.forced else "circuit_open"
        if self.state == "half_open" and len(self.probes) >= self.policy.half_open_in_flight:
            return "circuit_half_open"
        if self.state == "closed" and not self.ramp_passes(now):
            self.asked.append(now)
            return "circuit_ramping"
        if len(self.seats) >= self.policy.max_in_flight:
            return "too_many_in_flight"
        return None

    def open_s_left(self, now: float) -> float:
        if self.state != "open":
            return 0.0
        return 60.0 if self.next_due == inf else self.next_due - now

    def turn_away(self, reason: str) -> float:
        """By how much later than that the call that is refused now is to come back."""
        if self.waits and self.policy.mode is Mode.ENFORCE:
            self.spared_s += sum(self.waits) / len(self.waits)
        endless = reason == "circuit_forced_open" and self.next_due == inf
        if endless or reason in {"circuit_ramping", "too_many_in_flight"}:
            return 0.0
        self.turned_away.append(reason)
        golden = (sqrt(5) - 1) / 2
        share, _ = modf((len(self.turned_away) - 1) * golden)
        return share * self.open_s * self.policy.retry_spread

    def admit(self, call: NaiveCall, now: float) -> NaiveSeat:
        if self.ramp_since is not None:
            self.asked.append(now)
        seat = NaiveSeat(call, self.generation, now if self.state == "half_open" else None)
        self.seats.append(seat)
        return seat

    def book(
        self,
        seat: NaiveSeat,
        outcome: Outcome,
        now: float,
        *,
        silent: str | None,
        wish: float | None,
        timed: bool,
    ) -> None:
        self.advance(now)
        if seat.settled or seat.generation != self.generation:
            seat.settled = True
            self.late += outcome.verdict is not Verdict.NEUTRAL
            return
        seat.settled = True
        if outcome.verdict is Verdict.NEUTRAL or self.forced:
            return
        bad = outcome.verdict in {Verdict.FAILURE, Verdict.THROTTLED}
        if bad:
            self.wish = wish
            self.waits.append(seat.call.owed_s(now))
        upstream_s = seat.call.owed_s(now if seat.call.head_at is None else seat.call.head_at)
        slow = timed and upstream_s >= self.policy.slow_call
        if silent is None or seat.probe_since is not None:
            self.calls += 1
        elif not self.policy.consecutive_failures:
            return
        told_of = silent if seat.probe_since is None else None
        self.booked.append(Booked(now, outcome.verdict, upstream_s, slow, told_of))
        if seat.probe_since is not None:
            good = [b for b in self.booked if b.verdict in {Verdict.SUCCESS, Verdict.ALIVE}]
            if bad:
                self.change("open", "probe_failed", now)
            elif len(good) >= self.policy.recovery_threshold:
                self.change("closed", "recovered", now)
        elif (rule := self.tripped(outcome, now, silent=silent)) is not None:
            self.change("open", rule, now)

    def tripped(self, outcome: Outcome, now: float, *, silent: str | None) -> str | None:
        policy = self.policy
        limit = policy.consecutive_failures
        if outcome.verdict is Verdict.FAILURE and limit and self.run >= limit:
            return "consecutive_failures"
        calls, bad, slow, _ = self.window(now)
        if silent is not None or not policy.min_calls or calls < policy.min_calls:
            return None
        if policy.failure_ratio and bad / calls >= policy.failure_ratio:
            return "failure_ratio"
        if policy.slow_ratio and slow / calls >= policy.slow_ratio:
            return "slow_ratio"
        return None

    def change(self, state: str, trigger: str, at: float) -> None:
        self.changes.append((self.state, state, trigger, at))
        if self.state == "closed":
            self.level = max(0, self.level - int((at - self.since) // self.policy.level_decay))
        self.state, self.since = state, at
        self.touched = max(self.touched, at)
        self.generation += 1
        self.booked, self.asked, self.ramp_since = [], [], None
        if trigger == "recovered" and self.policy.ramp:
            self.ramp_since = at
        if state == "open":
            self.turned_away = []
            if self.forced:
                self.open_s = min(self.forced[1] - at, self.policy.open_max)
            else:
                self.escalate(at)
        self.wish = None

    def escalate(self, at: float) -> None:
        lengths_s = [float(self.policy.open)]
        while lengths_s[-1] < self.policy.open_max:
            lengths_s.append(min(lengths_s[-1] * self.policy.open_multiplier, self.policy.open_max))
        self.level = min(self.level + 1, len(lengths_s))
        jitter = self.policy.open_jitter
        self.open_s = lengths_s[self.level - 1] * (1 - jitter + 2 * jitter * self.drawn)
        if self.wish is not None and self.wish > at:
            self.open_s = max(self.open_s, min(self.wish - at, self.policy.retry_after_max))

    def force(self, what: str, until: float, now: float) -> None:
        self.advance(now)
        self.forced = (what, until)
        self.change(what, f"forced_{what}", now)

    def clear(self, now: float) -> None:
        self.advance(now)
        if self.forced:
            self.forced = None
            self.change("half_open" if self.state == "open" else "closed", "override_ended", now)

    def reset(self, now: float) -> None:
        self.advance(now)
        self.forced = None
        self.level = 0
        self.change("closed", "reset", now)
