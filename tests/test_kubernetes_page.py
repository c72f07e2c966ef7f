"""docs/kubernetes.md and deploy/kubernetes, as far as Python alone can tell: tests/system has kubectl."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.control.config import load
from proxy.core.budget import memory_bytes
from proxy.core.https import HttpsMode
from proxy.core.policy import Limits, Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy" / "kubernetes"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(version: 1\n.*?)```", PAGE, re.DOTALL)
MIB = 1024 * 1024


def shipped(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def loaded(text: str, folder: Path) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    return load(file, {}, {})


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_every_configuration_of_the_page_loads(tmp_path: Path, number: int) -> None:
    assert_mounted(loaded(CONFIGS[number], tmp_path))


@pytest.mark.parametrize("name", ["example", "standalone"])
def test_every_configuration_that_is_shipped_loads(tmp_path: Path, name: str) -> None:
    assert_mounted(loaded((DEPLOY / name / "config.yaml").read_text(encoding="utf-8"), tmp_path))


def assert_mounted(settings: Settings) -> None:
    """What it writes is in volumes of the components, and the key in another one than the bundle."""
    mounts = {
        mount["mountPath"]
        for component in ("sidecar", "intercept")
        for container in shipped(f"{component}/pod.yaml")["spec"]["template"]["spec"]["initContainers"]
        for mount in container["volumeMounts"]
    }
    if settings.state_file is not None:
        assert str(Path(settings.state_file).parent) in mounts
    if any(upstream.https is HttpsMode.INTERCEPT for upstream in settings.upstreams):
        intercept = settings.intercept
        assert intercept.directory in mounts
        assert str(Path(str(intercept.private_directory)).parent) in mounts - {intercept.directory}
        assert all(root.startswith("/etc/breaker-proxy/") for root in intercept.extra_roots)
        assert "/etc/breaker-proxy" in mounts


def test_the_patch_of_cron_jobs_is_that_of_the_others() -> None:
    for component in ("sidecar", "intercept"):
        other = shipped(f"{component}/pod.yaml")["spec"]
        assert shipped(f"{component}/cronjob.yaml")["spec"]["jobTemplate"]["spec"] == other


def test_every_variable_goes_to_every_kind() -> None:
    for component in ("sidecar", "intercept"):
        values = shipped(f"{component}/values.yaml")
        assert all(name == entry["name"] for name, entry in values["env"].items())
        replacements = shipped(f"{component}/replacements.yaml")
        fields = [each["source"]["fieldPath"] for each in replacements]
        assert sorted(fields) == sorted(
            [*(f"env.{name}" for name in values["env"]), *(["mount"] if "mount" in values else [])]
        )
        for each in replacements:
            assert each["source"]["name"] == values["metadata"]["name"]
            kinds = [target["select"]["kind"] for target in each["targets"]]
            assert kinds == ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"]
            field = each["source"]["fieldPath"]
            name = field.removeprefix("env.")
            end = f".env.[name={name}]" if name != field else ".volumeMounts.[name=breaker-proxy-trust]"
            assert all(path.endswith(end) for target in each["targets"] for path in target["fieldPaths"])


def test_the_memory_limits_are_those_of_the_page_on_limits() -> None:
    (plain,) = shipped("sidecar/pod.yaml")["spec"]["template"]["spec"]["initContainers"]
    (intercepting,) = shipped("intercept/pod.yaml")["spec"]["template"]["spec"]["initContainers"]
    assert plain["resources"]["limits"] == {"memory": "1Gi"}
    assert memory_bytes(Limits()) <= 1024 * MIB
    assert intercepting["resources"]["limits"] == {"memory": "1280Mi"}
    assert memory_bytes(Limits(), 1, intercepts=True) <= 1280 * MIB


def test_the_table_of_memory_is_right() -> None:
    table = PAGE.partition("<!-- memory -->")[2].partition("<!-- end of memory -->")[0]
    row = r"max_connections: (\d+)`, `max_tunnels: (\d+)`\)? \| (\d+) MiB \| (\d+) MiB"
    rows = re.findall(row, table)
    assert len(rows) == 4
    for connections, tunnels, plain, intercepting in rows:
        limits = replace(Limits(), max_connections=int(connections), max_tunnels=int(tunnels))
        assert math.ceil(memory_bytes(limits) / MIB) == int(plain)
        assert math.ceil(memory_bytes(limits, 1, intercepts=True) / MIB) == int(intercepting)


def test_what_the_page_names_is_there() -> None:
    folders = {folder.name for folder in DEPLOY.iterdir()}
    table = PAGE.partition("| folder |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == folders
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", PAGE)) <= anchors
    for name in ("NO_PROXY", "no_proxy"):
        for entry in shipped("sidecar/values.yaml")["env"][name]["value"].split(","):
            assert f"`{entry}`" in PAGE
    for name in shipped("intercept/values.yaml")["env"]:
        assert f"`{name}`" in PAGE


def test_the_ends_of_the_page_are_those_of_the_manifests() -> None:
    moved = {each["path"]: each.get("value") for each in shipped("classic/container.yaml")}
    stop = moved["/spec/template/spec/containers/0/lifecycle"]["preStop"]["exec"]["command"]
    assert stop == ["sleep", "30"]
    assert moved["/spec/template/spec/terminationGracePeriodSeconds"] == 60
    assert "30 s, and the grace period is 60 s" in " ".join(PAGE.split())
