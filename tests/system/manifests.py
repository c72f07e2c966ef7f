"""The manifests of deploy/kubernetes as kubectl renders them, and how to find one's way in them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from proxy.control.config import load
from proxy.core.budget import memory_bytes
from proxy.core.https import HttpsMode
from proxy.core.policy import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "kubernetes"
# Beside the interpreter, from its wheel: Debian's own is too old to know components.
KUBECTL = Path(sys.executable).parent / "kubectl"
SIDECAR = "breaker-proxy"
Manifest = dict[str, Any]


def build(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send to a cluster.

    Raises:
        subprocess.CalledProcessError: kustomize refuses; its words are in `stderr`.
    """
    built = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=30, check=True
    )
    assert built.stderr == ""
    return list(yaml.safe_load_all(built.stdout))


@cache
def _shipped(name: str) -> str:
    return yaml.safe_dump_all(build(DEPLOY / name))


def shipped(name: str) -> list[Manifest]:
    """A folder of deploy/kubernetes, built once."""
    return list(yaml.safe_load_all(_shipped(name)))


def applied(
    folder: Path, resources: Sequence[Manifest], components: Sequence[str], **more: Any
) -> list[Manifest]:
    """Resources of somebody with our components.

    Args:
        folder: an empty one.
        resources: the somebody's.
        components: folders of deploy/kubernetes, in this order.
        more: fields of the kustomization.
    """
    (folder / "resources.yaml").write_text(yaml.safe_dump_all(resources))
    (folder / "config.yaml").write_text("version: 1\n")
    kustomization = {
        "resources": ["resources.yaml"],
        "components": [os.path.relpath(DEPLOY / name, folder) for name in components],
        "configMapGenerator": [{"name": SIDECAR, "files": ["config.yaml"]}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more))
    return build(folder)


def of_kind(manifests: Sequence[Manifest], kind: str) -> Manifest:
    """The only one of its kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def template(workload: Manifest) -> Manifest:
    """The Pods that it makes."""
    spec = workload["spec"]
    of_pods: Manifest = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return of_pods


def pod(workload: Manifest) -> Manifest:
    """The spec of the Pods that it makes."""
    spec: Manifest = template(workload)["spec"]
    return spec


def containers(spec: Manifest) -> Iterator[Manifest]:
    """All of a Pod, in the order in which they start."""
    yield from spec.get("initContainers", [])
    yield from spec["containers"]


def named(entries: Sequence[Manifest], name: str) -> Manifest:
    """The only entry of that name."""
    (found,) = [entry for entry in entries if entry["name"] == name]
    return found


def sidecar(spec: Manifest) -> Manifest:
    """Our container."""
    return named(list(containers(spec)), SIDECAR)


def variables(container: Manifest) -> dict[str, str]:
    """Those with a value of their own; each name once."""
    env = container.get("env", [])
    found = {entry["name"]: entry["value"] for entry in env if "value" in entry}
    assert len({entry["name"] for entry in env}) == len(env)
    return found


def expanded(container: Manifest, services: Mapping[str, str]) -> dict[str, str]:
    """Its environment as the kubelet makes it: `$(NAME)` is what came before, or a Service's."""
    made = dict(services)
    for name, value in variables(container).items():
        made[name] = re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: made.get(found[1], found[0]), value)
    return made


def settings(config: str, folder: Path) -> Settings:
    """A config.yaml, read as the program does; for directories that it names there need be none."""
    file = folder / "read.yaml"
    file.write_text(config)
    return load(file, {}, {})


def most_memory(of: Settings) -> int:
    """What the page on limits says that a process with these settings can take, in bytes."""
    intercepts = any(upstream.https is HttpsMode.INTERCEPT for upstream in of.upstreams)
    return memory_bytes(of.limits, len(of.upstreams), intercepts=intercepts)


def quantity(text: str) -> int:
    """A quantity of memory in bytes."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", text)
    assert found is not None
    return int(found[1]) * {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[found[2]]
