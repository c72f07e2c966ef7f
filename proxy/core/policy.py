"""Every setting, once: the shapes that the configuration file, the line and the docs share.

The field names are the keys of the file. The unit of a value is its type (`quantities.py`), its range stands
beside it (`Range`). `control/config.py` converts straight into these classes; nothing copies them.
"""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Annotated

from proxy.core.defer import Defer
from proxy.core.egress import Egress
from proxy.core.fallback import NO_FALLBACK, Fallback
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept, Tls
from proxy.core.overlay import Overlay
from proxy.core.quantities import Bytes, Range, Seconds
from proxy.core.route import Route
from proxy.core.scope import BY_HOST, CircuitKey
from proxy.core.statuses import Statuses

# 501 and 505 say that the upstream works and does not know the method or the version.
FAILURE_STATUSES = Statuses({*range(500, 600)} - {501, 505})
TOO_MANY_REQUESTS = Statuses({429})
NO_STATUSES = Statuses()
# A probe's own deadlines add up to its lease but for this, so that they decide before it does.
LEASE_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen on, written `127.0.0.1:3128` or `[::1]:3128`; port 0 takes any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine (in Kubernetes: this Pod) can connect."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Search(Enum):
    """Which names are tried with the search domains of /etc/resolv.conf (`dns.search`).

    `auto` is names without a dot; `on` is all names, by the rules of /etc/resolv.conf; `off` is none.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class LogLevel(Enum):
    """The least severe line that is written (`log.level`)."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AccessLog(Enum):
    """Which exchanges get a line of their own (`log.access`)."""

    ALL = "all"
    ERRORS = "errors"
    OFF = "off"


class PathLog(Enum):
    """How a path appears in the log (`log.path`): the paths of webhooks are credentials."""

    HASH = "hash"
    FULL = "full"


class OpenAction(Enum):
    """What a client gets whose call a circuit refuses (`open_action`).

    `respond` answers 503. `close` closes the connection without a byte, for dispatchers that take any answer
    for a delivery.
    """

    RESPOND = "respond"
    CLOSE = "close"


class Mode(Enum):
    """Whether circuits act (`circuit.mode`).

    `observe` runs them and lets through what they would refuse; `disabled` does not ask them.
    """

    ENFORCE = "enforce"
    OBSERVE = "observe"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the process listens, and who may use the proxy.

    Attributes:
        credentials_file: has a line `name:sha256hex` for each token that clients may give (RFC 7617); None
            asks nobody.
        open_relay: whether anyone who can reach `proxy` may use it, without a token.
    """

    proxy: Endpoint = Endpoint("127.0.0.1", 3128)
    admin: Endpoint = Endpoint("127.0.0.1", 3129)
    reverse: Endpoint | None = None
    credentials_file: str | None = None
    open_relay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When a circuit opens, how long it stays open, and what closes it again (design section 4).

    Attributes:
        key: what a circuit is for.
        consecutive_failures: opens after so many in a row; 0 is off.
        window, min_calls, failure_ratio: opens when the window has at least so many calls, and this share
            of them failed; 0 is off.
        slow_call, slow_ratio: the same for calls that the upstream kept waiting so long; 0 is off.
        open, open_multiplier, open_max, open_jitter: how long it stays open; see `escalation.py`.
        level_decay: for each such time spent closed, the next opening is one level shorter.
        retry_after, retry_after_max: whether the upstream's Retry-After lengthens that, and up to what.
        retry_spread: by how much later than the end of an opening refused calls are told to return at most,
            as a share of its length, from 0 to 10; spread evenly. 0 tells all its end; see `spread.py`.
        half_open_in_flight, recovery_threshold: how many probes at once, and how many good ones close it.
        probe_lease: how long a probe may take; None is the sum of what its steps may take, and 5 s.
        abandoned_after: a client that leaves after the upstream owed so long is a failure; 0 is never.
        ramp: how long after closing calls are let through in growing shares; 0 is off.
        failure_statuses, throttle_statuses: see `outcome.py`; None is 429, and nothing where `key` is host.
        max_in_flight: exchanges of one circuit at once, tunnels included.
        mode: whether it acts.
    """

    key: CircuitKey = BY_HOST
    consecutive_failures: Annotated[int, Range(least=0)] = 5
    window: Annotated[Seconds, Range(least=0.1)] = Seconds(60)
    min_calls: Annotated[int, Range(least=0)] = 10
    failure_ratio: Annotated[float, Range(least=0, most=1)] = 0.5
    slow_call: Annotated[Seconds, Range(least=0.001)] = Seconds(10)
    slow_ratio: Annotated[float, Range(least=0, most=1)] = 0.0
    open: Annotated[Seconds, Range(least=0.001)] = Seconds(30)
    open_multiplier: Annotated[float, Range(least=1, most=100)] = 2.0
    open_max: Annotated[Seconds, Range(least=0.001)] = Seconds(300)
    open_jitter: Annotated[float, Range(least=0, most=0.9)] = 0.2
    level_decay: Annotated[Seconds, Range(least=0.001)] = Seconds(60)
    retry_after: bool = True
    retry_after_max: Annotated[Seconds, Range(least=0)] = Seconds(300)
    retry_spread: Annotated[float, Range(least=0, most=10)] = 0.5
    half_open_in_flight: Annotated[int, Range(least=1)] = 1
    recovery_threshold: Annotated[int, Range(least=1)] = 3
    probe_lease: Annotated[Seconds, Range(least=0.001)] | None = None
    abandoned_after: Annotated[Seconds, Range(least=0)] = Seconds(3)
    ramp: Annotated[Seconds, Range(least=0)] = Seconds(0)
    failure_statuses: Statuses = FAILURE_STATUSES
    throttle_statuses: Statuses | None = None
    max_in_flight: Annotated[int, Range(least=1)] = 1024
    mode: Mode = Mode.ENFORCE

    @property
    def throttled(self) -> Statuses:
        """The statuses that count as throttled: at host scope one tenant's 429 says little of the host."""
        if self.throttle_statuses is None:
            return NO_STATUSES if self.key is BY_HOST or self.key == BY_HOST else TOO_MANY_REQUESTS
        return self.throttle_statuses

    @property
    def lease_s(self) -> float:
        """How long a probe may take, in seconds; `Policies` has filled in the sum for the real timeouts."""
        return Timeouts().lease_s if self.probe_lease is None else self.probe_lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long one side may owe the next move."""

    dns: Annotated[Seconds, Range(least=0.001)] = Seconds(5)
    connect: Annotated[Seconds, Range(least=0.001)] = Seconds(5)
    tls: Annotated[Seconds, Range(least=0.001)] = Seconds(5)
    request_head: Annotated[Seconds, Range(least=0.001)] = Seconds(15)
    head: Annotated[Seconds, Range(least=0.001)] = Seconds(30)
    body_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(60)
    tunnel_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(3600)
    client_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(600)
    upstream_idle: Annotated[Seconds, Range(least=0)] = Seconds(4)
    total: Annotated[Seconds, Range(least=0)] = Seconds(0)

    @property
    def lease_s(self) -> float:
        """What a probe may take in seconds: each step's own deadline comes first, and may then be met."""
        return self.dns + self.connect + self.tls + self.head + LEASE_MARGIN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds the things that a peer could make grow."""

    max_circuits: Annotated[int, Range(least=1)] = 10_000
    circuit_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(900)
    max_per_host: Annotated[int, Range(least=1)] = 500
    max_connections: Annotated[int, Range(least=1)] = 2000
    max_tunnels: Annotated[int, Range(least=1)] = 1000
    max_head: Annotated[Bytes, Range(least=1024, most=1024 * 1024)] = Bytes(32 * 1024)
    max_fields: Annotated[int, Range(least=16, most=10_000)] = 128
    idle_per_host: Annotated[int, Range(least=0)] = 64
    idle_total: Annotated[int, Range(least=0)] = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """How names are resolved.

    Attributes:
        servers: to ask; none are those of /etc/resolv.conf.
        search: which names are tried with the search domains as well.
        ttl_min, ttl_max: an answer is used for as long as it says, within these.
        negative: for how long it is remembered that a name does not exist.
        stale: for how long behind that an answer may still be used while the servers fail; 0 is never.
    """

    servers: tuple[Endpoint, ...] = ()
    search: Search = Search.AUTO
    ttl_min: Annotated[Seconds, Range(least=0)] = Seconds(1)
    ttl_max: Annotated[Seconds, Range(least=0)] = Seconds(300)
    negative: Annotated[Seconds, Range(least=0)] = Seconds(5)
    stale: Annotated[Seconds, Range(least=0)] = Seconds(600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Who may use the API of the admin port.

    Attributes:
        token_file: has the token (RFC 6750) that callers must show, on loopback as well; None asks for one
            only elsewhere, and makes it up.
        hosts: names by which local callers may speak to the admin port, beside those of loopback.
    """

    token_file: str | None = None
    hosts: tuple[HostPattern, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How many circuits have labels of their own."""

    max_circuits: Annotated[int, Range(least=0)] = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is written to standard output."""

    level: LogLevel = LogLevel.INFO
    access: AccessLog = AccessLog.ERRORS
    path: PathLog = PathLog.HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How the process ends after SIGTERM."""

    quiet: Annotated[Seconds, Range(least=0)] = Seconds(1)
    timeout: Annotated[Seconds, Range(least=0)] = Seconds(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What differs for the upstreams that a pattern matches; the first entry that does counts."""

    match: HostPattern
    circuit: Overlay[CircuitPolicy] = field(default_factory=Overlay[CircuitPolicy])
    timeouts: Overlay[Timeouts] = field(default_factory=Overlay[Timeouts])
    egress: Overlay[Egress] = field(default_factory=Overlay[Egress])
    https: HttpsMode = HttpsMode.TUNNEL
    tls: Overlay[Tls] = field(default_factory=Overlay[Tls])
    open_action: OpenAction | None = None
    fallback: Fallback = NO_FALLBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration.

    Attributes:
        state_file: what keeps the circuits that are not closed over a restart; None keeps them nowhere.
    """

    version: Annotated[int, Range(least=1, most=1)] = 1
    name: str | None = None
    listen: Listen = field(default_factory=Listen)
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)
    upstreams: tuple[Upstream, ...] = ()
    routes: tuple[Route, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    egress: Egress = field(default_factory=Egress)
    dns: Dns = field(default_factory=Dns)
    intercept: Intercept = field(default_factory=Intercept)
    admin: Admin = field(default_factory=Admin)
    metrics: Metrics = field(default_factory=Metrics)
    log: Log = field(default_factory=Log)
    drain: Drain = field(default_factory=Drain)
    defer: Defer = field(default_factory=Defer)
    open_action: OpenAction = OpenAction.RESPOND
    state_file: str | None = None
    via: bool = True
