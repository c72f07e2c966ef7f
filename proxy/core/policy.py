"""Every setting, once: the shapes that the configuration file, the line and the docs share.

The field names are the keys of the file. The unit of a value is its type (`Seconds`, `Bytes`), its range
stands beside it (`Range`). `control/config.py` converts straight into these classes; nothing copies them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Annotated

# The part of a token (RFC 9110 section 5.6.2) that also begins a Structured Fields token.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


class Seconds(float):
    """A duration in seconds, written `250ms`, `30s`, `5m` or `1h` in the file."""

    __slots__ = ()


class Bytes(int):
    """A size in bytes, written `512`, `64KiB` or `256MiB` in the file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Range:
    """The values a setting may have, both ends included; None is no bound."""

    least: float | None = None
    most: float | None = None


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


class AddressClass(Enum):
    """Which addresses may be called (`egress.addresses`)."""

    PUBLIC = "public"
    NO_METADATA = "no-metadata"
    ANY = "any"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the process listens."""

    proxy: Endpoint = Endpoint("127.0.0.1", 3128)
    admin: Endpoint = Endpoint("127.0.0.1", 3129)
    open_relay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When a circuit opens, how long it stays open, and what closes it again."""

    consecutive_failures: Annotated[int, Range(least=0)] = 5
    open: Annotated[Seconds, Range(least=0.001)] = Seconds(30)
    half_open_in_flight: Annotated[int, Range(least=1)] = 1
    recovery_threshold: Annotated[int, Range(least=1)] = 3
    abandoned_after: Annotated[Seconds, Range(least=0)] = Seconds(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long one side may owe the next move."""

    dns: Annotated[Seconds, Range(least=0.001)] = Seconds(5)
    connect: Annotated[Seconds, Range(least=0.001)] = Seconds(5)
    head: Annotated[Seconds, Range(least=0.001)] = Seconds(30)
    body_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(60)
    tunnel_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(3600)
    client_idle: Annotated[Seconds, Range(least=0.001)] = Seconds(600)
    upstream_idle: Annotated[Seconds, Range(least=0)] = Seconds(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds the things that a peer could make grow."""

    max_circuits: Annotated[int, Range(least=1)] = 10_000
    max_head: Annotated[Bytes, Range(least=1024, most=1024 * 1024)] = Bytes(32 * 1024)
    max_fields: Annotated[int, Range(least=16, most=10_000)] = 128
    idle_per_host: Annotated[int, Range(least=0)] = 64
    idle_total: Annotated[int, Range(least=0)] = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Which addresses may be called."""

    addresses: AddressClass = AddressClass.PUBLIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """How names are resolved; without servers, those of /etc/resolv.conf."""

    servers: tuple[Endpoint, ...] = ()


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
class Settings:
    """The whole configuration."""

    version: Annotated[int, Range(least=1, most=1)] = 1
    name: str | None = None
    listen: Listen = field(default_factory=Listen)
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    egress: Egress = field(default_factory=Egress)
    dns: Dns = field(default_factory=Dns)
    metrics: Metrics = field(default_factory=Metrics)
    log: Log = field(default_factory=Log)
    drain: Drain = field(default_factory=Drain)
    via: bool = True


def conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Settings that are well-formed and cannot be used, as (key, what is wrong and what to do)."""
    proxy = settings.listen.proxy
    if not proxy.is_loopback and not settings.listen.open_relay:
        wrong = f"{proxy} can be reached from other machines, and anyone there could use the proxy"
        yield "listen.proxy", f"{wrong}; listen on loopback, or set listen.open_relay: true"
    if settings.name is not None and not _NAME.fullmatch(settings.name):
        expected = "a letter, then up to 63 letters, digits, '.', '_' or '-'"
        yield "name", f"expected {expected} (it stands in Via and Proxy-Status)"
