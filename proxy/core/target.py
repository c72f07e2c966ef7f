"""What a request is for: the request-target of RFC 9112 section 3.2, as the client sent it.

Nothing is normalised on the way: what goes upstream is the origin-form of exactly the received bytes, since
signatures of webhooks cover it. Only the host is lower-cased, for the circuit's key and for the resolver.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from proxy.core.errors import HttpRequestError, NotAProxyRequest

DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986 section 3.2.2, less than it allows: a registered name without sub-delims and percent-encodings
# (no resolver answers those), an IPv4 address, or an IPv6 address in brackets without a zone.
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,255}))(?::(?P<port>[0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<rest>.*)", re.DOTALL)
# RFC 3986 section 3.3 and 3.4, looser: any visible ASCII, since clients send more than they should and
# upstreams understand it. A space or a control character would break the request line; '#' is never sent.
_ORIGIN_FORM = re.compile(r"[!\"$-~]*")


@dataclass(frozen=True, slots=True)
class Target:
    """The scheme, host, port and path of one request.

    Attributes:
        scheme: `http` or `https`; for a tunnel the empty string.
        host: lower case, an IPv6 address without its brackets.
        port: 1-65535.
        origin_form: path and query as received, `*` for OPTIONS without a path; empty for a tunnel.
        authority: host and port as received, for the `Host` field.
    """

    scheme: str
    host: str
    port: int
    origin_form: str
    authority: str

    @property
    def host_port(self) -> str:
        """The circuit's key and the name that logs and answers use."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def from_absolute_form(request_target: str, method: str) -> Target:
    """Names the target of a request on the proxy port (RFC 9112 section 3.2.2).

    Raises:
        HttpRequestError: 400; for an origin-form it says how to use the proxy.
    """
    if request_target.startswith("/") or request_target == "*":
        raise NotAProxyRequest(
            "this is a proxy: send it requests in absolute-form, by setting HTTP_PROXY to its address"
        )
    parts = _ABSOLUTE.fullmatch(request_target)
    if parts is None:
        raise HttpRequestError("the request-target is not an absolute URI")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise HttpRequestError("the scheme is neither http nor https")
    rest = parts["rest"]
    if not _ORIGIN_FORM.fullmatch(rest):
        raise HttpRequestError("the request-target has characters that no URI has")
    if not rest and method == "OPTIONS":
        # RFC 9112 section 3.2.4: the last proxy MUST send "*" for an OPTIONS whose URI has no path and query.
        rest = "*"
    elif not rest.startswith("/"):
        # RFC 9112 section 3.2.1: an empty path is sent as "/".
        rest = "/" + rest
    host, port = _host_and_port(parts["authority"], DEFAULT_PORTS[scheme])
    return Target(scheme, host, port, rest, parts["authority"])


def from_authority_form(request_target: str) -> Target:
    """Names the target of a CONNECT (RFC 9112 section 3.2.3): a host and a port, nothing else.

    Raises:
        HttpRequestError: 400.
    """
    host, port = _host_and_port(request_target, None)
    return Target("", host, port, "", request_target)


def _host_and_port(authority: str, default_port: int | None) -> tuple[str, int]:
    if "@" in authority:
        # RFC 9110 section 4.2.4: userinfo SHOULD be treated as an error, "it is likely being used to
        # obscure the authority".
        raise HttpRequestError("the authority carries user information")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or (parts["ipv6"] and not _is_ipv6(parts["ipv6"])):
        raise HttpRequestError("the authority is not a host with an optional port")
    port = int(parts["port"]) if parts["port"] else default_port
    if port is None:
        raise HttpRequestError("CONNECT needs a port")
    if not 1 <= port <= 65535:  # noqa: PLR2004 -- the range of TCP ports
        raise HttpRequestError("the port is outside 1-65535")
    return (parts["ipv6"] or parts["name"]).lower(), port


def _is_ipv6(address: str) -> bool:
    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return True
