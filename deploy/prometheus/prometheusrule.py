"""Makes prometheusrule.yaml, which the Prometheus Operator reads, of the rules in rules/, their source.

`make monitoring` runs it. An operator may do so as well, to have links in alerts that lead somewhere:
`prometheusrule.py --docs-url https://git.example.com/breaker-proxy/blob/main/` writes to standard output.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MADE = HERE / "prometheusrule.yaml"
_HEAD = """\
# Made by deploy/prometheus/prometheusrule.py (make monitoring) of rules/; change those.
"""


def groups(docs_url: str = "") -> list[dict[str, Any]]:
    """All groups of rules, the recording ones first, with what stands before the addresses of runbooks."""
    found: list[dict[str, Any]] = []
    for path in (HERE / "rules" / "recording.yml", HERE / "rules" / "alerts.yml"):
        found += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for group in found:
        for rule in group["rules"]:
            if "annotations" in rule:
                rule["annotations"]["runbook_url"] = docs_url + rule["annotations"]["runbook_url"]
    return found


def manifest(docs_url: str = "") -> str:
    """The PrometheusRule."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "breaker-proxy", "labels": {"app.kubernetes.io/name": "breaker-proxy"}},
        "spec": {"groups": groups(docs_url)},
    }
    return _HEAD + yaml.safe_dump(resource, sort_keys=False, width=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes prometheusrule.yaml of the rules in rules/.")
    parser.add_argument("--docs-url", help="what stands before docs/ in the links; writes to standard output")
    arguments = parser.parse_args()
    if arguments.docs_url is None:
        MADE.write_text(manifest(), encoding="utf-8")
    else:
        sys.stdout.write(manifest(arguments.docs_url))
