"""Who may use the API of the admin port (design section 9).

Two kinds of caller: whoever shows the token (RFC 6750), and, where `listen.admin` is on loopback and no
`admin.token_file` is set, whoever calls from this machine. The second could be a browser that a page on the
web makes use of, so the request must name this machine: a page whose own name leads here (DNS rebinding) says
its own name in `Host`. And no page of another origin gets in, with a token or without: browsers say in
`Origin` and `Sec-Fetch-Site` whose page it is. Contents other than JSON, which forms can send, are refused in
`api.py`.
"""

import re
from ipaddress import ip_address
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDictProxy

from proxy.control.problems import Problem
from proxy.core.host_pattern import HostPattern, HostPatterns

_CHALLENGE = 'Bearer realm="breaker-proxy"'
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"https?://(?P<authority>[^/]+)")
# Fetch Metadata: by a page of ours, or by hand. Clients that are no browsers say nothing.
_OWN_SITES = {"same-origin", "none"}


class Token(Protocol):
    """The token that callers must show."""

    def check(self, token: str) -> bool:
        """Whether it is the right one, in constant time."""


class Trust:
    """Decides on callers by the heads of their requests, once configured."""

    def configure(self, token: Token | None, hosts: tuple[HostPattern, ...] = ()) -> None:
        """Goes on with these settings.

        Args:
            token: the right one; None lets in whoever calls from this machine, without one, and nobody else.
            hosts: names of this machine beside those of loopback (`admin.hosts`).
        """
        self._token = token
        self._hosts = HostPatterns(hosts)

    def check(self, headers: CIMultiDictProxy[str], peer: str | None) -> None:
        """Lets a request pass, or not.

        Args:
            headers: its fields.
            peer: the address that it comes from.

        Raises:
            Problem: 401 without the right token, 403 for a page of another origin, 421 for another host.
        """
        hosts = headers.getall("Host", [])
        if _is_foreign(headers, hosts):
            raise Problem(403, "foreign_origin", "pages of other origins may not call this API")
        shown = headers.getall("Authorization", [])
        if self._token is not None or shown:
            self._check_token(shown)
        elif not _is_loopback(peer):
            raise _unauthorized("token_required", "without a token only loopback addresses may call")
        elif len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise Problem(
                421,
                "unknown_host",
                "call it localhost, 127.0.0.1 or [::1], or by a name that admin.hosts has",
            )

    def is_lasting(self, request: web.BaseRequest) -> bool:
        """Whether a request that has passed would pass now, for answers that go on and on."""
        try:
            self.check(request.headers, request.remote)
        except Problem:
            return False
        return True

    def _check_token(self, shown: list[str]) -> None:
        if not shown:
            raise _unauthorized("token_required", "show the token: Authorization: Bearer TOKEN")
        scheme, _, token = shown[0].partition(" ")
        is_right = self._token is not None and self._token.check(token.strip(" "))
        if len(shown) != 1 or scheme.lower() != "bearer" or not is_right:
            raise _unauthorized("token_wrong", "this is not the token", ', error="invalid_token"')

    def _is_ours(self, authority: str) -> bool:
        parts = _HOST.fullmatch(authority)
        if parts is None:
            return False
        name = parts["name"].lower()
        return name in _LOOPBACK_NAMES or self._hosts.match(name.strip("[]"), int(parts["port"] or 80))


def _unauthorized(reason: str, detail: str, error: str = "") -> Problem:
    return Problem(401, reason, detail, {"WWW-Authenticate": _CHALLENGE + error})


def _is_foreign(headers: CIMultiDictProxy[str], hosts: list[str]) -> bool:
    """Whether a browser says that it asks for a page that is not ours."""
    if any(site not in _OWN_SITES for site in headers.getall("Sec-Fetch-Site", [])):
        return True
    # RFC 6454 section 7: no port where it is that of the scheme, as in Host; "null" is nobody's origin.
    for origin in headers.getall("Origin", []):
        parts = _ORIGIN.fullmatch(origin)
        if parts is None or [parts["authority"].lower()] != [host.lower() for host in hosts]:
            return True
    return False


def _is_loopback(peer: str | None) -> bool:
    try:
        return ip_address(peer or "").is_loopback
    except ValueError:
        return False
