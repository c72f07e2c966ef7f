"""The heads that go out: requests to upstreams, responses and interim responses to clients.

Byte-exact where HTTP lets a proxy be (RFC 9112 section 3.2.2, RFC 9110 section 7.6): the request-target in
origin-form and the fields go as they came, in their order and spelling; only what concerns a single hop is
removed and made anew.
"""

import re

from aiohttp import HttpVersion11, web

from proxy.core.headers import Body, Fields, Framing, end_to_end
from proxy.core.target import Target
from proxy.wire.parser import ResponseHead

# A member of a list of Structured Fields (RFC 9651 section 3.1): commas inside of strings do not end it.
_MEMBER = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')


class Heads:
    """Makes heads.

    Args:
        name: of this proxy, a token, for `Via` and against forged `Proxy-Status`.
        via: whether to add a `Via` field.
    """

    def __init__(self, name: str, *, via: bool) -> None:
        self._name = name.encode("ascii")
        self._via = via

    def request(self, target: Target, request: web.BaseRequest, body: Body, ours: bytes) -> bytes:
        """The head of a request.

        Args:
            target: gives the request-target and the `Host` field.
            request: as the client sent it.
            body: its framing.
            ours: the name of a field that is meant for the proxy, in lower case; empty for none.
        """
        fields: Fields = []
        host = (b"Host", target.authority.encode("ascii"))
        for name, value in end_to_end(request.raw_headers):
            lower = name.lower()
            if lower != b"host":
                if lower != ours:
                    fields.append((name, value))
            elif host not in fields:
                # RFC 9112 section 3.2.2: "a proxy MUST ignore the received Host header field and instead
                # replace it with the host information of the request-target".
                host = (name, host[1])
                fields.append(host)
        if host not in fields:
            fields.insert(0, host)
        if body.framing is Framing.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._via:
            version = b"1.1 " if request.version == HttpVersion11 else b"1.0 "
            fields.append((b"Via", version + self._name))
        line = f"{request.method} {target.origin_form} HTTP/1.1\r\n".encode("ascii")
        return line + _lines(fields) + b"\r\n"

    def interim(self, head: ResponseHead) -> bytes:
        """The head of an interim response."""
        return _status_line(head) + _lines(self._cleaned(head)) + b"\r\n"

    def response(self, head: ResponseHead, body: Body, *, keep: bool) -> bytes:
        """The head of a final response.

        Args:
            head: as the upstream sent it.
            body: how the client finds the end of the content.
            keep: whether the connection stays open behind it.
        """
        fields = self._cleaned(head)
        if body.framing is Framing.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._via:
            fields.append((b"Via", b"1.1 " + self._name))
        if not keep:
            fields.append((b"Connection", b"close"))
        return _status_line(head) + _lines(fields) + b"\r\n"

    def _cleaned(self, head: ResponseHead) -> Fields:
        """The fields that pass on: only the proxy itself says that an answer is the proxy's."""
        # RFC 9110 section 8.6: "MUST NOT send a Content-Length" in any response with these statuses.
        lengthless = head.status < 200 or head.status == 204  # noqa: PLR2004 -- 1xx and 204
        fields: Fields = []
        for name, value in end_to_end(head.fields):
            lower = name.lower()
            if lower == b"x-breaker-reason" or (lengthless and lower == b"content-length"):
                continue
            if lower == b"proxy-status" and self._name in value:
                foreign = self._foreign_members(value)
                if foreign:
                    fields.append((name, foreign))
                continue
            fields.append((name, value))
        return fields

    def _foreign_members(self, value: bytes) -> bytes:
        """What `Proxy-Status` says of others than ourselves (RFC 9209 section 2)."""
        members = (member.strip() for member in _MEMBER.findall(value))
        return b", ".join(
            member for member in members if member.partition(b";")[0].strip(b' \t"') != self._name
        )


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def _lines(fields: Fields) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])
