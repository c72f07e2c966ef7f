"""What a request is for: the request-target of RFC 9112 section 3.2, as the client sent it.

Nothing is normalised on the way: what goes upstream is the origin-form of exactly the received bytes, since
signatures of webhooks cover it. Only the host is brought into one form (host.py), for the circuit's key, the
rules and the resolver; the `Host` field keeps what was received.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from proxy.core.errors import HttpRequestError, NotAProxyRequest
from proxy.core.host import normalised, split

DEFAULT_PORTS = {"http": 80, "https": 443}
# Behind the name of a circuit that is for routes alone.
INTERNAL = "+internal"

_PORT = re.compile(r":[0-9]*\Z")
_INTERNAL = "+internal"
_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)")
# Dispatchers call the same URLs again and again. Peers choose them, so what is remembered is bounded.
_LONGEST_REMEMBERED = 256
MOST_REMEMBERED = 4096
# RFC 3986 section 3.3 and 3.4, looser: any visible ASCII, since clients send more than they should and
# upstreams understand it. A space or a control character would break the request line; '#' is never sent.
_ORIGIN_FORM = re.compile(r"[!\"$-~]*")


class Target(NamedTuple):
    """The scheme, host, port and path of one request.

    Attributes:
        scheme: `http` or `https`; for a tunnel the empty string.
        host: normalised, an IPv6 address without its brackets.
        port: 1-65535.
        origin_form: path and query as received, `*` for OPTIONS without a path; empty for a tunnel.
        authority: host and port as received, for the `Host` field.
        is_internal: whether a route calls the host internal; then it has a circuit of its own.
    """

    scheme: str
    host: str
    port: int
    origin_form: str
    authority: str
    is_internal: bool = False

    @property
    def host_port(self) -> str:
        """The name that answers use."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def over_tls(self) -> "Target":
        """The same over HTTPS (`https: originate`): port 80 becomes 443, other ports stay."""
        if self.port != DEFAULT_PORTS["http"]:
            return self._replace(scheme="https")
        # However the 80 is written: `:80`, `:080` or `:` (RFC 3986 section 6.2.3) would be another port here.
        authority = _PORT.sub("", self.authority)
        return self._replace(scheme="https", port=DEFAULT_PORTS["https"], authority=authority)

    @property
    def circuit(self) -> str:
        """The key of its host's circuit, and the name that logs and metrics use."""
        return f"{self.host_port}{_INTERNAL}" if self.is_internal else self.host_port


def from_absolute_form(request_target: str, method: str) -> Target:
    """Names the target of a request on the proxy port (RFC 9112 section 3.2.2).

    Raises:
        HttpRequestError: 400; for an origin-form it says how to use the proxy.
    """
    if len(request_target) <= _LONGEST_REMEMBERED and method != "OPTIONS":
        return _remembered(request_target)
    return _from_absolute_form(request_target, method)


@lru_cache(MOST_REMEMBERED)
def _remembered(request_target: str) -> Target:
    return _from_absolute_form(request_target, "")


def _from_absolute_form(request_target: str, method: str) -> Target:
    if request_target.startswith("/") or request_target == "*":
        raise NotAProxyRequest(
            "this is a proxy: send it requests in absolute-form, by setting HTTP_PROXY to its address"
        )
    end = request_target.find("/", request_target.find("://") + 3)
    origin = request_target if end < 0 else request_target[:end]
    if "?" in origin:
        origin = origin.partition("?")[0]
    scheme, host, port, authority = _parts_of(origin)
    if method == "OPTIONS" and origin == request_target:
        # RFC 9112 section 3.2.4: the last proxy MUST send "*" for an OPTIONS whose URI has no path and query.
        return Target(scheme, host, port, "*", authority)
    return Target(scheme, host, port, origin_form(request_target[len(origin) :]), authority)


def origin_form(path_and_query: str) -> str:
    """Checks what is to stand in a request line; an empty path becomes `/` (RFC 9112 section 3.2.1).

    Raises:
        HttpRequestError: 400.
    """
    if not _ORIGIN_FORM.fullmatch(path_and_query):
        raise HttpRequestError("the request-target has characters that no URI has")
    return path_and_query if path_and_query.startswith("/") else "/" + path_and_query


def from_authority_form(request_target: str) -> Target:
    """Names the target of a CONNECT (RFC 9112 section 3.2.3): a host and a port, nothing else.

    Raises:
        HttpRequestError: 400.
    """
    host, port = host_and_port(request_target, None)
    return Target("", host, port, "", request_target)


def _parts_of(origin: str) -> tuple[str, str, int, str]:
    """Scheme, host, port, and the authority as written."""
    parts = _ORIGIN.fullmatch(origin)
    if parts is None:
        raise HttpRequestError("the request-target is not an absolute URI")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise HttpRequestError("the scheme is neither http nor https")
    host, port = host_and_port(parts["authority"], DEFAULT_PORTS[scheme])
    return scheme, host, port, parts["authority"]


def host_and_port(authority: str, default_port: int | None) -> tuple[str, int]:
    """The normalised host, and the port of an authority.

    Raises:
        HttpRequestError: 400.
    """
    if "@" in authority:
        # RFC 9110 section 4.2.4: userinfo SHOULD be treated as an error, "it is likely being used to
        # obscure the authority".
        raise HttpRequestError("the authority carries user information")
    try:
        host, port = split(authority)
        host = normalised(host)
    except ValueError as error:
        raise HttpRequestError(str(error)) from None
    port = port or default_port
    if port is None:
        raise HttpRequestError("CONNECT needs a port")
    return host, port
