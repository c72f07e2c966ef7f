"""Finds the settings of one upstream: the first entry of `upstreams:` that matches, over the general ones."""

from dataclasses import dataclass, replace

from proxy.core.overlay import HostPattern
from proxy.core.policy import CircuitPolicy, OpenAction, Seconds, Settings, Timeouts, Upstream

# Peers choose the hosts. Beyond so many the cache starts anew: an entry is cheap to find again.
MAX_CACHED = 4096


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """The settings of one upstream, nothing left to look up."""

    circuit: CircuitPolicy
    timeouts: Timeouts
    open_action: OpenAction = OpenAction.RESPOND


class Policies:
    """Answers for host and port; for one entry always with the same object.

    Attributes:
        general: the settings where no entry matches.
    """

    def __init__(self, settings: Settings) -> None:
        self.general = _overlaid(settings, None)
        self._entries: list[tuple[HostPattern, UpstreamPolicy]] = [
            (upstream.match, _overlaid(settings, upstream)) for upstream in settings.upstreams
        ]
        self._found: dict[tuple[str, int], UpstreamPolicy] = {}

    @property
    def longest_body_idle_s(self) -> float:
        """The longest `timeouts.body_idle` of all, in seconds: whom a client will call is not known."""
        return max(
            float(policy.timeouts.body_idle)
            for policy in (self.general, *(entry for _, entry in self._entries))
        )

    def of(self, host: str, port: int) -> UpstreamPolicy:
        """The settings of an upstream.

        Args:
            host: lower case, an IPv6 address without its brackets.
            port: 1-65535.
        """
        if not self._entries:
            return self.general
        policy = self._found.get((host, port))
        if policy is None:
            policy = next(
                (entry for match, entry in self._entries if match.matches(host, port)), self.general
            )
            if len(self._found) >= MAX_CACHED:
                self._found.clear()
            self._found[host, port] = policy
        return policy


def _overlaid(settings: Settings, upstream: Upstream | None) -> UpstreamPolicy:
    circuit = settings.circuit
    timeouts = settings.timeouts
    open_action = settings.open_action
    if upstream is not None:
        circuit = upstream.circuit.onto(circuit)
        timeouts = upstream.timeouts.onto(timeouts)
        open_action = upstream.open_action or open_action
    if circuit.probe_lease is None:
        circuit = replace(circuit, probe_lease=Seconds(timeouts.lease_s))
    return UpstreamPolicy(circuit, timeouts, open_action)
