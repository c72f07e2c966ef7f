"""The heads that go out: requests to upstreams, responses and interim responses to clients.

Byte-exact where HTTP lets a proxy be (RFC 9112 section 3.2.2, RFC 9110 section 7.6): the request-target in
origin-form and the fields go as they came, in their order and spelling; only what concerns a single hop is
removed and made anew, behind the others.
"""

import re

from proxy.core.headers import MAX_DIGITS, Body, Field, Fields, Framing, trailers_of
from proxy.wire.call import Call
from proxy.wire.parser import ResponseHead, ResponseParser

# A member of a list of Structured Fields (RFC 9651 section 3.1): commas inside of strings do not end it.
_MEMBER = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_WELL_QUOTED = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*")*')
_CHUNKED = (b"Transfer-Encoding", b"chunked")
_TRAILERS = (b"TE", b"trailers")
_WEBSOCKET = (b"Upgrade", b"websocket")
_CLOSE = (b"Connection", b"close")
# RFC 9110 section 7.6.2: other methods may carry Max-Forwards, and mean nothing by it.
_COUNTED = frozenset({"OPTIONS", "TRACE"})
_END = b"\r\n"

_line = b": ".join


class Heads:
    """Makes heads.

    Args:
        name: of this proxy, a token, for `Via` and against forged `Proxy-Status`.
        via: whether to add a `Via` field.
    """

    def __init__(self, name: str, *, via: bool) -> None:
        self._name = name.encode("ascii")
        self._via_1_0: Fields = [(b"Via", b"1.0 " + self._name)] if via else []
        self._via_1_1: Fields = [(b"Via", b"1.1 " + self._name)] if via else []

    def request(self, call: Call) -> bytes:
        """The head of a request; to be made once."""
        head, target, method = call.head, call.target, call.request.method
        fields = head.kept
        # RFC 9112 section 3.2.2: "a proxy MUST ignore the received Host header field and instead replace it
        # with the host information of the request-target".
        authority = target.authority.encode("ascii")
        if head.host_at is None:
            fields.insert(0, (b"Host", authority))
        else:
            fields[head.host_at] = (fields[head.host_at][0], authority)
        ours = call.policy.circuit.key.header
        if ours and ours != "host":
            # The field that tells the endpoint is meant for us.
            fields = _without(fields, ours.encode("ascii"))
        if method in _COUNTED and head.has(b"max-forwards"):
            fields = [_counted_down(field) for field in fields]
        if call.exchange.body.framing is Framing.CHUNKED:
            fields.append(_CHUNKED)
        if head.wants_trailers or call.upgrades:
            fields += _for_the_next_hop(call)
        fields += self._via_1_1 if call.is_http_1_1 else self._via_1_0
        line = f"{method} {target.origin_form} HTTP/1.1\r\n".encode("ascii")
        return line + _lines(fields)

    def interim(self, head: ResponseHead) -> bytes:
        """The head of an interim response."""
        return _status_line(head) + _lines(self._cleaned(head))

    def switching(self, head: ResponseHead) -> bytes:
        """The head of a 101."""
        own = [_WEBSOCKET, (b"Connection", b"Upgrade")]
        return _status_line(head) + _lines([*self._cleaned(head), *self._via_1_1, *own])

    def response(
        self, head: ResponseHead, body: Body, *, keep: bool, fell_back_for: str | None = None
    ) -> bytes:
        """The head of a final response; to be made once.

        Args:
            head: as the upstream sent it.
            body: how the client finds the end of the content.
            keep: whether the connection stays open behind it.
            fell_back_for: why it comes from elsewhere than the request was for, a token; None if it does not.
        """
        fields = self._cleaned(head)
        if fell_back_for is not None:
            # RFC 9209 section 2: the client must not take it for the answer of its upstream.
            said = f'{self._name.decode("ascii")}; details="redirected: {fell_back_for}"'
            fields.append((b"Proxy-Status", said.encode("ascii")))
        if body.framing is Framing.CHUNKED:
            fields.append(_CHUNKED)
        fields += self._via_1_1 if head.version == "1.1" else self._via_1_0
        if not keep:
            fields.append(_CLOSE)
        return _status_line(head) + _lines(fields)

    def last_chunk(self, response: ResponseParser) -> bytes:
        """The end of chunked content, with the trailers that may pass."""
        passing: Fields = []
        if response.trailers and response.head is not None:
            passing = trailers_of(response.trailers, response.head.fields)
        return b"0\r\n" + _lines(passing) if passing else b"0\r\n\r\n"

    def _cleaned(self, head: ResponseHead) -> Fields:
        """The fields that pass on: only the proxy itself says that an answer is the proxy's."""
        fields = head.fields.kept
        if head.fields.has(b"x-breaker-reason"):
            fields = _without(fields, b"x-breaker-reason")
        # RFC 9110 section 8.6: "MUST NOT send a Content-Length" in any response with these statuses.
        if (head.status < 200 or head.status == 204) and head.fields.has(b"content-length"):  # noqa: PLR2004 -- 1xx and 204
            fields = _without(fields, b"content-length")
        if head.fields.has(b"proxy-status"):
            # A list is one, over however many lines it goes (RFC 9651 section 4.2).
            said = b", ".join(head.fields.values(b"proxy-status"))
            if self._name in said:
                members = [member.strip() for member in _MEMBER.findall(said)]
                foreign = b", ".join([member for member in members if self._is_of_another(member)])
                at = next(at for at, field in enumerate(fields) if field[0].lower() == b"proxy-status")
                name = fields[at][0]
                fields = _without(fields, b"proxy-status")
                if foreign:
                    fields.insert(at, (name, foreign))
        return fields

    def _is_of_another(self, member: bytes) -> bool:
        """Whether a member of `Proxy-Status` (RFC 9209 section 2) is in no way to be read in our name."""
        if self._name in member and not _WELL_QUOTED.fullmatch(member):
            return False
        return member.partition(b";")[0].strip(b' \t"') != self._name


def _without(fields: Fields, name: bytes) -> Fields:
    return [field for field in fields if field[0].lower() != name]


def _for_the_next_hop(call: Call) -> Fields:
    """What a client asks of every hop, asked of the next one, with the options that RFC 9110 wants for it."""
    fields: Fields = []
    options: list[bytes] = []
    if call.head.wants_trailers:
        fields.append(_TRAILERS)
        options.append(b"TE")
    if call.upgrades:
        fields.append(_WEBSOCKET)
        options.append(b"Upgrade")
    return [*fields, (b"Connection", b", ".join(options))]


def _counted_down(field: Field) -> Field:
    """`Max-Forwards` less one (RFC 9110 section 7.6.2); naming has refused 0."""
    name, value = field
    if name.lower() != b"max-forwards" or not value.isdigit() or len(value) > MAX_DIGITS:
        return field
    return name, b"%d" % (int(value) - 1)


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def _lines(fields: Fields) -> bytes:
    return b"".join((_END.join(map(_line, fields)), _END, _END)) if fields else _END
