"""deploy/kubernetes: valid by the schemas of Kubernetes, whole, safe, and fit for Pods of any shape."""

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.process import command
from system.manifests import (
    DEPLOY,
    ROOT,
    SIDECAR,
    Manifest,
    applied,
    build,
    containers,
    expanded,
    most_memory,
    named,
    of_kind,
    pod,
    quantity,
    settings,
    shipped,
    sidecar,
    template,
    variables,
)

import proxy
from proxy.core.https import BUNDLE_NAME
from proxy.core.policy import Settings

NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]
NATIVE = ["1.29", "1.33", NEWEST]
CLASSIC = ["1.27", "1.28"]
# Kinds for which kubernetes-validate has no schema, so that nothing is said of them: none of ours.
WITHOUT_SCHEMA: frozenset[str] = frozenset()
SHIPPED = ["example", "standalone"]
PROXY_VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
TRUST_VARIABLES = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
]


def assert_valid(manifests: list[Manifest], version: str) -> None:
    """Holds each against its schema of that version, unknown fields being faults."""
    for manifest in manifests:
        if manifest["kind"] not in WITHOUT_SCHEMA:
            used = kubernetes_validate.validate(manifest, version, strict=True)
            assert used == version, f"there is no schema of {version}"


def workload(kind: str = "Deployment", name: str = "application", **of_pod: Any) -> Manifest:
    """Somebody's, with one plain container unless told otherwise."""
    spec = {"containers": [{"name": "application", "image": "application:1"}]} | of_pod
    labels = {"app": name}
    made: Manifest = {"metadata": {"labels": labels}, "spec": spec}
    selecting = {"selector": {"matchLabels": labels}, "template": made}
    body: dict[str, Manifest] = {
        "Deployment": selecting,
        "DaemonSet": selecting,
        "StatefulSet": selecting | {"serviceName": name},
        "Job": {"template": made},
        "CronJob": {"schedule": "@hourly", "jobTemplate": {"spec": {"template": made}}},
    }
    if "Job" in kind:
        spec["restartPolicy"] = "Never"
    group = "batch/v1" if "Job" in kind else "apps/v1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": body[kind]}


KINDS = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"]
ENV = [
    {"name": "OWN", "value": "1"},
    {"name": "HTTP_PROXY", "value": "http://corporate.example:8080"},
    {"name": "https_proxy", "valueFrom": {"configMapKeyRef": {"name": "own", "key": "proxy"}}},
    {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
]
SHAPES: dict[str, Manifest] = {
    "no variables": {},
    "variables, also ours": {"containers": [{"name": "a", "image": "a", "env": ENV}]},
    "variables from elsewhere": {
        "containers": [{"name": "a", "image": "a", "envFrom": [{"configMapRef": {"name": "own"}}]}]
    },
    "several containers": {
        "containers": [
            {"name": "a", "image": "a", "env": ENV},
            {"name": "b", "image": "b", "volumeMounts": [{"name": "own", "mountPath": "/own"}]},
            {"name": "c.d", "image": "c"},
        ],
        "volumes": [{"name": "own", "emptyDir": {}}],
    },
    "init containers": {
        "initContainers": [
            {"name": "migrate", "image": "m"},
            {"name": "other", "image": "o", "restartPolicy": "Always"},
        ]
    },
    "volumes": {"volumes": [{"name": "own", "secret": {"secretName": "own"}}]},
    "a long end": {"terminationGracePeriodSeconds": 300},
    "a security context": {"securityContext": {"runAsUser": 0, "fsGroup": 7}},
}


@pytest.mark.parametrize("version", NATIVE)
@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_valid(name: str, version: str) -> None:
    assert_valid(shipped(name), version)


def test_every_folder_is_built_by_some_test() -> None:
    components = {"sidecar", "intercept", "classic", "network-policy"}
    assert {folder.name for folder in DEPLOY.iterdir() if folder.is_dir()} == {*components, *SHIPPED}
    for name in components:
        assert yaml.safe_load((DEPLOY / name / "kustomization.yaml").read_text())["kind"] == "Component"


@pytest.mark.parametrize("version", [*CLASSIC, *NATIVE])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_classic_sidecar_is_valid_before_there_were_native_ones(
    tmp_path: Path, kind: str, version: str
) -> None:
    components = ["sidecar", "intercept", "network-policy", "classic"]
    manifests = applied(tmp_path, [workload(kind)], components)
    assert_valid(manifests, version)


def test_a_native_sidecar_is_not_valid_there(tmp_path: Path) -> None:
    manifests = applied(tmp_path, [workload()], ["sidecar"])
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicy"):
        assert_valid(manifests, "1.27")


@pytest.fixture(scope="session", params=["sidecar", "sidecar intercept network-policy"])
def everything(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], list[Manifest]]:
    """Some components, and what becomes of each kind in each shape with them."""
    components = request.param.split()
    before = [
        workload(kind, f"shape-{number}", **copy.deepcopy(SHAPES[shape]))
        for kind in KINDS
        for number, shape in enumerate(SHAPES)
    ]
    return components, applied(tmp_path_factory.mktemp("everything"), before, components)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_workload_gets_it(everything: tuple[list[str], list[Manifest]], kind: str, shape: str) -> None:
    components, manifests = everything
    name = f"shape-{list(SHAPES).index(shape)}"
    before = workload(kind, name, **SHAPES[shape])
    (after,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert_valid([after], NATIVE[0])
    assert_valid([after], NATIVE[-1])
    old, new = pod(before), pod(after)
    # Ours is the first of the init containers; the others are as they were, in their order.
    assert [each["name"] for each in containers(new)] == [
        SIDECAR,
        *(each["name"] for each in containers(old)),
    ]
    assert new["initContainers"][0]["restartPolicy"] == "Always"
    assert new["initContainers"][1:] == old.get("initContainers", [])
    assert_whole(new)
    expected = PROXY_VARIABLES + (TRUST_VARIABLES if "intercept" in components else [])
    for container in new["containers"]:
        own = named(old["containers"], container["name"])
        assert set(expected) <= set(variables(container))
        # What was there is there, but for variables of the same names.
        assert all(entry in container["env"] for entry in own.get("env", []) if entry["name"] not in expected)
        assert all(mount in container["volumeMounts"] for mount in own.get("volumeMounts", []))
        assert {name for name in container if container[name] != own.get(name)} <= {"env", "volumeMounts"}
    changed = {"initContainers", "containers", "volumes"}
    rest = {name: value for name, value in new.items() if name not in changed}
    assert rest == {name: value for name, value in old.items() if name not in changed}
    assert all(volume in new["volumes"] for volume in old.get("volumes", []))
    labels = template(after)["metadata"]["labels"]
    assert labels == template(before)["metadata"]["labels"] | {"breaker-proxy": "enabled"}


def assert_whole(spec: Manifest) -> None:
    """What an API server asks of a Pod beyond the schema."""
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    assert len(set(volumes)) == len(volumes)
    names = [container["name"] for container in containers(spec)]
    assert len(set(names)) == len(names)
    for container in containers(spec):
        mounts = container.get("volumeMounts", [])
        assert {mount["name"] for mount in mounts} <= set(volumes)
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        ports = {port["name"] for port in container.get("ports", [])}
        assert all(re.fullmatch(r"[a-z0-9-]{1,15}", port) for port in ports)
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in container:
                assert container[name]["httpGet"]["port"] in ports
        for entry in container.get("env", []):
            assert ("value" in entry) != ("valueFrom" in entry)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_labelled_so_is_left_alone(tmp_path: Path, kind: str) -> None:
    before = workload(kind)
    before["metadata"]["labels"] = {"breaker-proxy": "disabled"}
    other = workload(name="other")
    after = applied(tmp_path, [copy.deepcopy(before), other], ["sidecar", "intercept", "classic"])
    (same,) = [each for each in after if each["metadata"]["name"] == "application"]
    assert same == before


def test_jobs_get_no_classic_sidecar(tmp_path: Path) -> None:
    after = of_kind(applied(tmp_path, [workload("Job")], ["sidecar", "classic"]), "Job")
    assert [each["name"] for each in pod(after)["initContainers"]] == [SIDECAR]


def test_two_kustomizations_with_it_can_be_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        applied(tmp_path / name, [workload(name=name)], ["sidecar", "intercept"], namePrefix=f"team-{name}-")
    (tmp_path / "kustomization.yaml").write_text("resources: [a, b]\n")
    manifests = build(tmp_path)
    assert sorted(manifest["kind"] for manifest in manifests) == [
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "Deployment",
    ]
    configs = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    mounted = {
        named(pod(each)["volumes"], "breaker-proxy-config")["configMap"]["name"]
        for each in manifests
        if each["kind"] == "Deployment"
    }
    assert configs == mounted


def test_the_owner_has_the_last_word(tmp_path: Path) -> None:
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "application"},
        "spec": {
            "template": {
                "spec": {
                    "initContainers": [{"name": SIDECAR, "resources": {"limits": {"memory": "600Mi"}}}],
                    "containers": [
                        {
                            "name": "application",
                            "env": [
                                {"name": "NO_PROXY", "value": "mine"},
                                {"name": "https_proxy", "$patch": "delete"},
                            ],
                        }
                    ],
                }
            }
        },
    }
    patches = [{"patch": yaml.safe_dump(patch)}]
    spec = pod(of_kind(applied(tmp_path, [workload()], ["sidecar"], patches=patches), "Deployment"))
    given = variables(spec["containers"][0])
    assert given["NO_PROXY"] == "mine"
    assert set(given) == set(PROXY_VARIABLES) - {"https_proxy"}
    assert sidecar(spec)["resources"]["limits"] == {"memory": "600Mi"}


@pytest.mark.parametrize("is_hashed", [False, True])
def test_the_config_map_has_a_suffix_or_not(tmp_path: Path, *, is_hashed: bool) -> None:
    generator = {
        "name": SIDECAR,
        "files": ["config.yaml"],
        "options": {"disableNameSuffixHash": not is_hashed},
    }
    manifests = applied(tmp_path, [workload()], ["sidecar"], configMapGenerator=[generator])
    name = of_kind(manifests, "ConfigMap")["metadata"]["name"]
    assert name.startswith(f"{SIDECAR}-") if is_hashed else name == SIDECAR
    spec = pod(of_kind(manifests, "Deployment"))
    assert named(spec["volumes"], "breaker-proxy-config")["configMap"] == {"name": name}


# What it is that they get.


def ours(name: str) -> Manifest:
    """Our container of what is shipped."""
    return sidecar(pod(of_kind(shipped(name), "Deployment")))


def config(name: str, folder: Path) -> Settings:
    return settings(of_kind(shipped(name), "ConfigMap")["data"]["config.yaml"], folder)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_probes_ask_the_admin_port(name: str) -> None:
    container = ours(name)
    assert named(container["ports"], "bp-admin")["containerPort"] == 3129
    live, ready, start = (container[f"{kind}Probe"] for kind in ("liveness", "readiness", "startup"))
    assert live["httpGet"] == {"path": "/livez", "port": "bp-admin"}
    # A minute of silence until it is killed.
    assert (live["periodSeconds"], live["failureThreshold"]) == (10, 6)
    assert ready["httpGet"] == start["httpGet"] == {"path": "/readyz", "port": "bp-admin"}
    assert (start["periodSeconds"], start["failureThreshold"]) == (1, 60)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_may_do_nothing_that_it_need_not(name: str) -> None:
    spec = pod(of_kind(shipped(name), "Deployment"))
    for container in containers(spec):
        # The profile `restricted` of the Pod Security Standards, which the example's namespace enforces.
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPort" in port for port in container.get("ports", []))
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    restricted = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert all(set(volume) - {"name"} <= restricted for volume in spec["volumes"])
    assert (ours(name)["securityContext"]["runAsUser"], ours(name)["securityContext"]["runAsGroup"]) == (
        65532,
        65532,
    )
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert user.groups() == ("65532", "65532")


def test_no_token_of_a_service_account_is_in_it(tmp_path: Path) -> None:
    # Where Kubernetes would mount it in each container, it leaves alone what is mounted there.
    spec = pod(of_kind(applied(tmp_path, [workload()], ["sidecar"]), "Deployment"))
    (mount,) = [each for each in sidecar(spec)["volumeMounts"] if "serviceaccount" in each["mountPath"]]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert set(named(spec["volumes"], mount["name"])) == {"name", "emptyDir"}
    assert "automountServiceAccountToken" not in spec, "the application may need its own"
    assert pod(of_kind(shipped("standalone"), "Deployment"))["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", SHIPPED)
def test_its_memory_is_bounded_by_what_the_settings_can_take_and_its_cpu_is_not(
    name: str, tmp_path: Path
) -> None:
    resources = ours(name)["resources"]
    assert set(resources["limits"]) == {"memory"}
    limit = quantity(resources["limits"]["memory"])
    assert most_memory(config(name, tmp_path)) <= limit
    assert limit <= 1.15 * most_memory(config(name, tmp_path)), "far more than it can take"
    assert set(resources["requests"]) == {"cpu", "memory"}


def test_the_sidecar_alone_has_memory_for_the_defaults(tmp_path: Path) -> None:
    spec = pod(of_kind(applied(tmp_path, [workload()], ["sidecar"]), "Deployment"))
    assert most_memory(Settings()) <= quantity(sidecar(spec)["resources"]["limits"]["memory"])


@pytest.mark.parametrize("name", SHIPPED)
def test_there_is_time_for_its_end(name: str, tmp_path: Path) -> None:
    spec, drain = pod(of_kind(shipped(name), "Deployment")), config(name, tmp_path).drain
    assert drain.timeout + 2 <= spec["terminationGracePeriodSeconds"]
    assert "lifecycle" not in ours(name)
    # Whom a Service leads here stays away only some seconds after the signal.
    assert drain.quiet >= (10 if name == "standalone" else 0)


def test_a_classic_sidecar_waits_for_its_application(tmp_path: Path) -> None:
    native = applied(
        tmp_path, [workload(initContainers=[{"name": "migrate", "image": "m"}])], ["sidecar", "intercept"]
    )
    (tmp_path / "classic").mkdir()
    classic = applied(
        tmp_path / "classic",
        [workload(initContainers=[{"name": "migrate", "image": "m"}])],
        ["sidecar", "intercept", "classic"],
    )
    before, after = (pod(of_kind(each, "Deployment")) for each in (native, classic))
    assert_whole(after)
    assert [each["name"] for each in containers(after)] == ["migrate", SIDECAR, "application"]
    # It is the native one but for how it starts and ends.
    moved = copy.deepcopy(sidecar(after))
    lifecycle = moved.pop("lifecycle")
    assert moved | {"restartPolicy": "Always"} == sidecar(before)
    assert after["containers"][1] == before["containers"][0]
    command_, seconds = lifecycle["preStop"]["exec"]["command"]
    assert command_ == "sleep"
    assert int(seconds) + Settings().drain.timeout + 2 <= after["terminationGracePeriodSeconds"]


def test_the_sidecar_listens_on_loopback_whatever_the_file_says() -> None:
    given = variables(ours("example"))
    assert given == {
        "BREAKER_PROXY_LISTEN_PROXY": "127.0.0.1:3128",
        "BREAKER_PROXY_LISTEN_ADMIN": "0.0.0.0:3129",
    }


def test_what_does_not_go_through_it(tmp_path: Path) -> None:
    spec = pod(of_kind(applied(tmp_path, [workload()], ["sidecar"]), "Deployment"))
    made = expanded(spec["containers"][0], {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert made["NO_PROXY"] == made["no_proxy"]
    assert set(made["NO_PROXY"].split(",")) == {
        "localhost",
        "127.0.0.1",
        ".svc",
        ".cluster.local",
        "10.96.0.1",
        "metadata.google.internal",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
    }
    assert all(made[name] == "http://127.0.0.1:3128" for name in PROXY_VARIABLES if "no" not in name.lower())


def test_the_key_of_the_ca_is_in_no_other_container(tmp_path: Path) -> None:
    spec = pod(of_kind(shipped("example"), "Deployment"))
    found = config("example", tmp_path).intercept
    at = {mount["mountPath"]: mount["name"] for mount in sidecar(spec)["volumeMounts"]}
    private = next(
        at[str(folder)] for folder in Path(str(found.private_directory)).parents if str(folder) in at
    )
    shared = at[str(found.directory)]
    assert private != shared
    for container in spec["containers"]:
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert private not in mounts
        assert mounts[shared]["readOnly"] is True
        folder = mounts[shared]["mountPath"]
        files = {name: variables(container)[name] for name in TRUST_VARIABLES}
        assert files.pop("NODE_EXTRA_CA_CERTS") == f"{folder}/ca.crt"
        assert set(files.values()) == {f"{folder}/{BUNDLE_NAME}"}


def test_a_restart_of_the_container_finds_its_state(tmp_path: Path) -> None:
    for name in SHIPPED:
        spec = pod(of_kind(shipped(name), "Deployment"))
        state = Path(str(config(name, tmp_path).state_file)).parent
        (mount,) = [each for each in ours(name)["volumeMounts"] if each["mountPath"] == str(state)]
        assert "emptyDir" in named(spec["volumes"], mount["name"])


def test_the_images_are_of_this_version_and_can_be_had_from_elsewhere(tmp_path: Path) -> None:
    images = [{"name": SIDECAR, "newName": "registry.example/team/proxy", "digest": f"sha256:{'0' * 64}"}]
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        spec = pod(of_kind(applied(tmp_path / kind, [workload(kind)], ["sidecar"]), kind))
        assert sidecar(spec)["image"] == f"{SIDECAR}:{proxy.__version__}"
        (tmp_path / f"{kind}-moved").mkdir()
        moved = applied(tmp_path / f"{kind}-moved", [workload(kind)], ["sidecar"], images=images)
        assert sidecar(pod(of_kind(moved, kind)))["image"] == f"registry.example/team/proxy@sha256:{'0' * 64}"
    assert ours("standalone")["image"] == f"{SIDECAR}:{proxy.__version__}"
    assert ours("example")["image"].endswith(f"/{SIDECAR}:{proxy.__version__}")


def test_what_stands_around_the_standalone_proxy_means_its_pods() -> None:
    manifests = shipped("standalone")
    deployment, service = (of_kind(manifests, kind) for kind in ("Deployment", "Service"))
    labels, spec = template(deployment)["metadata"]["labels"].items(), pod(deployment)
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    for kind, name in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert of_kind(manifests, kind)["spec"][name]["matchLabels"].items() <= labels
    for spread in spec["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels
    (port,) = service["spec"]["ports"]
    assert named(ours("standalone")["ports"], port["targetPort"])["containerPort"] == port["port"] == 3128
    assert (
        deployment["spec"]["replicas"] > of_kind(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    )
    assert spec["enableServiceLinks"] is False
    opened = {
        port["port"]
        for rule in of_kind(manifests, "NetworkPolicy")["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert opened == {3128, 3129}


def test_the_standalone_proxy_asks_for_tokens(tmp_path: Path) -> None:
    found = config("standalone", tmp_path)
    assert found.listen.open_relay is False
    folder, key = os.path.split(str(found.listen.credentials_file))
    assert key == "tokens"
    spec = pod(of_kind(shipped("standalone"), "Deployment"))
    (mount,) = [each for each in ours("standalone")["volumeMounts"] if each["mountPath"] == folder]
    volume = named(spec["volumes"], mount["name"])["secret"]
    assert "subPath" not in mount
    assert volume == {"secretName": "breaker-proxy-credentials", "defaultMode": 0o440}
    assert spec["securityContext"]["fsGroup"] == ours("standalone")["securityContext"]["runAsGroup"]


def test_the_policy_of_the_sidecar_closes_the_admin_port_and_no_other() -> None:
    policy = of_kind(shipped("example"), "NetworkPolicy")["spec"]
    labels = template(of_kind(shipped("example"), "Deployment"))["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    everybody, some = policy["ingress"]
    assert "from" not in everybody
    for protocol, closed in (("TCP", {3129}), ("UDP", set[int]())):
        ranges = [each for each in everybody["ports"] if each["protocol"] == protocol]
        open_ = {port for each in ranges for port in range(each["port"], each["endPort"] + 1)}
        assert set(range(1, 65536)) - open_ == closed
    assert some["ports"] == [{"protocol": "TCP", "port": 3129}]


def test_a_config_map_that_is_missing_is_no_secret_default() -> None:
    # The component brings no settings of its own: whoever forgets theirs sees a Pod that waits for them.
    assert not list((DEPLOY / "sidecar").glob("config*"))
    shown = subprocess.run(
        ["grep", "-rl", "configMapGenerator", DEPLOY], capture_output=True, text=True, check=True
    )
    assert {Path(line).parent.name for line in shown.stdout.splitlines()} == set(SHIPPED)


def test_the_config_of_the_standalone_is_checked_by_the_program(tmp_path: Path) -> None:
    text = of_kind(shipped("standalone"), "ConfigMap")["data"]["config.yaml"]
    line = command("token", "team").stdout
    (tmp_path / "tokens").write_text(line)
    text = text.replace("/etc/breaker-proxy-credentials", str(tmp_path)).replace(
        "/var/lib/breaker-proxy/state", str(tmp_path)
    )
    (tmp_path / "config.yaml").write_text(text)
    checked = command("check", str(tmp_path / "config.yaml"))
    assert (checked.returncode, checked.stderr) == (0, "")


# The page.

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
KUSTOMIZATIONS = [block for block in BLOCKS if "components:" in block]
PATCHES = [block for block in BLOCKS if block.startswith("# patch.yaml\n")]


def of_the_page(folder: Path, kustomization: str, more: str = "", kind: str = "Deployment") -> list[Manifest]:
    """What the page has built, in the folder `shop`."""
    shop = folder / "shop"
    shop.mkdir()
    shutil.copytree(DEPLOY, shop / "breaker-proxy")
    others = [{"name": "dispatcher", "image": "a"}, {"name": "another-container", "image": "b"}]
    theirs = workload(kind, "dispatcher", containers=others)
    (shop / "deployment.yaml").write_text(yaml.safe_dump(theirs))
    (shop / "config.yaml").write_text("version: 1\n")
    (shop / "private-ca.pem").write_text("a certificate\n")
    (shop / "kustomization.yaml").write_text(kustomization + more)
    return build(shop)


@pytest.mark.parametrize("number", range(len(KUSTOMIZATIONS)))
def test_every_kustomization_of_the_page_builds(tmp_path: Path, number: int) -> None:
    manifests = of_the_page(tmp_path, KUSTOMIZATIONS[number])
    is_classic = "classic" in KUSTOMIZATIONS[number]
    assert_valid(manifests, CLASSIC[0] if is_classic else NATIVE[0])
    spec = pod(of_kind(manifests, "Deployment"))
    assert ("restartPolicy" in sidecar(spec)) != is_classic
    assert of_kind(manifests, "ConfigMap")["metadata"]["name"] == SIDECAR


def test_the_patches_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    first, volume, last = PATCHES
    (plain,) = [each for each in KUSTOMIZATIONS if "intercept" not in each]
    (classic,) = [each for each in KUSTOMIZATIONS if "classic" in each]
    for name, block, patch, kind in (
        ("native", plain, first, "Deployment"),
        ("deferred", plain, volume, "StatefulSet"),
        ("classic", classic, last, "Deployment"),
    ):
        (tmp_path / name).mkdir()
        indented = "".join(f"      {line}\n" for line in patch.splitlines())
        manifests = of_the_page(tmp_path / name, block, f"patches:\n  - patch: |\n{indented}", kind)
        found = of_kind(manifests, kind)
        spec = pod(found)
        if name == "deferred":
            assert_valid(manifests, NATIVE[0])
            (claim,) = found["spec"]["volumeClaimTemplates"]
            mounted = {mount["name"]: mount["mountPath"] for mount in sidecar(spec)["volumeMounts"]}
            (path,) = [yaml.safe_load(each)["defer"]["path"] for each in BLOCKS if "\ndefer:" in each]
            assert mounted[claim["metadata"]["name"]] == str(Path(path).parent)
            assert spec["securityContext"]["fsGroup"] == sidecar(spec)["securityContext"]["runAsGroup"]
            continue
        if name == "classic":
            assert spec["terminationGracePeriodSeconds"] == 150
            lifecycle = sidecar(spec)["lifecycle"]
            assert lifecycle["preStop"] == {"exec": {"command": ["sleep", "120"]}}
            assert "postStart" in lifecycle
            assert 120 + Settings().drain.timeout + 2 <= 150
            continue
        assert sidecar(spec)["resources"]["limits"] == {"memory": "640Mi"}
        given = variables(named(spec["containers"], "dispatcher"))
        assert given["NO_PROXY"] == given["no_proxy"]
        assert ".corp.example" in given["NO_PROXY"]
        assert set(variables(named(spec["containers"], "another-container"))) == {"NO_PROXY", "no_proxy"}


def test_the_shared_proxy_of_the_page_builds(tmp_path: Path) -> None:
    (block,) = [each for each in BLOCKS if "../breaker-proxy/standalone" in each]
    shutil.copytree(DEPLOY, tmp_path / "breaker-proxy")
    (tmp_path / "egress").mkdir()
    (tmp_path / "egress" / "kustomization.yaml").write_text(block)
    manifests = build(tmp_path / "egress")
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"egress"}
    assert_valid(manifests, NATIVE[-1])
    secret = named(pod(of_kind(manifests, "Deployment"))["volumes"], "credentials")["secret"]["secretName"]
    assert f"create secret generic {secret} -n egress --from-file=tokens" in PAGE
    name = of_kind(manifests, "Service")["metadata"]["name"]
    assert f"@{name}.egress.svc:3128" in PAGE
