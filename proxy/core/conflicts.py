"""Settings that are each well-formed, and together cannot be used."""

import re
from collections.abc import Iterator

from proxy.core.address import canonical
from proxy.core.defer import Defer
from proxy.core.escalation import longest_s
from proxy.core.fallback import DeferOrder, FallbackOn, RedirectUrl
from proxy.core.host import normalised
from proxy.core.https import HttpsMode, Tls
from proxy.core.policy import LEASE_MARGIN_S, CircuitPolicy, Dns, Limits, Listen, Settings, Timeouts, Upstream

_HTTP = 80
# Of RFC 9110 section 9.1 the spelling that is in use; a CONNECT has no content to keep.
_METHOD = re.compile(r"(?!CONNECT\Z)[A-Z][A-Z0-9-]{0,31}")
# The part of a token (RFC 9110 section 5.6.2) that also begins a Structured Fields token.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong with them, as (key, what is wrong and what to do)."""
    yield from _listen_conflicts(settings.listen)
    yield from _dns_conflicts(settings.dns)
    for index, pattern in enumerate(settings.admin.hosts):
        if pattern.host == "*":
            # Any page on the web could have its own name lead here.
            yield f"admin.hosts[{index}]", "expected the names that you use, not all there are"
    if settings.name is not None and not _NAME.fullmatch(settings.name):
        expected = "a letter, then up to 63 letters, digits, '.', '_' or '-'"
        yield "name", f"expected {expected} (it stands in Via and Proxy-Status)"
    if settings.listen.reverse is not None and not settings.routes:
        yield "listen.reverse", "no routes: say under routes: which upstream gets what"
    if settings.routes and settings.listen.reverse is None:
        yield "routes", "nobody listens for them: set listen.reverse to an address such as 127.0.0.1:3130"
    yield from _https_conflicts(settings)
    yield from _fallback_conflicts(settings)
    general = list(_circuit_conflicts("", settings.circuit, settings.timeouts, settings.limits))
    yield from general
    told = {wrong for _, wrong in general}
    for index, upstream in enumerate(settings.upstreams):
        circuit = upstream.circuit.onto(settings.circuit)
        timeouts = upstream.timeouts.onto(settings.timeouts)
        for key, wrong in _circuit_conflicts(f"upstreams[{index}].", circuit, timeouts, settings.limits):
            # What is wrong everywhere is told once; here is what this entry makes wrong.
            if wrong not in told:
                yield key, wrong


def _https_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    intercept = settings.intercept
    if intercept.private_directory is not None and intercept.ephemeral:
        yield (
            "intercept.ephemeral",
            "a CA in intercept.private_directory is not ephemeral: choose one of both",
        )
    for index, upstream in enumerate(settings.upstreams):
        key = f"upstreams[{index}]"
        if upstream.https is HttpsMode.INTERCEPT and not (intercept.private_directory or intercept.ephemeral):
            advice = (
                "set intercept.private_directory, or intercept.ephemeral: true for a new CA at each start"
            )
            yield f"{key}.https", f"a CA is needed, and nothing says where its key is kept: {advice}"
        if upstream.https is HttpsMode.ORIGINATE and upstream.match.port == _HTTP and upstream.tls.values:
            # Otherwise they would be ignored, and nobody told.
            yield f"{key}.tls", "port 80 becomes 443, so no TLS is spoken to 80: leave the port out of match"
        tls = upstream.tls.onto(Tls())
        if tls.client_key is not None and tls.client_cert is None:
            yield f"{key}.tls.client_key", "the certificate of this key is missing: set tls.client_cert"
        if tls.server_name is not None and not _is_host(tls.server_name):
            yield f"{key}.tls.server_name", "expected the name of a host, such as api.example.com"


def _fallback_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    for index, method in enumerate(settings.defer.methods):
        if not _METHOD.fullmatch(method):
            yield f"defer.methods[{index}]", "expected a method in capitals, such as POST, and not CONNECT"
    for index, upstream in enumerate(settings.upstreams):
        for key, wrong in _conflicts_of_fallback(upstream, settings.defer):
            yield f"upstreams[{index}].fallback.{key}", wrong


def _conflicts_of_fallback(upstream: Upstream, defer: Defer) -> Iterator[tuple[str, str]]:
    fallback = upstream.fallback
    if fallback.redirect is None:
        if fallback.internal:
            yield "internal", "there is no redirect that could lead inside"
        if fallback.on is not FallbackOn.REFUSAL:
            yield "on", "only a redirect can follow a failed attempt: set fallback.redirect"
    elif fallback.defer:
        yield "defer", "a request is either redirected or kept for later: choose one of both"
    elif not fallback.internal and _leads_to(fallback.redirect, upstream):
        yield "redirect", "this upstream is the one that is refused then: expected another"
    if fallback.defer and defer.path is None:
        yield "defer", "nothing says where requests are kept: set defer.path to a file"
    if fallback.order is not DeferOrder.LOOSE and not fallback.defer:
        yield "order", "there is no order without fallback.defer: true"


def doubts(settings: Settings) -> Iterator[tuple[str, str]]:
    """What can be used, and may not do what is expected of it: as (key, what to know)."""
    for index, upstream in enumerate(settings.upstreams):
        if upstream.fallback.defer and upstream.https is HttpsMode.TUNNEL:
            yield (
                f"upstreams[{index}].fallback.defer",
                "HTTPS passes in tunnels, and is not kept without https: intercept or originate",
            )


def _leads_to(redirect: RedirectUrl, upstream: Upstream) -> bool:
    return upstream.match.matches(redirect.origin.host, redirect.origin.port)


def _is_host(name: str) -> bool:
    try:
        return normalised(name) == name.lower()
    except ValueError:
        return False


def _dns_conflicts(dns: Dns) -> Iterator[tuple[str, str]]:
    for index, server in enumerate(dns.servers):
        if not _is_address(server.host) or not server.port:
            yield f"dns.servers[{index}]", f"expected an IP address with its port, got {server}"
    if dns.ttl_max < dns.ttl_min:
        yield "dns.ttl_max", f"expected at least dns.ttl_min ({dns.ttl_min:g} s)"


def _is_address(host: str) -> bool:
    try:
        canonical(host)
    except ValueError:
        return False
    return "%" not in host


def _listen_conflicts(listen: Listen) -> Iterator[tuple[str, str]]:
    if listen.proxy.is_loopback or listen.open_relay or listen.credentials_file is not None:
        return
    wrong = f"{listen.proxy} can be reached from other machines, and anyone there could use the proxy"
    advice = "listen on loopback, ask for tokens (listen.credentials_file), or set listen.open_relay: true"
    yield "listen.proxy", f"{wrong}; {advice}"


def _circuit_conflicts(
    prefix: str, circuit: CircuitPolicy, timeouts: Timeouts, limits: Limits
) -> Iterator[tuple[str, str]]:
    if circuit.open_max < circuit.open:
        yield f"{prefix}circuit.open_max", f"expected at least circuit.open ({circuit.open:g} s)"
    if circuit.probe_lease is not None and circuit.probe_lease < timeouts.lease_s:
        parts = f"timeouts.dns, connect, tls and head and {LEASE_MARGIN_S:g} s"
        why = "a shorter lease would fail probes that are within their timeouts"
        yield f"{prefix}circuit.probe_lease", f"expected at least {timeouts.lease_s:g} s ({parts}): {why}"
    longest_open_s = longest_s(circuit)
    if limits.circuit_idle <= longest_open_s:
        key = f"{prefix}circuit.open_max" if prefix else "limits.circuit_idle"
        least = f"circuit.open_max x (1 + circuit.open_jitter), {longest_open_s:g} s"
        yield key, f"limits.circuit_idle ({limits.circuit_idle:g} s) must exceed {least}"
