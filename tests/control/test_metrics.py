"""What /metrics says after real exchanges and real circuits."""

from collections.abc import Iterable

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy import __version__
from proxy.control.metrics import Metrics
from proxy.core import errors
from proxy.core.breaker import State, Transition
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.outcome import SUCCESS, FailureKind, Outcome, failed
from proxy.core.policy import CircuitPolicy, Seconds
from proxy.core.registry import Circuits
from proxy.core.target import from_absolute_form

# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
OPENMETRICS = "application/openmetrics-text"
RESET = failed(FailureKind.RESET)
POLICY = CircuitPolicy(consecutive_failures=2, open=Seconds(10), recovery_threshold=1)

Samples = dict[str, float]


def metrics_of(circuits: Circuits | None = None, max_circuits: int = 500) -> Metrics:
    return Metrics(
        # An empty table is false.
        Circuits(max_circuits=10) if circuits is None else circuits,
        max_circuits=max_circuits,
        in_flight=lambda: 0,
        tunnels=lambda: 0,
        idle_connections=lambda: 0,
    )


def families(metrics: Metrics) -> list[Metric]:
    content, _ = metrics.render(None)
    return list(parse_text(content.decode()))


def samples(metrics: Metrics) -> Samples:
    """All samples by name, without the prefix, and labels: `calls_total{outcome=success}`."""
    return flat(families(metrics))


def flat(parsed: Iterable[Metric]) -> Samples:
    found = {}
    for family in parsed:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix("breaker_proxy_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


def nonzero(found: Samples, prefix: str) -> Samples:
    return {name: value for name, value in found.items() if name.startswith(prefix) and value}


def call(circuits: Circuits, key: str, outcome: Outcome, now: float) -> None:
    with circuits.admit(key, POLICY, now) as permit:
        permit.settle(outcome, now)


def open_circuit(circuits: Circuits, key: str, now: float) -> None:
    call(circuits, key, RESET, now)
    call(circuits, key, RESET, now)


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
    ],
)
def test_an_exchange_is_counted_by_entry_class_and_source(
    entry: Entry, status: int | None, source: Source, expected: str
) -> None:
    metrics = metrics_of()
    metrics.observe(Exchange(entry, "GET", 1.0, status=status, source=source), 2.0)
    assert nonzero(samples(metrics), "requests_total") == {f"requests_total{{{expected}}}": 1}


def test_content_is_summed_by_direction() -> None:
    metrics = metrics_of()
    metrics.observe(Exchange(Entry.FORWARD, "PUT", 1.0, request_bytes=100, response_bytes=7), 2.0)
    metrics.observe(Exchange(Entry.TUNNEL, "CONNECT", 1.0, request_bytes=10, response_bytes=1), 2.0)
    found = samples(metrics)
    assert found["bytes_total{direction=request}"] == 110
    assert found["bytes_total{direction=response}"] == 8


def test_the_time_of_a_request_falls_into_its_bucket() -> None:
    metrics = metrics_of()
    for took_s in (0.005, 0.006, 0.3, 61.0):
        metrics.observe(Exchange(Entry.FORWARD, "GET", 0.0, status=200, source=Source.UPSTREAM), took_s)
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
    metrics.observe(Exchange(entry, "GET", 0.0, status=503, error=error), 1.0)
    found = samples(metrics)
    assert found["request_seconds_count{entry=forward}"] == timed
    assert sum(nonzero(found, "requests_total").values()) == 1
    assert "request_seconds_count{entry=tunnel}" not in found


def test_gauges_are_read_at_each_scrape() -> None:
    now = {"in_flight": 3, "tunnels": 2, "idle": 1}
    metrics = Metrics(
        Circuits(max_circuits=10),
        max_circuits=500,
        in_flight=lambda: now["in_flight"],
        tunnels=lambda: now["tunnels"],
        idle_connections=lambda: now["idle"],
    )
    found = samples(metrics)
    assert (found["in_flight"], found["tunnels"], found["pool_connections{state=idle}"]) == (3, 2, 1)
    now.update(in_flight=0, tunnels=5, idle=9)
    found = samples(metrics)
    assert (found["in_flight"], found["tunnels"], found["pool_connections{state=idle}"]) == (0, 5, 9)


def test_all_known_series_are_there_before_the_first_request() -> None:
    found = samples(metrics_of())
    zero = {name for name, value in found.items() if value == 0 and not name.startswith("request_seconds")}
    assert zero == {
        *(
            f"requests_total{{code_class={code_class},entry={entry},source={source}}}"
            for code_class in ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
            for entry in ("forward", "tunnel")
            for source in ("upstream", "proxy")
        ),
        *(f"calls_total{{outcome={outcome}}}" for outcome in ("success", "alive", "throttled", "failure")),
        *(f"failures_total{{kind={kind.value}}}" for kind in FailureKind),
        "rejected_total{enforced=true,reason=circuit_open}",
        "rejected_total{enforced=true,reason=circuit_half_open}",
        *(f"transitions_total{{to_state={state}}}" for state in ("closed", "half_open", "open")),
        *(f"circuits{{state={state}}}" for state in ("closed", "half_open", "open")),
        "bytes_total{direction=request}",
        "bytes_total{direction=response}",
        "circuit_evictions_total",
        "circuit_late_results_total",
        "circuits_unprotected_total",
        "in_flight",
        "tunnels",
        "pool_connections{state=idle}",
    }
    assert nonzero(found, "") == {f"build_info{{version={__version__}}}": 1, "circuits_limit": 10}


def test_a_circuit_starts_with_all_its_known_series_at_zero() -> None:
    circuits = Circuits(max_circuits=10)
    with circuits.admit("a:80", POLICY, 0.0):
        found = samples(metrics_of(circuits))
    of_circuit = {name: value for name, value in found.items() if "circuit=a:80" in name}
    assert set(of_circuit.values()) == {0}
    assert len([name for name in of_circuit if name.startswith("circuit_calls_total")]) == 4
    assert len([name for name in of_circuit if name.startswith("circuit_rejected_total")]) == 2
    assert len([name for name in of_circuit if name.startswith("circuit_transitions_total")]) == 4


def test_the_life_of_a_circuit() -> None:
    circuits = Circuits(max_circuits=10)
    metrics = metrics_of(circuits)
    call(circuits, "a:80", SUCCESS, 0.0)
    assert samples(metrics)["circuit_state{circuit=a:80,scope=host}"] == 0

    open_circuit(circuits, "a:80", 1.0)
    with pytest.raises(errors.DestinationUnavailable):
        call(circuits, "a:80", SUCCESS, 2.0)
    found = samples(metrics)
    assert found["circuit_state{circuit=a:80,scope=host}"] == 2
    assert found["circuits{state=open}"] == 1

    with circuits.admit("a:80", POLICY, 11.0) as probe:
        with pytest.raises(errors.DestinationUnavailable):
            call(circuits, "a:80", SUCCESS, 11.0)
        found = samples(metrics)
        assert found["circuit_state{circuit=a:80,scope=host}"] == 1
        assert found["circuits{state=half_open}"] == 1
        probe.settle(SUCCESS, 12.0)
    found = samples(metrics)
    assert found["circuit_state{circuit=a:80,scope=host}"] == 0
    assert nonzero(found, "circuit_transitions_total") == {
        f"circuit_transitions_total{{circuit=a:80,{change}}}": 1
        for change in (
            "from_state=closed,reason=consecutive_failures,scope=host,to_state=open",
            "from_state=open,reason=open_elapsed,scope=host,to_state=half_open",
            "from_state=half_open,reason=recovered,scope=host,to_state=closed",
        )
    }
    assert nonzero(found, "circuit_rejected_total") == {
        "circuit_rejected_total{circuit=a:80,enforced=true,reason=circuit_open,scope=host}": 1,
        "circuit_rejected_total{circuit=a:80,enforced=true,reason=circuit_half_open,scope=host}": 1,
    }
    assert nonzero(found, "circuit_calls_total") == {
        "circuit_calls_total{circuit=a:80,outcome=success,scope=host}": 2,
        "circuit_calls_total{circuit=a:80,outcome=failure,scope=host}": 2,
    }
    assert nonzero(found, "circuit_failures_total") == {
        "circuit_failures_total{circuit=a:80,kind=reset,scope=host}": 2
    }
    assert nonzero(found, "calls_total") == {
        "calls_total{outcome=success}": 2,
        "calls_total{outcome=failure}": 2,
    }
    assert nonzero(found, "failures_total") == {"failures_total{kind=reset}": 2}
    assert nonzero(found, "rejected_total") == {
        "rejected_total{enforced=true,reason=circuit_open}": 1,
        "rejected_total{enforced=true,reason=circuit_half_open}": 1,
    }
    assert nonzero(found, "transitions_total") == {
        "transitions_total{to_state=open}": 1,
        "transitions_total{to_state=half_open}": 1,
        "transitions_total{to_state=closed}": 1,
    }


def test_a_late_verdict_is_counted_without_a_circuit() -> None:
    circuits = Circuits(max_circuits=10)
    with circuits.admit("a:80", POLICY, 0.0) as slow:
        open_circuit(circuits, "a:80", 1.0)
        slow.settle(SUCCESS, 2.0)
    assert samples(metrics_of(circuits))["circuit_late_results_total"] == 1


def labelled(metrics: Metrics) -> list[str]:
    return [
        sample.labels["circuit"]
        for family in families(metrics)
        if family.name == "breaker_proxy_circuit_state"
        for sample in family.samples
    ]


def test_labels_are_bounded_and_stay_with_the_circuits_that_came_first() -> None:
    circuits = Circuits(max_circuits=3)
    metrics = metrics_of(circuits, max_circuits=2)
    for key in ("a:80", "b:80", "c:80"):
        call(circuits, key, SUCCESS, 0.0)
    assert labelled(metrics) == ["a:80", "b:80"]
    # a:80 is now the one that was used last, so b:80 has to go for d:80.
    call(circuits, "a:80", SUCCESS, 1.0)
    call(circuits, "d:80", SUCCESS, 2.0)
    assert labelled(metrics) == ["a:80", "c:80"]
    found = samples(metrics)
    assert found["calls_total{outcome=success}"] == 5
    assert found["circuits{state=closed}"] == 3
    assert found["circuit_evictions_total"] == 1


def test_labels_do_not_move_to_a_circuit_that_stands_earlier_in_the_table() -> None:
    circuits = Circuits(max_circuits=3)
    metrics = metrics_of(circuits, max_circuits=1)
    call(circuits, "a:80", SUCCESS, 0.0)
    assert labelled(metrics) == ["a:80"]
    for key in ("b:80", "c:80", "d:80", "a:80"):  # a:80 is evicted, and comes back behind the others
        call(circuits, key, SUCCESS, 1.0)
    assert [circuit.key for circuit in circuits] == ["c:80", "d:80", "a:80"]
    assert labelled(metrics) == ["a:80"]


def test_no_circuit_needs_to_have_labels() -> None:
    circuits = Circuits(max_circuits=3)
    metrics = metrics_of(circuits, max_circuits=0)
    open_circuit(circuits, "a:80", 0.0)
    assert labelled(metrics) == []
    assert samples(metrics)["circuits{state=open}"] == 1


def test_a_full_table_shows_calls_without_protection() -> None:
    circuits = Circuits(max_circuits=1)
    open_circuit(circuits, "a:80", 0.0)
    call(circuits, "b:80", SUCCESS, 1.0)
    found = samples(metrics_of(circuits))
    assert found["circuits_unprotected_total"] == 1
    assert found["circuits_limit"] == 1


def test_a_listener_may_read_the_metrics() -> None:
    seen = []

    def listener(transition: Transition) -> None:
        seen.append((transition.to_state, samples(metrics)["circuit_state{circuit=a:80,scope=host}"]))

    circuits = Circuits(10, (listener,))
    metrics = metrics_of(circuits)
    open_circuit(circuits, "a:80", 0.0)
    assert seen == [(State.OPEN, 2)]


@pytest.mark.parametrize("accept", [OPENMETRICS, PROMETHEUS, f"text/html, {OPENMETRICS}; version=1.0.0"])
def test_openmetrics_for_who_asks(accept: str) -> None:
    circuits = Circuits(max_circuits=10)
    open_circuit(circuits, "a:80", 0.0)
    metrics = metrics_of(circuits)
    metrics.observe(Exchange(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    content, content_type = metrics.render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    parsed = list(parse_openmetrics(content.decode()))  # type: ignore[no-untyped-call]  # it has no types
    assert flat(parsed) == samples(metrics)
    units = {family.name: family.unit for family in parsed if family.unit}
    assert units == {"breaker_proxy_bytes": "bytes", "breaker_proxy_request_seconds": "seconds"}


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


def test_names_and_help_follow_the_conventions() -> None:
    circuits = Circuits(max_circuits=10)
    open_circuit(circuits, "a:80", 0.0)
    for family in families(metrics_of(circuits)):
        assert family.name.startswith("breaker_proxy_")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


def test_no_label_tells_what_was_asked_for() -> None:
    circuits = Circuits(max_circuits=10)
    metrics = metrics_of(circuits)
    target = from_absolute_form("http://hooks.example.com/s3cret/path?key=s3cret", "POST")
    open_circuit(circuits, target.host_port, 0.0)
    error = errors.HttpProtocolError("s3cret")
    metrics.observe(Exchange(Entry.FORWARD, "S3CRET", 0.0, target, status=502, error=error), 1.0)
    content, _ = metrics.render(None)
    assert b'circuit="hooks.example.com:80"' in content
    assert b"s3cret" not in content.lower()


def test_a_snapshot_does_not_change() -> None:
    metrics = metrics_of()
    snapshot = metrics.snapshot()
    before = snapshot.render(None)
    metrics.observe(Exchange(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    assert snapshot.render(None) == before
    assert metrics.render(None) != before


def test_instances_share_nothing() -> None:
    first, second = metrics_of(), metrics_of()
    first.observe(Exchange(Entry.FORWARD, "GET", 0.0, status=200), 1.0)
    assert not nonzero(samples(second), "requests_total")
    assert not [
        family for family in prometheus_client.REGISTRY.collect() if family.name.startswith("breaker")
    ]
