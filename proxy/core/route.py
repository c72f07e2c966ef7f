"""One reverse route as the configuration has it: for which host and path, and to which upstream."""

import re
from dataclasses import dataclass
from typing import Self

from proxy.core.host import normalised, split
from proxy.core.host_pattern import HostPattern

# Visible ASCII but for `?` and `#`, as `target.py` lets it stand in a request line.
_PATH = re.compile(r"/[!\"$->@-~]*")
# No colon without a port behind it.
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*[^/?#:])(?P<path>/[!\"$->@-~]*)?")
_PORTS = {"http": 80, "https": 443}
_EXPECTED = "expected a URL such as http://10.0.0.7:8080/base, got {!r:.60}"


@dataclass(frozen=True, slots=True)
class PathPrefix:
    """Where a route begins, such as `/stripe`; `/` is everything.

    Attributes:
        path: without a slash at its end, so empty for `/`.
    """

    path: str = ""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        if not isinstance(value, str) or not _PATH.fullmatch(value):
            raise ValueError(f"expected a path such as /stripe, without a query, got {value!r:.60}")
        return cls(value.rstrip("/"))

    def covers(self, origin_form: str) -> bool:
        """Whether a path stands at or below it; `*` (OPTIONS for the whole server) only below `/`."""
        end = len(self.path)
        return origin_form.startswith(self.path) and (
            end == 0 or origin_form[end : end + 1] in {"", "/", "?"}
        )

    def __str__(self) -> str:
        return self.path or "/"


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """Where a route leads, such as `http://10.0.0.7:8080/base`.

    Attributes:
        scheme: `http` or `https`.
        host: normalised (host.py), an IPv6 address without its brackets.
        port: 1-65535.
        authority: host and port as written.
        path: without a slash at its end, so possibly empty.
    """

    scheme: str
    host: str
    port: int
    authority: str
    path: str = ""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        parts = _URL.fullmatch(value) if isinstance(value, str) else None
        if parts is None:
            raise ValueError(_EXPECTED.format(value))
        scheme, authority, path = parts.groups(default="")
        try:
            host, port = split(authority)
            host = normalised(host)
        except ValueError as error:
            raise ValueError(f"{_EXPECTED.format(value)}: {error}") from None
        return cls(scheme, host, port or _PORTS[scheme], authority, path.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way from `listen.reverse` to an upstream.

    Attributes:
        host: which the client asks for (its `Host`); None is any.
        path: which the client asks for; `upstream`'s own path comes in its place.
        internal: whether the upstream may be called whatever the class of its address.
    """

    upstream: UpstreamUrl
    host: HostPattern | None = None
    path: PathPrefix = PathPrefix()
    internal: bool = False
