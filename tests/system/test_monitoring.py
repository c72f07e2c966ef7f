"""A real Prometheus watches a real life: metrics, rules and dashboard are held against what it then knows."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from support.process import PATIENCE_S, RunningProxy
from system.prometheus import Prometheus
from system.watched import DEPLOY, HOSTS, RULES, watched

# All metrics, by the names and types that Prometheus knows after it has asked for OpenMetrics, where a
# counter is called without `_total`.
METRICS = {
    "circuit_state": "gauge",
    "circuits": "gauge",
    "circuit_transitions": "counter",
    "circuit_rejected": "counter",
    "circuit_calls": "counter",
    "circuit_failures": "counter",
    "circuit_probes": "counter",
    "circuit_late_results": "counter",
    "circuit_window_calls": "gauge",
    "circuit_failure_ratio": "gauge",
    "circuit_open_seconds": "counter",
    "circuit_evictions": "counter",
    "circuits_unprotected": "counter",
    "circuits_limit": "gauge",
    "calls": "counter",
    "rejected": "counter",
    "failures": "counter",
    "transitions": "counter",
    "probes": "counter",
    "late_results": "counter",
    "requests": "counter",
    "fallbacks": "counter",
    "request_seconds": "histogram",
    "overhead_seconds": "histogram",
    "upstream_phase_seconds": "histogram",
    "in_flight": "gauge",
    "tunnels": "gauge",
    "bytes": "counter",
    "pool_connections": "gauge",
    "dns_lookups": "counter",
    "denied": "counter",
    "config_reload_success": "gauge",
    "deferred_depth": "gauge",
    "deferred_dead_letters": "gauge",
    "deferred_limit": "gauge",
    "deferred_bytes": "gauge",
    "deferred_limit_bytes": "gauge",
    "deferred_oldest_age_seconds": "gauge",
    "deferred_store_up": "gauge",
    "deferred_stored": "counter",
    "deferred_delivered": "counter",
    "deferred_failed_attempts": "counter",
    "deferred_dead": "counter",
    "deferred_not_stored": "counter",
    "deferred_store_seconds": "histogram",
    "build": "info",
}
PROCESS = {
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}
# How a metric of a type ends in a query.
ENDINGS = {"gauge": "", "counter": "_total", "histogram": "_bucket", "info": "_info"}
# What Grafana puts in place of its variables, with nothing chosen.
CHOSEN = {
    "$__rate_interval": "30s",
    "$__range": "1m",
    "$__interval": "100ms",
    "$job": "breaker-proxy",
    "$namespace": ".*",
    "$pod": ".*",
    "$instance": ".*",
    "$circuit": ".*",
}
SELECTOR = re.compile(r"((?:\w+:)?\b(?:breaker_proxy_|process_|up\b)[\w:]*)(\{[^}]*\})?")


def chosen(text: str) -> str:
    for variable, value in CHOSEN.items():
        text = text.replace(variable, value)
    assert "$" not in text, text
    return text


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    return made


PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
] + [pytest.param(mark["expr"], id=mark["name"]) for mark in dashboard()["annotations"]["list"]]
ALL_RULES = [
    pytest.param(rule, id=rule.get("alert", rule.get("record")))
    for name in ("recording.yml", "alerts.yml")
    for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, RunningProxy]]:
    with watched(tmp_path_factory.mktemp("prometheus")) as life:
        yield life


@pytest.fixture
def seen(life: tuple[Prometheus, RunningProxy]) -> Prometheus:
    return life[0]


@pytest.fixture
def proxy(life: tuple[Prometheus, RunningProxy]) -> RunningProxy:
    return life[1]


def promtool(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, timeout=PATIENCE_S, check=False
    )


def test_all_targets_are_up_and_nothing_else_is_one(seen: Prometheus, proxy: RunningProxy) -> None:
    targets = seen.ask("targets")
    (target,) = targets["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"] == {
        "job": "breaker-proxy",
        "instance": f"127.0.0.1:{proxy.admin_port}",
        "namespace": "shop",
        "pod": "dispatcher-0",
        "container": "breaker-proxy",
    }
    # Another port of the same Pod, and a Pod that has ended.
    assert len(targets["droppedTargets"]) == 2


def test_every_metric_is_there_with_its_type(seen: Prometheus) -> None:
    expected = {f"breaker_proxy_{name}": kind for name, kind in METRICS.items()} | PROCESS
    known = seen.ask("targets/metadata", match_target='{job="breaker-proxy"}')
    assert {metric["metric"]: metric["type"] for metric in known} == expected
    for name, kind in expected.items():
        assert seen.query(name + ENDINGS[kind]), name


def test_both_formats_pass(proxy: RunningProxy) -> None:
    """Promtool reads the text format only; OpenMetrics is read by Prometheus, and the strict parser."""
    checked = promtool("check", "metrics", given=proxy.admin("/metrics").content)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    with closing(HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
        answer = connection.getresponse()
        content = answer.read().decode()
    assert answer.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert list(parse_openmetrics(content))  # type: ignore[no-untyped-call]  # it has no types


@pytest.mark.parametrize("expr", QUERIES)
def test_a_query_of_the_dashboard_has_an_answer(seen: Prometheus, expr: str) -> None:
    values = seen.values(chosen(expr))
    assert values
    assert not any(map(isnan, values))


def test_the_variables_have_values(seen: Prometheus, proxy: RunningProxy) -> None:
    found = {}
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            assert asked[2] == variable["name"]
            found[variable["name"]] = seen.labels(asked[2], chosen(asked[1]))
    circuits = found.pop("circuit")
    assert found == {
        "job": ["breaker-proxy"],
        "namespace": ["shop"],
        "pod": ["dispatcher-0"],
        "instance": [f"127.0.0.1:{proxy.admin_port}"],
    }
    # Who says nothing of its upstream has a circuit only while it is under way, and a scrape may see it.
    assert {name.partition(":")[0] for name in circuits} - {"broken.test"} == {*HOSTS, "nowhere.test"}


def test_a_variable_chooses(seen: Prometheus) -> None:
    """Each query falls silent where another job is chosen, but for those that count what is not there."""
    still = {
        expr.id for expr in QUERIES if seen.values(chosen(str(expr.values[0]).replace("$job", "another")))
    }
    assert still == {"Refused A", "Failed A", "Sidecars down A", "Wrong configuration A"}


@pytest.mark.parametrize("rule", ALL_RULES)
def test_what_a_rule_reads_is_there(seen: Prometheus, rule: dict[str, Any]) -> None:
    selectors = ["".join(found) for found in SELECTOR.findall(rule["expr"])]
    assert selectors
    for selector in selectors:
        assert seen.query(selector), selector
    if "record" in rule:
        assert seen.query(rule["record"])
        assert not any(map(isnan, seen.values(rule["expr"])))


def test_no_rule_has_failed_and_what_is_wrong_is_noticed(seen: Prometheus) -> None:
    rules = [rule for group in seen.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(ALL_RULES)
    assert {(rule["health"], rule.get("lastError")) for rule in rules} == {("ok", None)}
    pending = {alert["metric"]["alertname"] for alert in seen.query('ALERTS{alertstate="pending"}')}
    certain = {
        "BreakerProxyCircuitOpen",
        "BreakerProxyConfigReloadFailed",
        "BreakerProxyOverrideForgotten",
        "BreakerProxyRefusing",
        "BreakerProxyRefusingMost",
        "BreakerProxyResolverFailing",
    }
    # How often something happens in this life depends on the machine.
    assert (
        certain
        <= pending
        <= certain
        | {
            "BreakerProxyCircuitFlapping",
            "BreakerProxyDenying",
            "BreakerProxyManyCircuitsOpen",
            "BreakerProxySlow",
        }
    )


def test_promtool_passes_the_rules_and_the_configuration() -> None:
    files = sorted((DEPLOY / "prometheus").glob("rules/*.yml"))
    checks: list[tuple[str | Path, ...]] = [
        ("check", "rules", "--lint-fatal", *files),
        ("check", "config", "--lint-fatal", DEPLOY / "prometheus" / "prometheus.yml"),
        ("test", "rules", *sorted((DEPLOY / "prometheus").glob("tests/*.yml"))),
    ]
    for arguments in checks:
        checked = promtool(*arguments)
        assert (checked.returncode, checked.stderr) == (0, b""), checked.stdout.decode()


def test_the_dashboard_is_what_the_script_makes() -> None:
    script = DEPLOY / "grafana" / "dashboard.py"
    made = subprocess.run(
        [sys.executable, "-c", "import dashboard; print(dashboard.content(), end='')"],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert script.with_suffix(".json").read_text(encoding="utf-8") == made.stdout, "run make monitoring"


def test_no_panel_lies_on_another_and_each_says_what_it_is_for() -> None:
    taken: dict[tuple[int, int], str] = {}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert 0 <= x < 24
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        if panel["type"] == "row":
            continue
        assert len(panel["description"]) > 10
        units = [panel["fieldConfig"]["defaults"].get("unit")]
        if panel["type"] == "table":
            units = [
                value["value"]
                for column in panel["fieldConfig"]["overrides"]
                for value in column["properties"]
                if value["id"] == "unit"
            ]
            assert len(units) == len(panel["targets"])
        # A state has a word in place of a unit.
        assert all(units) or panel["type"] == "state-timeline"
