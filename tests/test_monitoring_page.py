"""docs/monitoring.md, the rules, and what is made of them, say the same as the program."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from support.circuits import Rig
from support.metrics import metrics_of

from proxy.control.metrics import Metrics
from proxy.core.outcome import SUCCESS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy" / "prometheus"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", PAGE))


def loaded(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def rules(path: str) -> list[dict[str, Any]]:
    return [rule for group in loaded(path)["groups"] for rule in group["rules"]]


ALERTS = rules("rules/alerts.yml")
RECORDED = rules("rules/recording.yml")
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def after_an_outage() -> Metrics:
    """The metrics of circuits to which everything has happened that makes series."""
    rig = Rig()
    with rig.admit(0.0, "sick:80") as late:
        rig.fail(5, 0.0, "sick:80")
        late.settle(SUCCESS, 1.0)
    rig.fail(1, 31.0, "sick:80")
    rig.succeed(10, 31.0, "well:80")
    return metrics_of(rig.circuits, clock=lambda: 31.0)


def families(metrics: Metrics) -> dict[str, Metric]:
    """By the names that a query has for them."""
    content, _ = metrics.render(None)
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(content.decode())
    }


def test_the_table_of_metrics_is_that_of_the_program() -> None:
    table = PAGE.partition("<!-- metrics -->")[2].partition("<!-- end -->")[0]
    told = {
        name: (kind, re.findall(r"`(\w+)`", labels))
        for name, kind, labels in re.findall(r"(?m)^\| `(\w+)` \| (\w+) \|([^|]*)\|", table)
    }
    found = families(after_an_outage())
    assert told.keys() == found.keys()
    for name, family in found.items():
        kind, labels = told[name]
        assert kind == family.type, name
        assert labels == sorted(labels), name
        for sample in family.samples:
            assert sorted(sample.labels.keys() - {"le"}) == labels, name
        assert family.samples, name


def test_the_page_tells_what_a_circuit_costs() -> None:
    def count(metrics: Metrics) -> int:
        return sum(len(family.samples) for family in families(metrics).values())

    rig = Rig()
    without = count(metrics_of(rig.circuits))
    rig.succeed(1, 0.0, "a:80")
    more = count(metrics_of(rig.circuits)) - without
    told = f"<!-- series -->{without} series, and {more} more for each circuit<!-- end -->"
    assert told in PAGE


@each_alert
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/monitoring.md#{name.lower()}"
    section = SECTIONS[name]
    assert section.strip().startswith(f"{alert['labels']['severity']}: ")
    for word in ("**Means**", "**Do", "**Ignore**"):
        assert word in section


def test_there_is_no_section_without_its_alert() -> None:
    assert list(SECTIONS) == [name for name in SECTIONS if name in {alert["alert"] for alert in ALERTS}]
    assert len(SECTIONS) == len(ALERTS)


@each_alert
def test_an_alert_is_tested_where_it_fires_and_where_it_does_not(alert: dict[str, Any]) -> None:
    checks = [
        bool(check.get("exp_alerts"))
        for path in (DEPLOY / "tests").glob("*.yml")
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for check in case["alert_rule_test"]
        if check["alertname"] == alert["alert"]
    ]
    # Just below, then above, and at last below again.
    assert checks[0] is False
    assert True in checks
    assert checks[-1] is False


def test_recording_rules_are_told_and_used() -> None:
    told = re.findall(r"(?m)^\| `([\w:]+:[\w:]+)` \|", PAGE)
    assert told == [rule["record"] for rule in RECORDED]
    used = "\n".join(rule["expr"] for rule in (*ALERTS, *RECORDED))
    kept = {
        # Not for alerts: what is worth keeping for longer than everything else.
        "job:breaker_proxy_failures:rate5m",
        "job_phase_le:breaker_proxy_upstream_phase_seconds_bucket:rate5m",
    }
    assert {name for name in told if name not in used} == kept


def test_sums_are_of_the_totals() -> None:
    by_circuit = {
        rule.get("alert", rule.get("record")) for rule in (*ALERTS, *RECORDED) if "_circuit_" in rule["expr"]
    }
    assert by_circuit == {
        # One alert, or one value, for each circuit.
        "BreakerProxyCircuitFlapping",
        "circuit:breaker_proxy_circuit_not_closed:count",
        "BreakerProxyCircuitOpen",
    }


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """deploy/prometheus/prometheusrule.py."""
    spec = spec_from_file_location("prometheusrule", DEPLOY / "prometheusrule.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_prometheusrule_is_made_of_the_rules(made: ModuleType) -> None:
    assert (DEPLOY / "prometheusrule.yaml").read_text(encoding="utf-8") == made.manifest(), (
        "run make monitoring"
    )
    resource = loaded("prometheusrule.yaml")
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert [rule for group in resource["spec"]["groups"] for rule in group["rules"]] == [*RECORDED, *ALERTS]
    assert len({group["name"] for group in resource["spec"]["groups"]}) == len(resource["spec"]["groups"])


def test_its_links_lead_to_where_the_docs_are(made: ModuleType) -> None:
    resource = yaml.safe_load(made.manifest("https://git.example.com/"))
    links = [
        rule["annotations"]["runbook_url"]
        for group in resource["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links == [f"https://git.example.com/{alert['annotations']['runbook_url']}" for alert in ALERTS]


def test_the_podmonitor_finds_what_the_scrape_configuration_finds() -> None:
    monitor = loaded("podmonitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    ((label, value),) = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    plain = loaded("prometheus-kubernetes.yml")
    (job,) = plain["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery == {"role": "pod", "selectors": [{"role": "pod", "label": f"{label}={value}"}]}
    ports = [
        rule["regex"]
        for rule in job["relabel_configs"]
        if rule["source_labels"] == ["__meta_kubernetes_pod_container_port_name"]
    ]
    assert ports == [endpoint["port"]]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job["job_name"]}]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (
        plain["global"]["scrape_interval"],
        plain["global"]["scrape_timeout"],
    )
    (other,) = loaded("prometheus.yml")["scrape_configs"]
    assert other["job_name"] == job["job_name"]
    assert other["static_configs"] == [{"targets": ["breaker-proxy:3129"]}]


def test_grafana_is_told_the_interval_of_prometheus() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == loaded("prometheus.yml")["global"]["scrape_interval"]
