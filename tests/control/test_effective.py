"""The configuration as the file would write it: read again, it is the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.control.config import load
from proxy.control.effective import effective
from proxy.core.policy import Settings

EVERYTHING = """
version: 1
name: a-name
listen: {proxy: "[::1]:3128", reverse: "127.0.0.1:3130"}
circuit: {key: "path:3", window: 90s, failure_statuses: [500-503, 404], throttle_statuses: none}
upstreams:
- {match: "*.example.com", circuit: {key: header:X-Tenant, mode: observe}, timeouts: {head: 1h}}
- {match: "b.test", circuit: {open: 250ms}, open_action: close, egress: {hosts: {deny: [b.test]}}}
- {match: "a.test:8443", https: originate, tls: {ca: ca.pem, min_version: 1.3}}
routes:
- {host: "*.hooks.test", path: /hooks, upstream: "https://c.test:8443/T00/B00/xyz"}
- {path: /, upstream: "http://d.test", internal: true}
limits: {max_head: 64KiB}
egress: {allow: [10.0.0.0/8, "fd00::/8"], connect_ports: [443, 8000-8999]}
dns: {servers: ["10.0.0.10:53"]}
admin: {token_file: token, hosts: [admin.test]}
log: {path: full}
"""


def loaded(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load(path, {}, {})


@pytest.mark.parametrize("text", ["", EVERYTHING, "egress: {connect_ports: []}"])
def test_there_and_back(tmp_path: Path, text: str) -> None:
    settings = loaded(tmp_path / "config.yaml", text)
    told = json.dumps(effective(settings))
    # JSON is YAML.
    assert loaded(tmp_path / "again.yaml", told) == settings


def test_all_settings_of_the_example_are_told() -> None:
    example = Path(__file__).parents[2] / "config.example.yaml"
    written: dict[str, Any] = yaml.safe_load(example.read_text())
    told = effective(load(example, {}, {}))
    assert told.keys() == written.keys()
    for section, values in written.items():
        if isinstance(values, dict):
            assert told[section].keys() == values.keys()


def test_paths_are_shown_as_the_log_shows_them(tmp_path: Path) -> None:
    told = effective(loaded(tmp_path / "config.yaml", EVERYTHING.replace("path: full", "path: hash")))
    hidden, plain = told["routes"]
    # printf %s /T00/B00/xyz | b2sum --length 64
    assert hidden["upstream"] == "https://c.test:8443#cf34372eab6832a9"
    assert hidden["path"].startswith("/#")
    assert (plain["path"], plain["upstream"]) == ("/", "http://d.test")
    assert not any(word in json.dumps(told) for word in ("T00", "xyz", "/hooks"))
