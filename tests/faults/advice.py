"""What docs/errors.md tells of each `X-Breaker-Reason`: what happened, whose fault it is, what to do."""

from typing import NamedTuple


class Advice(NamedTuple):
    """One row; each sentence goes on from the one before it in the page."""

    happened: str
    whose: str
    do: str


_UPSTREAM, _CLIENT, _PROXY = "the upstream's", "the client's", "the proxy's"
_NETWORK, _OPERATOR = "the network's or the upstream's", "an operator's"
_WAIT = "wait for `Retry-After`, then send again"
_REQUEST = "mend the client; sending again changes nothing"
_ASK_IT = "call it without the proxy (`curl --noproxy '*' -v`), and ask those who run it"

ADVICE = {
    "address_denied": Advice(
        "the address of the upstream may not be called: `detail` says which setting forbids it, or that the"
        " proxy itself listens there",
        "the client's or the configuration's",
        "if it is to be called, see [recipes](egress.md#recipes); `address` in the line `exchange ended` says"
        " which it was",
    ),
    "authentication_required": Advice(
        "the proxy asks for a token (`listen.credentials_file`); this client gave none, or a wrong one",
        _CLIENT,
        "write the name and the token into the proxy's URL; see [credentials](credentials.md)",
    ),
    "bad_request": Advice(
        "the request breaks the rules of HTTP/1.1, could be read in two ways, or names no host and port",
        _CLIENT,
        f"read `detail` in the answer; {_REQUEST}",
    ),
    "ca_not_trusted": Advice(
        "the client does not trust the proxy's CA, so its TLS with `https: intercept` came to nothing",
        _CLIENT,
        "have it trust `ca-bundle.crt` in `intercept.directory`, and see that this is the bundle of this"
        " proxy; each language has its own way, see [HTTPS](https.md#trust-the-bundle). One that pins"
        " certificates goes into `intercept.exclude`",
    ),
    "circuit_forced_open": Advice(
        "an operator has opened the circuit by hand",
        _OPERATOR,
        "look for `forced_open` in the log: its `note` says why; ask who did it",
    ),
    "circuit_half_open": Advice(
        "the upstream failed before; a few calls are trying it now, and this was one too many",
        _UPSTREAM,
        _WAIT,
    ),
    "circuit_open": Advice(
        "the upstream failed too often; this call was not sent",
        _UPSTREAM,
        f"{_WAIT}; the line `circuit changed` in the log has the `cause`: look for that here",
    ),
    "circuit_ramping": Advice(
        "the upstream works again, and calls come back in growing shares", "nobody's", _WAIT
    ),
    "client_timeout": Advice(
        "the client sent its request, or its ClientHello inside of a CONNECT, or read its answer, too slowly",
        _CLIENT,
        "look for a client that stalls, or a content shorter than its Content-Length; else raise"
        " `timeouts.request_head` or `timeouts.body_idle`",
    ),
    "client_tls_failed": Advice(
        "what the client said inside of a CONNECT with `https: intercept` is neither TLS nor HTTP/1, or its"
        " TLS failed, or it closed the connection in the TLS handshake",
        _CLIENT,
        "`details` in the log say why. One that closes in the TLS handshake may not trust the CA, and say no"
        " more than that (Node, aiohttp): see `ca_not_trusted`. If it is another protocol, put the host"
        " into `intercept.exclude`",
    ),
    "connection_read_timeout": Advice(
        "the upstream fell silent in the middle of its answer, which was cut, or did not answer through its"
        " tunnel; or a tunnel was idle",
        f"{_UPSTREAM}; of an idle tunnel nobody's",
        "if it is known to pause for longer, raise `timeouts.body_idle` for it; for the first bytes through a"
        " tunnel `timeouts.head`, for later ones `timeouts.tunnel_idle`",
    ),
    "connection_refused": Advice(
        "nothing listens at the upstream's address and port",
        _UPSTREAM,
        "check the port, that it runs, and that the name still leads to where it runs",
    ),
    "connection_terminated": Advice(
        "the upstream closed the connection before the head of its answer was whole, in its TLS handshake, or"
        " without a byte through its tunnel",
        _UPSTREAM,
        "it may have crashed, or it speaks TLS on this port, or none; the request may have been carried"
        " out. On a"
        " kept-alive connection it is chance: if it is often, lower `timeouts.upstream_idle` below the time"
        " after which the upstream closes",
    ),
    "connection_timeout": Advice(
        "the upstream did not accept the connection, or did not finish its TLS handshake, in time",
        _NETWORK,
        "check the route and the firewalls in between, and whether it is overloaded; else raise"
        " `timeouts.connect` or `timeouts.tls`",
    ),
    "connection_write_timeout": Advice(
        "the upstream took none of the content for too long", _UPSTREAM, f"it hangs: {_ASK_IT}"
    ),
    "destination_ip_unroutable": Advice(
        "no way leads from here to the upstream's address",
        _NETWORK,
        "check the routes of this machine or Pod, and that the address is meant to be reached from here",
    ),
    "dns_error": Advice(
        "the name does not exist (this counts against the upstream), or the resolver failed (this does not)",
        "`detail` says which: the name's, or the resolver's",
        "look the name up from this machine or Pod; check its spelling and `dns.servers`",
    ),
    "dns_timeout": Advice(
        "the resolver did not answer in time",
        "the resolver's",
        "check the resolver, and that this machine or Pod reaches it (`dns.servers`, /etc/resolv.conf)",
    ),
    "draining": Advice(
        "the proxy was ending, and `drain.timeout` was over before the answer had begun",
        _PROXY,
        "send again: the request may have been carried out; if it is often, raise `drain.timeout`",
    ),
    "head_too_large": Advice(
        "the head of the request is too large, or has too many fields",
        _CLIENT,
        "send fewer or shorter fields (cookies?), or raise `limits.max_head` or `limits.max_fields`",
    ),
    "http_protocol_error": Advice(
        "what the upstream sent is not HTTP/1.1",
        _UPSTREAM,
        f"check that the port speaks HTTP, and no TLS; {_ASK_IT}",
    ),
    "http_response_header_section_size": Advice(
        "the head of the upstream's answer is too large, or has too many fields",
        _UPSTREAM,
        "raise `limits.max_head` or `limits.max_fields`, if it has to be so large",
    ),
    "http_response_incomplete": Advice(
        "the upstream closed in the middle of its answer, which was cut", _UPSTREAM, _ASK_IT
    ),
    "http_response_timeout": Advice(
        "the head of the upstream's answer did not come in time, or `timeouts.total` was over",
        f"{_UPSTREAM}; with `timeouts.total`, that of whoever was waited for",
        "the request may have been carried out. If it is known to be slow, raise `timeouts.head` for it",
    ),
    "http_response_transfer_coding": Advice(
        "the upstream's answer has a transfer coding other than chunked", _UPSTREAM, _ASK_IT
    ),
    "host_denied": Advice(
        "`egress.hosts` does not let this host be called; `detail` says which list",
        "the client's or the configuration's",
        "if it may be called, change that list; see [egress](egress.md#order)",
    ),
    "internal_error": Advice(
        "the proxy has a bug", _PROXY, "report it, with the lines of the log around `fault in an exchange`"
    ),
    "local_limit": Advice(
        "the proxy has as many connections, tunnels or descriptors as it may, or resolves as many names at"
        " once (in all, or of one domain): `detail` says which",
        _PROXY,
        "look for a client that opens too many, or calls very many names; else raise"
        " `limits.max_connections`, `limits.max_tunnels`, or the limit on descriptors (`ulimit -n`);"
        " where it is names, see whether the resolver (`dns.servers`), or their name server, keeps silent",
    ),
    "max_forwards": Advice(
        "an OPTIONS or a TRACE was to come as far as this proxy: a TRACE is not answered by reflecting it",
        "nobody's",
        "nothing; `Max-Forwards` says how far a request may go",
    ),
    "misdirected_request": Advice(
        "a request inside of a CONNECT is for another host or port than that; or its TLS (SNI) asked for"
        " another"
        " host",
        _CLIENT,
        "send each request by a CONNECT for its own host; look for a client that shares connections between"
        " hosts, or sets `Host` or the server name by itself",
    ),
    "no_route": Advice(
        "no entry of `routes:` fits the host and the path",
        "the client's or the configuration's",
        "compare both with `routes:`; prefixes match whole segments of a path, byte by byte",
    ),
    "not_a_proxy_request": Advice(
        "a request for the proxy itself came to its proxy port",
        _CLIENT,
        "set `HTTP_PROXY` to the proxy's address, instead of calling it like a server; metrics and health are"
        " on `listen.admin`, routes on `listen.reverse`",
    ),
    "port_denied": Advice(
        "`egress.connect_ports` does not let a tunnel lead to this port",
        "the client's or the configuration's",
        "if it may be called, add the port there; see [egress](egress.md#order)",
    ),
    "proxy_loop_detected": Advice(
        "the request has been through this proxy before",
        "the configuration's",
        "the upstream sends it back here: look for `HTTP_PROXY` in the upstream's own environment, and for"
        " two proxies with the same `name`",
    ),
    "sni_denied": Advice(
        "the TLS inside of a tunnel asks (SNI) for another host than its CONNECT, and `egress.sni` is"
        " `enforce`",
        "the client's or the configuration's",
        "send it by a CONNECT for that host; `server_name` in the line `exchange ended` says which it is",
    ),
    "target_too_long": Advice(
        "the URL is too long", _CLIENT, "shorten it, send its data as content, or raise `limits.max_head`"
    ),
    "tls_alert_received": Advice(
        "the upstream ended the TLS handshake with an alert, whose name `detail` tells; through a tunnel the"
        " client has got it, too",
        "the upstream's or the configuration's",
        "if it wants a certificate of its clients, set `tls.client_cert` for it, or put it into"
        " `intercept.exclude`, so that the client shows its own; with `unrecognized_name` see"
        " `tls.server_name`",
    ),
    "tls_certificate_error": Advice(
        "the certificate of the upstream has expired, is for another name, or is signed by nobody who is"
        " trusted; `detail` says which",
        "the upstream's or the configuration's",
        "if it has a CA of its own, name that in `tls.ca` for it; if it is called by another name than its"
        " own,"
        " set `tls.server_name`. Verification cannot be switched off",
    ),
    "tls_protocol_error": Advice(
        "TLS with the upstream failed: it speaks none on this port, or no version from `tls.min_version` on",
        "the upstream's or the configuration's",
        "check the port, and whether it speaks TLS there (`openssl s_client -connect HOST:PORT`)",
    ),
    "too_many_in_flight": Advice(
        "as many calls to this upstream are under way as may be",
        f"{_UPSTREAM}, if it has become slow",
        f"{_WAIT}; if it can take more, raise `circuit.max_in_flight`",
    ),
    "unknown_coding": Advice("the request has a transfer coding other than chunked", _CLIENT, _REQUEST),
    "unknown_version": Advice("the request is neither HTTP/1.0 nor HTTP/1.1", _CLIENT, _REQUEST),
}
