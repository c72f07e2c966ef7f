"""compose.yaml, as Docker's own program reads it: what it mounts is there, and what runs of it does run.

No engine is here to start all of it; what the dispatcher makes of its upstreams is in tests/process.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from image.container import TMP, Mount, Start
from support.process import ROOT

OURS = {"breaker-proxy", "dispatcher", "healthy", "flapping", "dead"}
Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def services() -> Services:
    read = subprocess.run(
        ["docker-compose", "--file", ROOT / "compose.yaml", "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (read.returncode, read.stderr) == (0, "")
    found: Services = yaml.safe_load(read.stdout)["services"]
    return found


def mounts_of(service: dict[str, Any]) -> list[list[str]]:
    """Source, target and mode of each."""
    return [volume.split(":") for volume in service.get("volumes", [])]


def test_all_services_are_there(services: Services) -> None:
    assert set(services) == OURS | {"prometheus", "grafana"}


def test_what_is_mounted_is_there_and_cannot_be_written(services: Services) -> None:
    mounts = [mount for service in services.values() for mount in mounts_of(service)]
    assert len(mounts) == 9
    assert [source for source, _, _ in mounts if not Path(source).exists()] == []
    assert {mode for _, _, mode in mounts} == {"ro"}


def test_nothing_is_offered_to_other_machines(services: Services) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {
        "breaker-proxy": ["127.0.0.1:3129:3129/tcp"],
        "prometheus": ["127.0.0.1:9090:9090/tcp"],
        "grafana": ["127.0.0.1:3000:3000/tcp"],
    }


def test_ours_have_no_rights_and_one_image(services: Services) -> None:
    for service in (services[name] for name in OURS):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["image"] == "breaker-proxy:0.1.0"
        assert service["build"] == {"context": str(ROOT)}


def test_the_dispatcher_stands_beside_the_proxy_as_in_a_pod(services: Services) -> None:
    assert services["dispatcher"]["network_mode"] == "service:breaker-proxy"
    assert services["dispatcher"]["environment"] == {"http_proxy": "http://127.0.0.1:3128"}
    assert services["breaker-proxy"]["stop_grace_period"] == "30s"


@pytest.mark.parametrize("name", sorted(OURS - {"breaker-proxy"}))
def test_the_scripts_of_the_demo_run_in_the_image(services: Services, name: str, start: Start) -> None:
    service = services[name]
    mounts = tuple(Mount(target, Path(source)) for source, target, _ in mounts_of(service))
    ended = start("--help", entrypoint=service["entrypoint"], mounts=mounts).run()
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: ")


def test_the_proxy_of_the_demo_starts_in_the_image(services: Services, start: Start) -> None:
    service = services["breaker-proxy"]
    mounts = tuple(Mount(target, Path(source)) for source, target, _ in mounts_of(service))
    with start(*service["command"], mounts=(TMP, *mounts)) as container:
        container.told("started")
        assert container.stop()[0].code == 0
