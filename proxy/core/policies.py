"""Finds the settings of one upstream: the first entry of `upstreams:` that matches, over the general ones.

What a route calls internal has the same settings, but for the class of its address, which is not asked.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy.core.acl import NOWHERE, Acl, Indexes, OwnListeners
from proxy.core.circuit_name import CircuitName
from proxy.core.egress import Egress
from proxy.core.fallback import NO_FALLBACK, Fallback
from proxy.core.host_pattern import HostPattern, HostPatterns
from proxy.core.https import HttpsMode, Tls
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, OpenAction, Settings, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.target import Target

# Peers choose the hosts. Beyond so many the memory starts anew: what it holds is cheap to find again.
MAX_REMEMBERED = 4096
# A member is looked up on its class in Python; it is asked in every exchange.
_ORIGINATE = HttpsMode.ORIGINATE
_NOTHING: Overlay[Egress] = Overlay()


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """The settings of one upstream, nothing left to look up."""

    circuit: CircuitPolicy
    timeouts: Timeouts
    open_action: OpenAction
    acl: Acl
    https: HttpsMode
    tls: Tls
    fallback: Fallback


class _Pair(NamedTuple):
    """The settings of an upstream, and those where a route calls it internal."""

    open: UpstreamPolicy
    internal: UpstreamPolicy


class _Rules(NamedTuple):
    """By which connections are told apart: whom they may lead to, and how they speak TLS.

    Attributes:
        egress: what the entry writes of it; the general one is beneath.
    """

    egress: Overlay[Egress]
    tls: Tls
    open: Acl
    internal: Acl


def ways_of(settings: Settings) -> tuple[Tls, ...]:
    """How TLS is spoken to upstreams, in all the ways that differ."""
    return tuple(dict.fromkeys((Tls(), *(upstream.tls.onto(Tls()) for upstream in settings.upstreams))))


class Policies:
    """Answers for host and port.

    For one entry always with the same settings of circuits and the same rules, by which the circuits and the
    connections of one set of settings are told from those of another. After a reload an entry whose rules and
    TLS are as before has the same rules still, so that its connections go on.

    Args:
        settings: the configuration.
        own: our own listeners, which nobody may call.
        former: what these replace; its own listeners are the same.
        reread: of the ways to speak TLS, those whose files say something else than they did for the former.

    Attributes:
        general: the settings where no entry matches.
        are_the_first: whether they replace none.
    """

    def __init__(
        self,
        settings: Settings,
        own: OwnListeners = NOWHERE,
        *,
        former: "Policies | None" = None,
        reread: Collection[Tls] = (),
    ) -> None:
        self.are_the_first = former is None
        self._own = own
        self._indexes = Indexes()
        self._egress = settings.egress
        # By the pattern of the entry; of several with one pattern only the first is ever found.
        self._rules: dict[HostPattern | None, _Rules] = {}
        known = {} if former is None else former.known(settings.egress)
        self._general = _overlaid(settings, None, self._rules_of(None, known, reread))
        self.general = self._general.open
        self._patterns = HostPatterns(upstream.match for upstream in settings.upstreams)
        self._not_intercepted = HostPatterns(settings.intercept.exclude)
        self._entries = [
            _overlaid(settings, upstream, self._rules_of(upstream, known, reread))
            for upstream in settings.upstreams
        ]
        self._found: dict[tuple[str, int], _Pair] = {}

    def known(self, egress: Egress) -> Mapping[HostPattern | None, _Rules]:
        """The rules of each entry, as far as they hold under these general rules."""
        return self._rules if egress == self._egress else {}

    def _rules_of(
        self, upstream: Upstream | None, known: Mapping[HostPattern | None, _Rules], reread: Collection[Tls]
    ) -> _Rules:
        match, written, tls = None, _NOTHING, Tls()
        if upstream is not None:
            match, written, tls = upstream.match, upstream.egress, upstream.tls.onto(tls)
        rules = known.get(match)
        if rules is None or (rules.egress, rules.tls) != (written, tls) or tls in reread:
            egress = written.onto(self._egress)
            rules = _Rules(
                written,
                tls,
                Acl(egress, self._own, indexes=self._indexes),
                Acl(egress, self._own, is_internal=True, indexes=self._indexes),
            )
        self._rules.setdefault(match, rules)
        return rules

    @property
    def acls(self) -> set[Acl]:
        """All rules that an answer can have."""
        return {acl for rules in self._rules.values() for acl in (rules.open, rules.internal)}

    @property
    def longest_body_idle_s(self) -> float:
        """The longest `timeouts.body_idle` of all, in seconds: whom a client will call is not known."""
        return max(float(timeouts.body_idle) for timeouts in self._timeouts())

    @property
    def longest_dns_s(self) -> float:
        """The longest `timeouts.dns` of all, in seconds: one query serves all who ask for a name."""
        return max(float(timeouts.dns) for timeouts in self._timeouts())

    def _timeouts(self) -> Iterator[Timeouts]:
        yield self.general.timeouts
        yield from (pair.open.timeouts for pair in self._entries)

    def find(self, target: Target) -> tuple[Target, UpstreamPolicy]:
        """The settings for a target, and the target that they make of it: with `https: originate` another."""
        policy = self.of(target.host, target.port, is_internal=target.is_internal)
        if policy.https is _ORIGINATE and target.scheme == "http":
            target = target.over_tls()
            policy = self.of(target.host, target.port, is_internal=target.is_internal)
        return target, policy

    def of(self, host: str, port: int, *, is_internal: bool = False) -> UpstreamPolicy:
        """The settings of an upstream.

        Args:
            host: in its normal form (`core/host.py`).
            port: 1-65535.
            is_internal: whether a route calls it internal.
        """
        pair = self._general
        if self._entries:
            found = self._found.get((host, port))
            pair = self._look(host, port) if found is None else found
        return pair.internal if is_internal else pair.open

    def of_circuit(self, key: str) -> UpstreamPolicy:
        """The settings of a host, by the key of its circuit.

        Raises:
            ValueError: no host has a circuit of this key.
        """
        name = CircuitName.parse(key)
        if str(name) != key or name.endpoint:
            raise ValueError("the host is written in another way")
        return self.of(name.host, name.port, is_internal=name.is_internal)

    def place(self, host: str, port: int) -> int | None:
        """Which entry of `upstreams`, from 0, is the one for an upstream; None if none is.

        Args:
            host: in its normal form (`core/host.py`).
            port: 1-65535.
        """
        return self._patterns.first(host, port)

    def is_under(self, acl: Acl, host: str, port: int) -> bool:
        """Whether these are the rules for an upstream, internal or not."""
        return acl in (self.of(host, port).acl, self.of(host, port, is_internal=True).acl)

    def _look(self, host: str, port: int) -> _Pair:
        place = self.place(host, port)
        pair = self._general if place is None else self._entries[place]
        if pair.open.https is HttpsMode.INTERCEPT and self._not_intercepted.match(host, port):
            pair = _Pair(*(replace(policy, https=HttpsMode.TUNNEL) for policy in pair))
        if len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
        self._found[host, port] = pair
        return pair


def _overlaid(settings: Settings, upstream: Upstream | None, rules: _Rules) -> _Pair:
    circuit = settings.circuit
    timeouts = settings.timeouts
    open_action = settings.open_action
    https = HttpsMode.TUNNEL
    fallback = NO_FALLBACK
    if upstream is not None:
        circuit = upstream.circuit.onto(circuit)
        timeouts = upstream.timeouts.onto(timeouts)
        open_action = upstream.open_action or open_action
        https = upstream.https
        fallback = upstream.fallback
    if circuit.probe_lease is None:
        circuit = replace(circuit, probe_lease=Seconds(timeouts.lease_s))
    policy = UpstreamPolicy(circuit, timeouts, open_action, rules.open, https, rules.tls, fallback)
    return _Pair(policy, replace(policy, acl=rules.internal))
