"""What /metrics says after real exchanges; the circuits are in test_circuit_metrics.py."""

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.circuits import BY_PATH, Rig, policy
from support.exchanges import ended
from support.metrics import families, flat, metrics_of, nonzero, own, samples

from proxy import __version__
from proxy.control.metrics import Metrics, Snapshot
from proxy.core import errors
from proxy.core.answers import Lookup
from proxy.core.exchange import Awaited, Entry, Source
from proxy.core.outcome import FailureKind
from proxy.core.refusals import REJECTION_REASONS
from proxy.core.states import Condition
from proxy.core.target import Target, from_absolute_form

# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
OPENMETRICS = "application/openmetrics-text"
RULES = ("host_denied", "port_denied", "sni_denied")
DENIALS = (
    *RULES,
    "address_denied",
    "authentication_required",
    "bad_request",
    "ca_not_trusted",
    "client_timeout",
    "client_tls_failed",
    "head_too_large",
    "local_limit",
    "misdirected_request",
    "no_route",
    "not_a_proxy_request",
    "proxy_loop_detected",
    "target_too_long",
    "unknown_coding",
    "unknown_version",
)


# The entries whose exchanges have a length that says something.
TIMED = ("forward", "reverse", "intercepted", "deferred")


def opened(host: str = "a:80") -> Rig:
    rig = Rig(policy(key=BY_PATH))
    rig.fail(5, 0.0, host)
    return rig


@pytest.mark.parametrize(
    ("entry", "status", "source", "expected"),
    [
        (Entry.FORWARD, 200, Source.UPSTREAM, "code_class=2xx,entry=forward,source=upstream"),
        (Entry.FORWARD, 101, Source.UPSTREAM, "code_class=1xx,entry=forward,source=upstream"),
        (Entry.FORWARD, 599, Source.UPSTREAM, "code_class=5xx,entry=forward,source=upstream"),
        (Entry.FORWARD, 999, Source.UPSTREAM, "code_class=9xx,entry=forward,source=upstream"),
        (Entry.FORWARD, 503, Source.PROXY, "code_class=5xx,entry=forward,source=proxy"),
        (Entry.FORWARD, None, Source.PROXY, "code_class=none,entry=forward,source=proxy"),
        (Entry.TUNNEL, 200, Source.PROXY, "code_class=2xx,entry=tunnel,source=proxy"),
        (Entry.INTERCEPTED, 500, Source.UPSTREAM, "code_class=5xx,entry=intercepted,source=upstream"),
    ],
)
def test_an_exchange_is_counted_by_entry_class_and_source(
    entry: Entry, status: int | None, source: Source, expected: str
) -> None:
    metrics = metrics_of()
    metrics.observe(ended(entry, "GET", 1.0, status=status, source=source), 2.0)
    assert nonzero(samples(metrics), "requests_total") == {f"requests_total{{{expected}}}": 1}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.HttpRequestDenied("a", reason="host_denied"), "host_denied"),
        (errors.HttpRequestDenied("a", reason="port_denied"), "port_denied"),
        (errors.DestinationIpProhibited("a"), "address_denied"),
        (errors.AuthenticationRequired("a"), "authentication_required"),
        (errors.DestinationNotFound("a"), "no_route"),
        (errors.ProxyLoopDetected("a"), "proxy_loop_detected"),
        (errors.HttpRequestError("a"), "bad_request"),
        (errors.LocalLimit("a"), "local_limit"),
        (errors.MisdirectedRequest("a"), "misdirected_request"),
        (errors.ClientTlsFailed("a"), "client_tls_failed"),
        (errors.CaNotTrusted("a"), "ca_not_trusted"),
    ],
)
@pytest.mark.parametrize("entry", list(Entry))
def test_what_is_denied_is_counted_by_its_reason(entry: Entry, error: errors.ProxyError, reason: str) -> None:
    metrics = metrics_of()
    for _ in range(2):
        metrics.observe(ended(entry, "GET", 0.0, status=error.status, error=error), 1.0)
    counted = {f"denied_total{{enforced=true,reason={reason}}}": 2}
    assert nonzero(samples(metrics), "denied_total") == counted


def test_what_rules_would_have_denied_is_counted_apart() -> None:
    metrics = metrics_of()
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200, unenforced="host_denied"), 1.0)
    error = errors.DestinationIpProhibited("a")
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=502, unenforced="host_denied", error=error), 1.0)
    assert nonzero(samples(metrics), "denied_total") == {
        "denied_total{enforced=false,reason=host_denied}": 2,
        "denied_total{enforced=true,reason=address_denied}": 1,
    }


@pytest.mark.parametrize(
    "error",
    [
        None,
        errors.DestinationUnavailable("open"),
        errors.ConnectionLimitReached("full"),
        errors.DnsError("a"),
    ],
)
def test_what_fails_or_is_full_is_not_denied(error: errors.ProxyError | None) -> None:
    metrics = metrics_of()
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=502, error=error), 1.0)
    assert nonzero(samples(metrics), "denied_total") == {}


def test_what_went_elsewhere_is_counted_by_how_and_why() -> None:
    metrics = metrics_of()
    inbox = Target("http", "a", 80, "/", "a")
    away = ended(Entry.FORWARD, "POST", status=200, fell_back_for="circuit_open", original=inbox)
    metrics.observe(away, 1.0)
    metrics.observe(ended(Entry.FORWARD, "POST", status=202, fell_back_for="circuit_ramping"), 1.0)
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    assert nonzero(samples(metrics), "fallbacks_total") == {
        "fallbacks_total{fallback=redirect,reason=circuit_open}": 1,
        "fallbacks_total{fallback=defer,reason=circuit_ramping}": 1,
    }


def test_content_is_summed_by_direction() -> None:
    metrics = metrics_of()
    metrics.observe(ended(Entry.FORWARD, "PUT", 1.0, request_bytes=100, response_bytes=7), 2.0)
    metrics.observe(ended(Entry.TUNNEL, "CONNECT", 1.0, request_bytes=10, response_bytes=1), 2.0)
    found = samples(metrics)
    assert found["bytes_total{direction=request}"] == 110
    assert found["bytes_total{direction=response}"] == 8


def test_the_time_of_a_request_falls_into_its_bucket() -> None:
    metrics = metrics_of()
    for took_s in (0.005, 0.006, 0.3, 61.0):
        metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200, source=Source.UPSTREAM), took_s)
    found = samples(metrics)
    bucket = "request_seconds_bucket{entry=forward,le="
    assert found[f"{bucket}0.005}}"] == 1
    assert found[f"{bucket}0.01}}"] == 2
    assert found[f"{bucket}0.25}}"] == 2
    assert found[f"{bucket}0.5}}"] == 3
    assert found[f"{bucket}60.0}}"] == 3
    assert found[f"{bucket}+Inf}}"] == 4
    assert found["request_seconds_count{entry=forward}"] == 4
    assert found["request_seconds_sum{entry=forward}"] == pytest.approx(61.311)


def test_what_nobody_else_was_waited_for_is_the_proxys_own_time() -> None:
    metrics = metrics_of()
    exchange = ended(Entry.FORWARD, "GET", 1.0, status=200)
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 1.0003)
    exchange.wait_over(7.0)
    metrics.observe(exchange, 7.0004)
    found = samples(metrics)
    assert found["overhead_seconds_bucket{le=0.0005}"] == 0
    assert found["overhead_seconds_bucket{le=0.001}"] == 1
    assert found["overhead_seconds_sum"] == pytest.approx(0.0007)


@pytest.mark.parametrize(("entry", "timed"), [(Entry.FORWARD, 1), (Entry.REVERSE, 1), (Entry.TUNNEL, 0)])
def test_all_that_an_upstream_kept_waiting_is_its_total(entry: Entry, timed: int) -> None:
    metrics = metrics_of()
    exchange = ended(entry, "GET", 1.0, status=200, head_s=2.0)
    exchange.wait_for(Awaited.CONNECTION, 30.0, 1.5)
    exchange.wait_for(Awaited.REQUEST_CONTENT, 30.0, 1.75)
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 5.75)
    exchange.wait_for(Awaited.RESPONSE_CONTENT, 30.0, 6.0)
    metrics.observe(exchange, 16.0)
    found = samples(metrics)
    assert found["upstream_phase_seconds_count{phase=total}"] == timed
    assert found["upstream_phase_seconds_sum{phase=total}"] == 10.5 * timed


PHASES = {"dns_s": 0.006, "connect_s": 0.03, "tls_s": 0.2, "head_s": 61.0}


def test_the_time_of_each_phase_falls_into_its_bucket() -> None:
    metrics = metrics_of()
    for entry in (Entry.FORWARD, Entry.TUNNEL):
        metrics.observe(ended(entry, "GET", 0.0, status=200, **PHASES), 70.0)
    found = samples(metrics)
    for phase, below, above in (
        ("dns", "0.005", "0.01"),
        ("connect", "0.025", "0.05"),
        ("tls", "0.1", "0.25"),
        ("head", "60.0", "+Inf"),
    ):
        assert found[f"upstream_phase_seconds_bucket{{le={below},phase={phase}}}"] == 0
        assert found[f"upstream_phase_seconds_bucket{{le={above},phase={phase}}}"] == 2
        took_s = found[f"upstream_phase_seconds_sum{{phase={phase}}}"]
        assert took_s == pytest.approx(2 * PHASES[f"{phase}_s"])


def test_a_phase_that_there_was_not_is_not_timed() -> None:
    # Of a connection that is used again only the head is waited for; of one that fails not even that.
    metrics = metrics_of()
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200, head_s=0.0), 1.0)
    metrics.observe(ended(Entry.INTERCEPTED, "GET", 0.0, status=502, dns_s=0.0, connect_s=0.0), 1.0)
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=503), 1.0)
    found = nonzero(samples(metrics), "upstream_phase_seconds_count")
    assert found == {
        f"upstream_phase_seconds_count{{phase={phase}}}": 1 for phase in ("dns", "connect", "head", "total")
    }


@pytest.mark.parametrize(
    ("entry", "error", "timed"),
    [
        (Entry.FORWARD, errors.HttpResponseTimeout("late"), 1),
        (Entry.FORWARD, errors.DestinationUnavailable("open"), 0),
        (Entry.FORWARD, errors.ConnectionLimitReached("full"), 0),
        (Entry.TUNNEL, None, 0),
    ],
)
def test_refusals_and_tunnels_are_not_timed(
    entry: Entry, error: errors.ProxyError | None, timed: int
) -> None:
    metrics = metrics_of()
    metrics.observe(ended(entry, "GET", 0.0, status=503, error=error), 1.0)
    found = samples(metrics)
    assert found["request_seconds_count{entry=forward}"] == timed
    assert sum(nonzero(found, "requests_total").values()) == 1
    assert "request_seconds_count{entry=tunnel}" not in found


def test_gauges_are_read_at_each_scrape() -> None:
    now = {"in_flight": 3, "tunnels": 2, "idle": 1, "reloaded": 0}
    lookups = dict.fromkeys(Lookup, 0) | {Lookup.CACHED: 7, Lookup.NOT_FOUND: 1}
    metrics = Metrics(
        Rig().circuits,
        in_flight=lambda: now["in_flight"],
        tunnels=lambda: now["tunnels"],
        idle_connections=lambda: now["idle"],
        dns_lookups=lambda: lookups,
        reload_succeeded=lambda: bool(now["reloaded"]),
        clock=lambda: 0.0,
    )
    found = samples(metrics)
    assert (found["in_flight"], found["tunnels"], found["pool_connections{state=idle}"]) == (3, 2, 1)
    assert found["config_reload_success"] == 0
    assert nonzero(found, "dns_lookups_total") == {
        "dns_lookups_total{result=cached}": 7,
        "dns_lookups_total{result=not_found}": 1,
    }
    lookups[Lookup.CACHED] += 1
    now.update(in_flight=0, tunnels=5, idle=9, reloaded=1)
    found = samples(metrics)
    assert (found["in_flight"], found["tunnels"], found["pool_connections{state=idle}"]) == (0, 5, 9)
    assert found["config_reload_success"] == 1
    assert found["dns_lookups_total{result=cached}"] == 8


def test_all_known_series_are_there_before_the_first_request() -> None:
    found = samples(metrics_of())
    timed = ("overhead_seconds", "request_seconds", "upstream_phase_seconds")
    zero = {name for name, value in found.items() if value == 0 and not name.startswith(timed)}
    counts = {name for name in found if name.startswith(timed) and "_count" in name}
    assert counts == {
        *(f"request_seconds_count{{entry={entry}}}" for entry in TIMED),
        *(
            f"upstream_phase_seconds_count{{phase={phase}}}"
            for phase in ("dns", "connect", "tls", "head", "total")
        ),
        "overhead_seconds_count",
    }
    assert zero == {
        *(
            f"requests_total{{code_class={code_class},entry={entry},source={source}}}"
            for code_class in ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
            for entry in ("tunnel", *TIMED)
            for source in ("upstream", "proxy")
        ),
        *(f"calls_total{{outcome={outcome}}}" for outcome in ("success", "alive", "throttled", "failure")),
        *(f"failures_total{{kind={kind.value}}}" for kind in FailureKind),
        *(
            f"rejected_total{{enforced={enforced},reason={reason}}}"
            for reason in REJECTION_REASONS
            for enforced in ("true", "false")
        ),
        *(
            f"probes_total{{result={result}}}"
            for result in ("success", "alive", "throttled", "failure", "neutral")
        ),
        *(f"transitions_total{{to_state={state}}}" for state in ("closed", "half_open", "open")),
        *(f"circuits{{state={condition.value}}}" for condition in Condition),
        *(f"dns_lookups_total{{result={result.value}}}" for result in Lookup),
        *(f"denied_total{{enforced=true,reason={reason}}}" for reason in DENIALS),
        *(f"denied_total{{enforced=false,reason={reason}}}" for reason in RULES),
        *(
            f"fallbacks_total{{fallback={fallback},reason={reason}}}"
            for fallback in ("redirect", "defer")
            for reason in REJECTION_REASONS
        ),
        "bytes_total{direction=request}",
        "bytes_total{direction=response}",
        "circuit_evictions_total",
        "late_results_total",
        "circuits_unprotected_total",
        "in_flight",
        "tunnels",
        "pool_connections{state=idle}",
    }
    assert nonzero(found, "") == {
        f"build_info{{version={__version__}}}": 1,
        "circuits_limit": 10_000,
        "config_reload_success": 1,
    }


@pytest.mark.parametrize("accept", [OPENMETRICS, PROMETHEUS, f"text/html, {OPENMETRICS}; version=1.0.0"])
def test_openmetrics_for_who_asks(accept: str) -> None:
    metrics = metrics_of(opened().circuits)
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    content, content_type = metrics.render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    parsed = list(parse_openmetrics(content.decode()))  # type: ignore[no-untyped-call]  # it has no types
    assert flat(own(parsed)) == samples(metrics)
    units = {family.name: family.unit for family in own(parsed) if family.unit}
    assert units == {
        "breaker_proxy_bytes": "bytes",
        "breaker_proxy_overhead_seconds": "seconds",
        "breaker_proxy_request_seconds": "seconds",
        "breaker_proxy_upstream_phase_seconds": "seconds",
        "breaker_proxy_circuit_open_seconds": "seconds",
    }


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "text/html",
        "text/plain;version=0.0.4",
        # Each of these makes prometheus_client 0.26 raise, or name a version it does not write.
        f"{OPENMETRICS};version=new",
        f"{OPENMETRICS};version=99.0.0",
        f"{OPENMETRICS};version=1.0.0.\udce9",
        "text/plain;version=x",
        "text/plain;version=" + "9" * 5000,
        ";,=;version,\x00",
    ],
)
def test_text_for_everybody_else(accept: str | None) -> None:
    content, content_type = metrics_of().render(accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert list(parse_text(content.decode()))


def families_of(snapshot: Snapshot) -> list[Metric]:
    content, _ = snapshot.render(None)
    return own(parse_text(content.decode()))


def test_names_and_help_follow_the_conventions() -> None:
    for family in families(metrics_of(opened().circuits)):
        assert family.name.startswith("breaker_proxy_")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


def test_no_label_tells_what_was_asked_for() -> None:
    target = from_absolute_form("http://hooks.example.com/s3cret/path?key=s3cret", "POST")
    rig = opened(target.host_port)
    metrics = metrics_of(rig.circuits)
    rig.answer(500, 31.0, target.host_port, BY_PATH.endpoint(target.host_port, target.origin_form, ()))
    error = errors.HttpProtocolError("s3cret")
    metrics.observe(ended(Entry.FORWARD, "S3CRET", 0.0, target=target, status=502, error=error), 1.0)
    content, _ = metrics.render(None)
    assert b'circuit="hooks.example.com:80"' in content
    assert b'circuit="hooks.example.com:80#' in content
    assert b"s3cret" not in content.lower()


def test_a_snapshot_does_not_change() -> None:
    rig = opened()
    metrics = metrics_of(rig.circuits)
    snapshot = metrics.snapshot()
    before = families_of(snapshot)
    metrics.observe(ended(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    assert rig.refusal(1.0, "a:80")
    assert rig.passes(31.0, "a:80")
    rig.succeed(1, 31.0, "b:80")
    assert families_of(snapshot) == before
    assert families(metrics) != before


@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_the_process_is_told_by_the_usual_names(accept: str | None) -> None:
    content, _ = metrics_of().render(accept)
    found = flat(parse_text(content.decode()))
    assert found["process_start_time_seconds"] > 1e9
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert found[name] > 0


def test_instances_share_nothing() -> None:
    first, second = metrics_of(), metrics_of()
    first.observe(ended(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    assert not nonzero(samples(second), "requests_total")
    assert not [
        family for family in prometheus_client.REGISTRY.collect() if family.name.startswith("breaker")
    ]
