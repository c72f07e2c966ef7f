"""Who may be called: hosts by name, tunnels by port, addresses by what they are (design section 7).

Names are ruled on before anything is asked for (`authorize`), addresses when they are known: of a literal at
once, else when the name is resolved, and again whenever a connection to one is used (`vet`). A refusal says
which setting would have to change. It is the same whether or not anything is at the address.
"""

from collections.abc import Callable
from typing import NamedTuple

from proxy.core.address import AddressClass, IpAddress, Network, canonical, carried_by, classes_of
from proxy.core.client_hello import ClientHello
from proxy.core.egress import AllowedAddresses, Egress, HostRules, SniRules
from proxy.core.errors import DestinationIpProhibited, HttpRequestDenied
from proxy.core.exchange import Entry, Exchange
from proxy.core.host import literal as as_literal
from proxy.core.host_pattern import HostPattern, HostPatterns
from proxy.core.networks import Networks
from proxy.core.target import Target

# Peers choose hosts and addresses. Beyond so many a memory starts anew: what it holds is cheap to find again.
# There are two such objects for each entry of `upstreams:`.
MAX_REMEMBERED = 512

_ALL = frozenset(AddressClass)
_PROHIBITED = {
    AllowedAddresses.PUBLIC: _ALL - {AddressClass.PUBLIC},
    # Clouds have their metadata services among the link-local addresses, and nobody else's are there.
    AllowedAddresses.NO_METADATA: frozenset({AddressClass.LINK_LOCAL, AddressClass.METADATA}),
    AllowedAddresses.ANY: frozenset[AddressClass](),
}
_TUNNEL = Entry.TUNNEL


class OwnListeners:
    """Where this process itself listens: no upstream is there, whatever the settings say.

    Args:
        is_local: whether an address is one of this machine's (in Kubernetes: of this Pod's).

    Attributes:
        ports: of all listeners, each before its first client comes.
    """

    def __init__(self, is_local: Callable[[IpAddress], bool]) -> None:
        self._is_local = is_local
        self.ports: frozenset[int] = frozenset()

    def has(self, address: IpAddress, port: int) -> bool:
        """Whether a connection there could end at a listener of ours."""
        return port in self.ports and any(map(self._is_local, (address, *carried_by(address))))


NOWHERE = OwnListeners(lambda _: False)


class _Ruling(NamedTuple):
    """What the rules say of a host and port.

    Attributes:
        denied: reason, details and phrase of the refusal; None lets it pass.
        is_enforced: whether it is refused, and not only counted.
        literal: the host, where it is an address.
    """

    denied: tuple[str, str, str] | None = None
    is_enforced: bool = True
    literal: str | None = None


_FREE = _Ruling()


class Indexes:
    """Makes the index of each list of the settings once: most upstreams have the general lists."""

    def __init__(self) -> None:
        # By their identity: comparing long lists takes as long as making their index does.
        self._networks: dict[int, tuple[tuple[Network, ...], Networks]] = {}
        self._hosts: dict[int, tuple[tuple[HostPattern, ...], HostPatterns]] = {}

    def of_networks(self, listed: tuple[Network, ...]) -> Networks:
        """The index of `egress.allow` or `egress.deny`."""
        if id(listed) not in self._networks:
            self._networks[id(listed)] = listed, Networks(listed)
        return self._networks[id(listed)][1]

    def of_hosts(self, listed: tuple[HostPattern, ...]) -> HostPatterns:
        """The index of `egress.hosts.allow` or `egress.hosts.deny`."""
        if id(listed) not in self._hosts:
            self._hosts[id(listed)] = listed, HostPatterns(listed)
        return self._hosts[id(listed)][1]


class Acl:
    """The rules for one upstream.

    Args:
        egress: the settings.
        own: our own listeners.
        is_internal: the operator has named the upstream, so that the class of its address is not asked.
        indexes: of the lists that other upstreams have as well.
    """

    def __init__(
        self,
        egress: Egress,
        own: OwnListeners = NOWHERE,
        *,
        is_internal: bool = False,
        indexes: Indexes | None = None,
    ) -> None:
        indexes = Indexes() if indexes is None else indexes
        self._allow = indexes.of_networks(egress.allow)
        self._deny = indexes.of_networks(egress.deny)
        self._allow_hosts = indexes.of_hosts(egress.hosts.allow)
        self._deny_hosts = indexes.of_hosts(egress.hosts.deny)
        self._connect_ports = egress.connect_ports
        self._is_sni_enforced = egress.sni is SniRules.ENFORCE
        self._is_enforced = egress.hosts.mode is HostRules.ENFORCE
        self._own = own
        self._prohibited = _PROHIBITED[AllowedAddresses.ANY if is_internal else egress.addresses]
        self._rulings: dict[tuple[str, int, bool], _Ruling] = {}
        self._addresses: dict[str, tuple[IpAddress, str]] = {}

    def authorize(self, exchange: Exchange, target: Target) -> None:
        """Lets an exchange go on towards its target, or refuses it; an address in it is vetted as well.

        A refusal that is only to be reported is noted in `exchange.unenforced`.

        Raises:
            HttpRequestDenied: 403, 502 on CONNECT; `host_denied` or `port_denied`.
            DestinationIpProhibited: 502, `address_denied`.
        """
        host, port, is_tunnel = target.host, target.port, exchange.entry is _TUNNEL
        ruling = self._rulings.get((host, port, is_tunnel))
        if ruling is None:
            if len(self._rulings) >= MAX_REMEMBERED:
                self._rulings.clear()
            ruling = self._rulings[host, port, is_tunnel] = self._rule(host, port, is_tunnel=is_tunnel)
        if ruling is _FREE:
            return
        if ruling.denied is not None:
            reason, details, phrase = ruling.denied
            if ruling.is_enforced:
                raise HttpRequestDenied(details, reason=reason, phrase=phrase)
            exchange.unenforced = reason
        if ruling.literal is not None:
            refusal = self.vet(ruling.literal, port)
            if refusal is not None:
                exchange.address = ruling.literal
                raise refusal

    def authorize_hello(self, exchange: Exchange, target: Target, hello: ClientHello | None) -> None:
        """Lets TLS go on inside of a tunnel, or refuses it for whom it asks for (`egress.sni`).

        A client that names nobody asks for nobody else. Where the CONNECT names an address, the rules on
        hosts say of the name whether it may be called.

        Args:
            exchange: gets a note where a refusal is only to be reported.
            target: of the CONNECT.
            hello: what the client has said; None is nothing that makes sense.

        Raises:
            HttpRequestDenied: `sni_denied`; the tunnel stands already, so that nobody is told.
        """
        if hello is not None:
            name = hello.server_name
            if name is None or name == target.host:
                return
            if as_literal(target.host) is not None and self._rule(name, target.port, is_tunnel=True) is _FREE:
                return
        if self._is_sni_enforced:
            raise HttpRequestDenied("egress.sni: the TLS inside asks for another host", reason="sni_denied")
        if hello is not None:
            exchange.unenforced = exchange.unenforced or "sni_denied"

    def vet(self, address: str, port: int) -> DestinationIpProhibited | None:
        """Whether an address may not be connected to: `deny`, `allow` and its class, then own listeners.

        These come last, so that a refusal tells of no address that the rules forbid whether it is ours.

        Args:
            address: as the socket will be told it.
            port: 1-65535.

        Returns:
            The refusal, or None.
        """
        known = self._addresses.get(address)
        if known is None:
            if len(self._addresses) >= MAX_REMEMBERED:
                self._addresses.clear()
            parsed = canonical(address)
            known = self._addresses[address] = (parsed, self._forbidden_by(parsed))
        parsed, setting = known
        if setting:
            details = f"{setting} forbids the address of the upstream"
            if setting != "egress.deny":
                details += "; egress.allow could permit it"
            return DestinationIpProhibited(details, phrase=f"Address denied by {setting}")
        if self._own.has(parsed, port):
            return DestinationIpProhibited("a listener of this very proxy is there", phrase="Own listener")
        return None

    def _rule(self, host: str, port: int, *, is_tunnel: bool) -> _Ruling:
        literal = None if as_literal(host) is None else host
        if is_tunnel and port not in self._connect_ports:
            denied = ("port_denied", f"egress.connect_ports has no port {port}", "Port denied")
            return _Ruling(denied, literal=literal)
        if self._deny_hosts.match(host, port):
            key = "egress.hosts.deny"
        elif not self._allow_hosts.match(host, port):
            key = "egress.hosts.allow"
        else:
            return _FREE if literal is None else _Ruling(literal=literal)
        verb = "names" if key == "egress.hosts.deny" else "does not name"
        denied = ("host_denied", f"{key} {verb} this host", f"Host denied by {key}")
        return _Ruling(denied, self._is_enforced, literal)

    def _forbidden_by(self, address: IpAddress) -> str:
        """The setting that forbids an address, empty if none does."""
        if any(one in self._deny for one in (address, *carried_by(address))):
            return "egress.deny"
        if address in self._allow:
            return ""
        return "egress.addresses" if not self._prohibited.isdisjoint(classes_of(address)) else ""
