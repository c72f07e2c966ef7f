"""The fault matrix (design section 10): what each fault does, by each way into the proxy. Data alone.

`test_matrix.py` provokes every cell; `document.py` makes docs/errors.md of the same table. The values are
written out and not taken from the product, so that a change there has to be made here as well.
"""

from enum import Enum
from typing import NamedTuple


class End(Enum):
    """What a client gets instead of a whole answer."""

    CUT = "cut"
    RESET = "reset"
    NOTHING = "closed without a byte"
    LEFT = "nobody is there"


class Cell(NamedTuple):
    """What one fault does by one entry.

    Attributes:
        gets: the status of the answer that the client gets, or how it ends without one.
        error: the type of RFC 9209; empty if the exchange went well, or the client has left.
        reason: the token of `X-Breaker-Reason`.
        books: the outcome in the circuit; None if no call was admitted.
        retry_after_s: of the answer.
        keeps: whether the client's connection takes another request.
    """

    gets: int | End
    error: str
    reason: str
    books: str | None
    retry_after_s: int | None = None
    keeps: bool = False


class Row(NamedTuple):
    """One fault; where an entry cannot have it, a sentence says why.

    Attributes:
        fault: what happens, for a reader who has seen only its result.
    """

    fault: str
    forward: Cell | str
    reverse: Cell | str
    tunnel: Cell | str


def _own(status: int, error: str, books: str | None, reason: str = "", retry: int | None = None) -> Cell:
    return Cell(status, error, reason or error, books, retry, keeps=True)


def _closing(cell: Cell) -> Cell:
    return cell._replace(keeps=False)


def _cut(error: str, books: str, gets: End = End.CUT, reason: str = "") -> Cell:
    return Cell(gets, error, reason or error, books)


def _left(books: str) -> Cell:
    return Cell(End.LEFT, "", "", books)


def _anywhere(fault: str, cell: Cell) -> Row:
    # A CONNECT that is not answered 2xx ends its connection: what follows it may be meant for the tunnel.
    return Row(fault, cell, cell, _closing(cell))


def _http(fault: str, cell: Cell, tunnel: Cell | str) -> Row:
    return Row(fault, cell, cell, tunnel)


_INSIDE = "all that follows its 200 is bytes to the proxy"
_NO_CONTENT = "CONNECT has no content"
_POOLED = "it never takes a kept-alive connection"
_TUNNELS_ALONE = "the setting is for tunnels alone"

_REFUSED = _own(502, "connection_refused", "failure(refused)")
_UNREACHABLE = _own(502, "destination_ip_unroutable", "failure(unreachable)")
_CONNECT_TIMEOUT = _own(504, "connection_timeout", "failure(connect_timeout)")
_HEAD_TIMEOUT = _own(504, "http_response_timeout", "failure(response_timeout)")
_TERMINATED = _own(502, "connection_terminated", "failure(reset)")
_MALFORMED = _own(502, "http_protocol_error", "failure(malformed)")
_HEAD_SIZE = _own(502, "http_response_header_section_size", "failure(malformed)")
_CODING = _own(502, "http_response_transfer_coding", "failure(malformed)")
_INCOMPLETE = _cut("http_response_incomplete", "failure(truncated)")
_FULL = _own(503, "connection_limit_reached", "neutral", "local_limit", 1)
# Rules come before admission; of a name the address is not known before.
_ADDRESS = _own(502, "destination_ip_prohibited", None, "address_denied")


def _bad(status: int, reason: str) -> Cell:
    return _closing(_own(status, "http_request_error", None, reason))


def _denied(status: int, reason: str) -> Cell:
    return _own(status, "http_request_denied", None, reason)


def _open(reason: str, retry: int) -> Cell:
    return _own(503, "destination_unavailable", None, reason, retry)


REACHING = {
    "refused": _anywhere("nothing listens at the upstream's address", _REFUSED),
    "unreachable": _anywhere("no way leads to the upstream's address", _UNREACHABLE),
    "connect_timeout": _anywhere(
        "the upstream does not accept the connection within `timeouts.connect`", _CONNECT_TIMEOUT
    ),
    "no_such_name": _anywhere("the name does not exist (NXDOMAIN)", _own(502, "dns_error", "failure(dns)")),
    "resolver_fails": _anywhere("the resolver fails (SERVFAIL)", _own(502, "dns_error", "neutral")),
    "resolver_silent": _anywhere(
        "the resolver does not answer within `timeouts.dns`", _own(504, "dns_timeout", "neutral")
    ),
    "address_denied": _anywhere("`egress` forbids the address in the URL or in the route", _ADDRESS),
    "addresses_of_name_denied": _anywhere(
        "the name leads only to addresses that `egress` forbids", _ADDRESS._replace(books="neutral")
    ),
    "own_listener": _anywhere(
        "the address is a listener of the proxy itself, and `egress` permits it", _ADDRESS
    ),
    "no_descriptor": _anywhere("the proxy has no descriptor left for a connection", _FULL),
}

ANSWER = {
    "silent": _http("accepts, and sends no head within `timeouts.head`", _HEAD_TIMEOUT, _INSIDE),
    "slow_head": _http("sends its head so slowly that it takes longer", _HEAD_TIMEOUT, _INSIDE),
    "reset_before_head": _http("resets the connection before its head", _TERMINATED, _INSIDE),
    "closed_before_head": _http("closes the connection before its head", _TERMINATED, _INSIDE),
    "cut_in_head": _http("closes the connection in the middle of its head", _TERMINATED, _INSIDE),
    "malformed_head": _http("sends what is not HTTP/1.1", _MALFORMED, _INSIDE),
    "large_head": _http("sends a head beyond `limits.max_head`", _HEAD_SIZE, _INSIDE),
    "too_many_fields_of_response": _http(
        "sends a head of more than `limits.max_fields` fields", _HEAD_SIZE, _INSIDE
    ),
    "coding_of_response": _http("uses a transfer coding other than chunked", _CODING, _INSIDE),
    "too_many_interim": _http("sends more than 16 interim responses", _MALFORMED, _INSIDE),
    "switch_unasked": _http("answers 101 to a request for no other protocol", _MALFORMED, _INSIDE),
    "reset_in_content": _http("resets the connection in the middle of its content", _INCOMPLETE, _INSIDE),
    "short_content": _http("closes before as much as its Content-Length came", _INCOMPLETE, _INSIDE),
    "no_last_chunk": _http("closes before its last chunk", _INCOMPLETE, _INSIDE),
    "bad_chunk": _http(
        "sends a chunk without a size", _cut("http_protocol_error", "failure(malformed)"), _INSIDE
    ),
    "silent_content": _http(
        "falls silent in its content for `timeouts.body_idle`",
        _cut("connection_read_timeout", "failure(truncated)"),
        _INSIDE,
    ),
    "cut_for_http_1_0": _http(
        "closes in chunked content for an HTTP/1.0 client, who would take an orderly end for the whole",
        _cut("http_response_incomplete", "failure(truncated)", End.RESET),
        _INSIDE,
    ),
    "kept_alive_repeated": _http(
        "closes a kept-alive connection without a byte, under a GET: it is sent once more",
        Cell(200, "", "", "success", keeps=True),
        _POOLED,
    ),
    "kept_alive_closed": _http(
        "closes a kept-alive connection without a byte, under a POST",
        _own(502, "connection_terminated", "neutral"),
        _POOLED,
    ),
    "upload_not_read": _http(
        "takes nothing of a long upload for `timeouts.head`",
        _closing(_own(504, "connection_write_timeout", "failure(response_timeout)")),
        _INSIDE,
    ),
}

CLIENT = {
    "slow_request_head": _anywhere(
        "takes longer than `timeouts.request_head` to send its head", _bad(408, "client_timeout")
    ),
    "slow_request_content": _http(
        "sends nothing of its content for `timeouts.body_idle`",
        _bad(408, "client_timeout")._replace(books="neutral"),
        _NO_CONTENT,
    ),
    "stops_reading": _http(
        "reads nothing of a long answer for `timeouts.body_idle`",
        _cut("http_request_error", "neutral", reason="client_timeout"),
        _INSIDE,
    ),
    "leaves_while_resolving": _anywhere("leaves after 4 s of waiting for the resolver", _left("neutral")),
    "leaves_while_connecting": _anywhere(
        "leaves after 4 s of waiting for the connection", _left("failure(abandoned)")
    ),
    "leaves_in_silence": _http(
        "leaves after 4 s of waiting for the head", _left("failure(abandoned)"), _INSIDE
    ),
    "leaves_at_once": _anywhere("leaves at once", _left("neutral")),
}

REQUEST = {
    "bad_request": _anywhere(
        "breaks the rules of HTTP/1.1 (here: two Host fields)", _bad(400, "bad_request")
    ),
    "target_too_long": _anywhere(
        "has a request-target beyond `limits.max_head`", _bad(414, "target_too_long")
    ),
    "request_head_too_large": _anywhere("has a head beyond `limits.max_head`", _bad(431, "head_too_large")),
    "request_field_too_long": _anywhere(
        "has a single field beyond `limits.max_head`", _bad(431, "head_too_large")
    ),
    "too_many_fields": _anywhere("has more than `limits.max_fields` fields", _bad(431, "head_too_large")),
    "unknown_version": _anywhere("is neither HTTP/1.0 nor HTTP/1.1", _bad(505, "unknown_version")),
    "unknown_coding": _anywhere("has a transfer coding other than chunked", _bad(501, "unknown_coding")),
    "no_token": Row(
        "gives no valid token, where `listen.credentials_file` asks for one",
        _own(407, "http_request_denied", None, "authentication_required"),
        "its routes ask nobody",
        _closing(_own(407, "http_request_denied", None, "authentication_required")),
    ),
    "origin_form": Row(
        "names no upstream: origin-form on `listen.proxy`",
        _bad(400, "not_a_proxy_request"),
        "the origin-form is what this entry takes",
        "a CONNECT without host and port is a `bad_request`",
    ),
    "no_route": Row(
        "fits no route",
        "it has no routes",
        _own(404, "destination_not_found", None, "no_route"),
        "it has no routes",
    ),
    "odd_host": _anywhere(
        "names a host that is none, or not clearly one (here: `0x7f.1`)", _bad(400, "bad_request")
    ),
    "host_denied": Row(
        "names a host that `egress.hosts` forbids",
        _denied(403, "host_denied"),
        _denied(403, "host_denied"),
        _closing(_denied(502, "host_denied")),
    ),
    "port_denied": Row(
        "is for a port that is not in `egress.connect_ports`",
        _TUNNELS_ALONE,
        _TUNNELS_ALONE,
        _closing(_denied(502, "port_denied")),
    ),
    "loop": _anywhere("has been through this proxy, as its Via says", _own(502, "proxy_loop_detected", None)),
    "max_forwards": _http(
        "is an OPTIONS with `Max-Forwards: 0`",
        _own(200, "proxy_internal_response", None, "max_forwards"),
        "the field means nothing there",
    ),
    "max_forwards_of_trace": _http(
        "is a TRACE with `Max-Forwards: 0`",
        _own(405, "proxy_internal_response", None, "max_forwards"),
        "the field means nothing there",
    ),
}

PROXY = {
    "circuit_open": _anywhere("the circuit is open", _open("circuit_open", 30)),
    "forced_open": _anywhere("an operator has opened the circuit", _open("circuit_forced_open", 60)),
    "half_open": _anywhere("the circuit is half-open, and no probe is left", _open("circuit_half_open", 1)),
    "ramping": _anywhere(
        "the circuit has closed, and calls come back in growing shares", _open("circuit_ramping", 1)
    ),
    "open_action_close": _anywhere(
        "the circuit is open, with `open_action: close`",
        Cell(End.NOTHING, "destination_unavailable", "circuit_open", None),
    ),
    "in_flight": _anywhere(
        "`circuit.max_in_flight` calls to the upstream are under way",
        _own(503, "connection_limit_reached", None, "too_many_in_flight", 1),
    ),
    "tunnels_full": Row(
        "`limits.max_tunnels` tunnels and WebSockets are open, or those that one upstream may have",
        _closing(_FULL)._replace(books="success"),
        _closing(_FULL)._replace(books="success"),
        _closing(_FULL),
    ),
    "connections_full": _anywhere(
        "`limits.max_connections` clients are connected, none of them idle",
        _closing(_FULL)._replace(books=None),
    ),
    "total_over": _http(
        "`timeouts.total` is over while the upstream owes", _HEAD_TIMEOUT, "it may take for ever"
    ),
    "total_over_for_client": _http(
        "`timeouts.total` is over while the client owes content",
        _own(504, "http_response_timeout", "neutral"),
        "it may take for ever",
    ),
    "draining": _anywhere(
        "the process ends before the answer has begun",
        _closing(_own(503, "proxy_internal_response", "neutral", "draining", 1)),
    ),
    "own_fault": _anywhere(
        "a fault of the proxy itself", _own(500, "proxy_internal_error", "neutral", "internal_error")
    ),
}

# By who acts; the names are those of the tests.
MATRIX = {
    "Before the upstream is reached": REACHING,
    "The upstream": ANSWER,
    "The client": CLIENT,
    "The request": REQUEST,
    "The proxy": PROXY,
}
