"""Settings that are each well-formed, and together cannot be used."""

import re
from collections.abc import Iterator

from proxy.core.address import canonical
from proxy.core.policy import LEASE_MARGIN_S, CircuitPolicy, Dns, Limits, Listen, Settings, Timeouts

# The part of a token (RFC 9110 section 5.6.2) that also begins a Structured Fields token.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong with them, as (key, what is wrong and what to do)."""
    yield from _listen_conflicts(settings.listen)
    yield from _dns_conflicts(settings.dns)
    if settings.name is not None and not _NAME.fullmatch(settings.name):
        expected = "a letter, then up to 63 letters, digits, '.', '_' or '-'"
        yield "name", f"expected {expected} (it stands in Via and Proxy-Status)"
    if settings.listen.reverse is not None and not settings.routes:
        yield "listen.reverse", "no routes: say under routes: which upstream gets what"
    if settings.routes and settings.listen.reverse is None:
        yield "routes", "nobody listens for them: set listen.reverse to an address such as 127.0.0.1:3130"
    for index, route in enumerate(settings.routes):
        if route.upstream.scheme != "http":
            yield f"routes[{index}].upstream", "this version speaks only http:// to the upstream of a route"
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
    longest_open_s = circuit.open_max * (1 + circuit.open_jitter)
    if limits.circuit_idle <= longest_open_s:
        key = f"{prefix}circuit.open_max" if prefix else "limits.circuit_idle"
        least = f"circuit.open_max x (1 + circuit.open_jitter), {longest_open_s:g} s"
        yield key, f"limits.circuit_idle ({limits.circuit_idle:g} s) must exceed {least}"
