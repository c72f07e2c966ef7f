"""The settings of the egress guard: which hosts may be named, which addresses called (design section 7)."""

from dataclasses import dataclass, field
from enum import Enum

from proxy.core.address import Network
from proxy.core.host_pattern import HostPattern
from proxy.core.ports import ANY_PORT, Ports


class AllowedAddresses(Enum):
    """Which addresses may be called (`egress.addresses`)."""

    PUBLIC = "public"
    NO_METADATA = "no-metadata"
    ANY = "any"


class HostRules(Enum):
    """Whether the rules on hosts act (`egress.hosts.mode`).

    `report` lets through what they would refuse, and counts and logs it.
    """

    ENFORCE = "enforce"
    REPORT = "report"


class SniRules(Enum):
    """Whether a TLS client in a tunnel must name the host of its CONNECT (`egress.sni`).

    `report` lets through one that names another, and counts and logs it.
    """

    ENFORCE = "enforce"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Which hosts may be named. `deny` beats `allow`."""

    allow: tuple[HostPattern, ...] = (HostPattern("*"),)
    deny: tuple[HostPattern, ...] = ()
    mode: HostRules = HostRules.ENFORCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where the proxy connects to (design section 7).

    Of addresses `deny` comes first, then `allow`, then the class. Our own listeners are refused in any case.

    Attributes:
        addresses: the classes of address that may be called.
        allow: may be called whatever their class.
        deny: may not.
        hosts: which hosts may be named, whatever their addresses.
        connect_ports: to which ports a tunnel may lead.
        sni: whether the name that a client in a tunnel asks for must be that of its CONNECT.
    """

    addresses: AllowedAddresses = AllowedAddresses.PUBLIC
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    hosts: Hosts = field(default_factory=Hosts)
    connect_ports: Ports = ANY_PORT
    sni: SniRules = SniRules.REPORT
