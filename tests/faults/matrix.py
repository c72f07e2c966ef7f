"""The fault matrix (design section 10): what each fault does, by each way into the proxy. Data alone.

`test_matrix.py` provokes every cell; `document.py` makes docs/errors.md of the same table. The values are
written out and not taken from the product, so that a change there has to be made here as well.
"""

from faults.rows import (
    AT_CONNECT,
    NO_TUNNEL,
    Cell,
    End,
    Row,
    anywhere,
    bad,
    by_rule,
    closed,
    closing,
    cut,
    denied,
    http,
    intercepted,
    left,
    own,
    refused_inside,
    refused_now,
    tunnel,
)

_JUDGED = "its client shakes hands with the upstream, and the proxy passes that on"
_INSIDE = "all that follows its 200 is bytes to the proxy"
_NO_CONTENT = "CONNECT has no content"
_POOLED = "it never takes a kept-alive connection"
_TUNNELS_ALONE = "the setting is for tunnels alone"

_REFUSED = own(502, "connection_refused", "failure(refused)")
_UNREACHABLE = own(502, "destination_ip_unroutable", "failure(unreachable)")
_CONNECT_TIMEOUT = own(504, "connection_timeout", "failure(connect_timeout)")
_HEAD_TIMEOUT = own(504, "http_response_timeout", "failure(response_timeout)")
_TERMINATED = own(502, "connection_terminated", "failure(reset)")
_MALFORMED = own(502, "http_protocol_error", "failure(malformed)")
_HEAD_SIZE = own(502, "http_response_header_section_size", "failure(malformed)")
_CODING = own(502, "http_response_transfer_coding", "failure(malformed)")
_INCOMPLETE = cut("http_response_incomplete", "failure(truncated)")
_CERTIFICATE = own(502, "tls_certificate_error", "failure(tls)")
_TLS_PROTOCOL = own(502, "tls_protocol_error", "failure(tls)")
_ALERT = own(502, "tls_alert_received", "failure(tls)")
_TERMINATED_IN_TLS = own(502, "connection_terminated", "failure(tls)")
_TUNNEL_TERMINATED = closed("connection_terminated", "failure(tunnel)")
_TUNNEL_SILENT = closed("connection_read_timeout", "failure(tunnel)")
_FULL = own(503, "connection_limit_reached", "neutral", "local_limit", 1)
# Rules come before admission; of a name the address is not known before.
_ADDRESS = own(502, "destination_ip_prohibited", None, "address_denied")


REACHING = {
    "refused": anywhere("nothing listens at the upstream's address", _REFUSED),
    "unreachable": anywhere("no way leads to the upstream's address", _UNREACHABLE),
    "connect_timeout": anywhere(
        "the upstream does not accept the connection within `timeouts.connect`", _CONNECT_TIMEOUT
    ),
    "no_such_name": anywhere("the name does not exist (NXDOMAIN)", own(502, "dns_error", "failure(dns)")),
    "resolver_fails": anywhere("the resolver fails (SERVFAIL)", own(502, "dns_error", "neutral")),
    "resolver_silent": anywhere(
        "the resolver does not answer within `timeouts.dns`", own(504, "dns_timeout", "neutral")
    ),
    "address_denied": by_rule("`egress` forbids the address in the URL or in the route", _ADDRESS),
    "addresses_of_name_denied": anywhere(
        "the name leads only to addresses that `egress` forbids", _ADDRESS._replace(books="neutral")
    ),
    "own_listener": by_rule(
        "the address is a listener of the proxy itself, and `egress` permits it", _ADDRESS
    ),
    "no_descriptor": anywhere("the proxy has no descriptor left for a connection", _FULL),
}

ANSWER = {
    "silent": http("accepts, and sends no head within `timeouts.head`", _HEAD_TIMEOUT, _INSIDE),
    "slow_head": http("sends its head so slowly that it takes longer", _HEAD_TIMEOUT, _INSIDE),
    "reset_before_head": http("resets the connection before its head", _TERMINATED, _INSIDE),
    "closed_before_head": http("closes the connection before its head", _TERMINATED, _INSIDE),
    "cut_in_head": http("closes the connection in the middle of its head", _TERMINATED, _INSIDE),
    "malformed_head": http("sends what is not HTTP/1.1", _MALFORMED, _INSIDE),
    "large_head": http("sends a head beyond `limits.max_head`", _HEAD_SIZE, _INSIDE),
    "too_many_fields_of_response": http(
        "sends a head of more than `limits.max_fields` fields", _HEAD_SIZE, _INSIDE
    ),
    "coding_of_response": http("uses a transfer coding other than chunked", _CODING, _INSIDE),
    "too_many_interim": http("sends more than 16 interim responses", _MALFORMED, _INSIDE),
    "switch_unasked": http("answers 101 to a request for no other protocol", _MALFORMED, _INSIDE),
    "reset_in_content": http("resets the connection in the middle of its content", _INCOMPLETE, _INSIDE),
    "short_content": http("closes before as much as its Content-Length came", _INCOMPLETE, _INSIDE),
    "no_last_chunk": http("closes before its last chunk", _INCOMPLETE, _INSIDE),
    "bad_chunk": http(
        "sends a chunk without a size", cut("http_protocol_error", "failure(malformed)"), _INSIDE
    ),
    "silent_content": http(
        "falls silent in its content for `timeouts.body_idle`",
        cut("connection_read_timeout", "failure(truncated)"),
        _INSIDE,
    ),
    "cut_for_http_1_0": http(
        "closes in chunked content for an HTTP/1.0 client, who would take an orderly end for the whole",
        cut("http_response_incomplete", "failure(truncated)", End.RESET),
        _INSIDE,
    ),
    "kept_alive_repeated": http(
        "closes a kept-alive connection without a byte, under a GET: it is sent once more",
        Cell(200, "", "", "success", keeps=True),
        _POOLED,
    ),
    "kept_alive_closed": http(
        "closes a kept-alive connection without a byte, under a POST",
        own(502, "connection_terminated", "neutral"),
        _POOLED,
    ),
    "upload_not_read": http(
        "takes nothing of a long upload for `timeouts.head`",
        closing(own(504, "connection_write_timeout", "failure(response_timeout)")),
        _INSIDE,
    ),
}

TLS = {
    "certificate_expired": http("shows a certificate that has expired", _CERTIFICATE, _JUDGED),
    "certificate_self_signed": http("shows a certificate that is self-signed", _CERTIFICATE, _JUDGED),
    "certificate_of_unknown_ca": http(
        "shows a certificate of a CA that is not trusted", _CERTIFICATE, _JUDGED
    ),
    "certificate_for_another": http("shows a certificate for another name", _CERTIFICATE, _JUDGED),
    "old_version": http("speaks no version of TLS from `tls.min_version` on", _TLS_PROTOCOL, _JUDGED),
    "no_tls": http(
        "does not speak TLS on this port, but answers in HTTP",
        _TLS_PROTOCOL,
        "any answer shows that it works",
    ),
    "wants_certificate": http(
        "wants a certificate of its client (TLS 1.2), and `tls.client_cert` names none", _ALERT, _JUDGED
    ),
    "wants_certificate_late": http(
        "wants a certificate of its client (TLS 1.3, which tells it behind the handshake)", _ALERT, _JUDGED
    ),
    "alert": http(
        "answers the ClientHello with a fatal alert",
        _ALERT,
        closed("tls_alert_received", "failure(tls)"),
    ),
    "closed_in_tls": http(
        "closes the connection in the TLS handshake", _TERMINATED_IN_TLS, _TUNNEL_TERMINATED
    ),
    "reset_in_tls": http(
        "resets the connection in the TLS handshake", _TERMINATED_IN_TLS, _TUNNEL_TERMINATED
    ),
    "silent_tls": http(
        "does not answer the ClientHello within `timeouts.tls`; in a tunnel, within `timeouts.head`",
        own(504, "connection_timeout", "failure(tls)"),
        _TUNNEL_SILENT,
    ),
    "leaves_in_silent_tls": http(
        "does not answer the ClientHello, and its client leaves after 4 s",
        left("failure(abandoned)"),
        left("failure(abandoned)"),
    ),
    "cut_without_close_notify": http(
        "closes in content that its close ends, without the close_notify that tells that from a cut",
        _INCOMPLETE,
        _INSIDE,
    ),
}

IN_TUNNEL = {
    "tunnel_silent": tunnel("says nothing to its client within `timeouts.head`", _TUNNEL_SILENT),
    "tunnel_closed": tunnel("closes without a byte, though its client has spoken", _TUNNEL_TERMINATED),
    "tunnel_closed_at_once": tunnel(
        "closes without a byte within `circuit.abandoned_after` of the 200", _TUNNEL_TERMINATED
    ),
    "tunnel_closed_later": tunnel(
        "closes later without a byte, and its client has not spoken",
        closed("connection_terminated", "neutral"),
    ),
    "tunnel_idle": tunnel(
        "is as silent as its client for `timeouts.tunnel_idle`",
        closed("connection_read_timeout", "neutral"),
    ),
    "tunnel_reset": tunnel(
        "resets the connection after it has spoken", closed("http_response_incomplete", "success")
    ),
}

CLIENT = {
    "slow_request_head": anywhere(
        "takes longer than `timeouts.request_head` to send its head", bad(408, "client_timeout")
    ),
    "slow_request_content": http(
        "sends nothing of its content for `timeouts.body_idle`",
        bad(408, "client_timeout")._replace(books="neutral"),
        _NO_CONTENT,
    ),
    "stops_reading": http(
        "reads nothing of a long answer for `timeouts.body_idle`",
        cut("http_request_error", "neutral", reason="client_timeout"),
        _INSIDE,
    ),
    "leaves_while_resolving": anywhere("leaves after 4 s of waiting for the resolver", left("neutral")),
    "leaves_while_connecting": anywhere(
        "leaves after 4 s of waiting for the connection", left("failure(abandoned)")
    ),
    "leaves_in_silence": http(
        "leaves after 4 s of waiting for the head", left("failure(abandoned)"), _INSIDE
    ),
    "leaves_at_once": anywhere("leaves at once", left("neutral")),
}

INSIDE = {
    "ca_not_trusted": intercepted("does not trust the proxy's CA", refused_inside("ca_not_trusted"), _JUDGED),
    "not_tls": intercepted(
        "speaks neither TLS nor HTTP/1", refused_inside("client_tls_failed"), "anything passes through it"
    ),
    "slow_hello": intercepted(
        "takes longer than `timeouts.request_head` for its ClientHello",
        refused_inside("client_timeout"),
        refused_inside("client_timeout")._replace(books="neutral"),
    ),
    "leaves_before_tls": intercepted(
        "leaves before its TLS stands", Cell(End.LEFT, "", "", None), "that is a client that leaves at once"
    ),
    "no_http_1_1": intercepted(
        "offers no http/1.1 in its TLS, so that it gets a tunnel, whose upstream is not there",
        closed("connection_refused", "failure(refused)"),
        "without interception, the upstream is called before the 200",
    ),
    "no_http_1_1_and_open": intercepted(
        "offers no http/1.1 in its TLS, so that it gets a tunnel, whose circuit is open",
        closed("destination_unavailable", None, "circuit_open"),
        "without interception, the circuit is asked before the 200",
    ),
    "server_name_differs": intercepted(
        "asks in its TLS (SNI) for another host than in its CONNECT",
        bad(421, "misdirected_request"),
        "it passes, but for `egress.sni: enforce`",
    ),
    "server_name_denied": Row(
        "asks in its TLS (SNI) for another host, with `egress.sni: enforce`",
        NO_TUNNEL,
        NO_TUNNEL,
        "each of its requests gets 421",
        closed("http_request_denied", "neutral", "sni_denied"),
    ),
    "authority_differs": intercepted(
        "sends a request for another host or port than its CONNECT",
        bad(421, "misdirected_request"),
        "nobody sees its requests, unless they are plain HTTP: then the same",
    ),
    "connect_inside": intercepted(
        "sends a CONNECT inside of its CONNECT",
        bad(400, "bad_request"),
        "nobody sees its requests, unless they are plain HTTP: then the same",
    ),
}

REQUEST = {
    "bad_request": anywhere("breaks the rules of HTTP/1.1 (here: two Host fields)", bad(400, "bad_request")),
    "target_too_long": anywhere("has a request-target beyond `limits.max_head`", bad(414, "target_too_long")),
    "request_head_too_large": anywhere("has a head beyond `limits.max_head`", bad(431, "head_too_large")),
    "request_field_too_long": anywhere(
        "has a single field beyond `limits.max_head`", bad(431, "head_too_large")
    ),
    "too_many_fields": anywhere("has more than `limits.max_fields` fields", bad(431, "head_too_large")),
    "unknown_version": anywhere("is neither HTTP/1.0 nor HTTP/1.1", bad(505, "unknown_version")),
    "unknown_coding": anywhere("has a transfer coding other than chunked", bad(501, "unknown_coding")),
    "no_token": Row(
        "gives no valid token, where `listen.credentials_file` asks for one",
        own(407, "http_request_denied", None, "authentication_required"),
        "its routes ask nobody",
        AT_CONNECT,
        closing(own(407, "http_request_denied", None, "authentication_required")),
    ),
    "origin_form": Row(
        "names no upstream: origin-form on `listen.proxy`",
        bad(400, "not_a_proxy_request"),
        "the origin-form is what this entry takes",
        "the origin-form is what this entry takes",
        "a CONNECT without host and port is a `bad_request`",
    ),
    "no_route": Row(
        "fits no route",
        "it has no routes",
        own(404, "destination_not_found", None, "no_route"),
        "it has no routes",
        "it has no routes",
    ),
    "odd_host": anywhere(
        "names a host that is none, or not clearly one (here: `0x7f.1`)", bad(400, "bad_request")
    ),
    "host_denied": Row(
        "names a host that `egress.hosts` forbids",
        denied(403, "host_denied"),
        denied(403, "host_denied"),
        AT_CONNECT,
        closing(denied(502, "host_denied")),
    ),
    "port_denied": Row(
        "is for a port that is not in `egress.connect_ports`",
        _TUNNELS_ALONE,
        _TUNNELS_ALONE,
        AT_CONNECT,
        closing(denied(502, "port_denied")),
    ),
    "loop": anywhere("has been through this proxy, as its Via says", own(502, "proxy_loop_detected", None)),
    "max_forwards": http(
        "is an OPTIONS with `Max-Forwards: 0`",
        own(200, "proxy_internal_response", None, "max_forwards"),
        "the field means nothing there",
    ),
    "max_forwards_of_trace": http(
        "is a TRACE with `Max-Forwards: 0`",
        own(405, "proxy_internal_response", None, "max_forwards"),
        "the field means nothing there",
    ),
}

PROXY = {
    "circuit_open": anywhere("the circuit is open", refused_now("circuit_open", 30)),
    "forced_open": anywhere("an operator has opened the circuit", refused_now("circuit_forced_open", 60)),
    "half_open": anywhere(
        "the circuit is half-open, and no probe is left", refused_now("circuit_half_open", 1)
    ),
    "ramping": anywhere(
        "the circuit has closed, and calls come back in growing shares", refused_now("circuit_ramping", 1)
    ),
    "open_action_close": anywhere(
        "the circuit is open, with `open_action: close`",
        Cell(End.NOTHING, "destination_unavailable", "circuit_open", None),
    ),
    "in_flight": anywhere(
        "`circuit.max_in_flight` calls to the upstream are under way",
        own(503, "connection_limit_reached", None, "too_many_in_flight", 1),
    ),
    "tunnels_full": Row(
        "`limits.max_tunnels` tunnels and WebSockets are open, or those that one upstream may have",
        closing(_FULL)._replace(books="success"),
        closing(_FULL)._replace(books="success"),
        closing(_FULL)._replace(books="success"),
        closing(_FULL),
    ),
    "connections_full": Row(
        "`limits.max_connections` clients are connected, none of them idle",
        closing(_FULL)._replace(books=None),
        closing(_FULL)._replace(books=None),
        "its client is turned away before its CONNECT",
        closing(_FULL)._replace(books=None),
    ),
    "total_over": http(
        "`timeouts.total` is over while the upstream owes", _HEAD_TIMEOUT, "it may take for ever"
    ),
    "total_over_for_client": http(
        "`timeouts.total` is over while the client owes content",
        own(504, "http_response_timeout", "neutral"),
        "it may take for ever",
    ),
    "draining": anywhere(
        "the process ends before the answer has begun",
        closing(own(503, "proxy_internal_response", "neutral", "draining", 1)),
    ),
    "own_fault": anywhere(
        "a fault of the proxy itself", own(500, "proxy_internal_error", "neutral", "internal_error")
    ),
}

# By who acts; the names are those of the tests.
MATRIX = {
    "Before the upstream is reached": REACHING,
    "The upstream": ANSWER,
    "The upstream's TLS": TLS,
    "The upstream's end of a tunnel": IN_TUNNEL,
    "The client": CLIENT,
    "The client inside of its CONNECT": INSIDE,
    "The request": REQUEST,
    "The proxy": PROXY,
}
