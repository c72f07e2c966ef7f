"""The Pods of deploy/kubernetes, really run: a kubelet in miniature, HTTPS, a real client (root, Linux)."""

import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from support import certificates
from support.process import PATIENCE_S, command, until
from system.kubelet import Pod
from system.manifests import (
    ROOT,
    SIDECAR,
    applied,
    named,
    of_kind,
    pod,
    settings,
    shipped,
    sidecar,
    variables,
)
from system.namespaces import network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

# The Pod's, and that of all it calls: public, as the egress guard wants it. Nothing leaves the namespace.
POD, INTERNET = "10.244.1.5", "8.8.8.8"
HOST = "hooks.example.com"
TOKEN = "/tmp/breaker-proxy/admin-3129.token"  # noqa: S108 -- a path in the container
Spec = dict[str, Any]


class Hook(BaseHTTPRequestHandler):
    """Answers with the status that the last segment of the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


@contextmanager
def internet() -> Iterator[None]:
    """A host of the internet at port 443."""
    with ThreadingHTTPServer((INTERNET, 443), Hook) as server:
        server.daemon_threads = True
        server.socket = certificates.server(HOST).wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield
        finally:
            server.shutdown()


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    with network(POD, INTERNET), internet():
        yield


def started(spec: Spec, folder: Path, **objects: dict[str, str]) -> Pod:
    return Pod(spec, objects, folder, POD, {HOST: INTERNET})


def example() -> tuple[Spec, dict[str, str]]:
    """The Pod of the example, and its ConfigMap."""
    manifests = shipped("example")
    data: dict[str, str] = of_kind(manifests, "ConfigMap")["data"]
    return pod(of_kind(manifests, "Deployment")), data


def status(running: Pod, application: Spec, url: str) -> str:
    """What the application's own client says of a call, with nothing but the application's environment."""
    called = running.execute(
        application,
        *("curl", "--silent", "--show-error", "--max-time", "10", "--output", "/dev/null"),
        *("--write-out", "%{http_code}", url),
    )
    assert called.returncode == 0, called.stderr
    return called.stdout


def asked(port: int, path: str, token: str | None = None, at: str = POD) -> tuple[int, bytes]:
    connection = HTTPConnection(at, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def told(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def assert_confined(running: Pod, pid: int, container: Spec, application: Spec) -> None:
    # It runs as its user, with no capability, and can write nowhere but into its volumes.
    found = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", found, re.MULTILINE)
    assert re.search(r"^CapEff:\t0{16}$", found, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", found, re.MULTILINE)
    refused = running.execute(container, "sh", "-c", "touch /new /etc/breaker-proxy/new /var/lib/new")
    assert refused.stderr.count("Read-only file system") == 3
    # No other container has the key of the CA, and none may change what is trusted.
    assert running.execute(container, "ls", "/var/lib/breaker-proxy/private/ca").returncode == 0
    assert running.execute(application, "ls", "/var/lib/breaker-proxy/private").returncode != 0
    refused = running.execute(application, "touch", "/var/run/breaker-proxy/new")
    assert "Read-only file system" in refused.stderr


def test_the_example_protects_its_application(tmp_path: Path) -> None:
    spec, config = example()
    container, application = sidecar(spec), named(spec["containers"], "dispatcher")
    running = started(spec, tmp_path, **{SIDECAR: config})
    checked = running.execute(container, "breaker-proxy", "check", "/etc/breaker-proxy/config.yaml")
    assert (checked.returncode, checked.stderr) == (0, "")

    log = tmp_path / "first.log"
    with running.running(container, log) as process:
        assert running.probe(container, "readinessProbe")
        assert running.probe(container, "livenessProbe")
        # The proxy is for this Pod alone.
        with pytest.raises(ConnectionRefusedError):
            asked(3128, "/")
        # Its HTTPS is seen: a status counts, and the refusal is one that the client can read.
        assert status(running, application, f"https://{HOST}/200") == "200"
        assert [status(running, application, f"https://{HOST}/500") for _ in range(6)] == ["500"] * 5 + [
            "503"
        ]
        assert status(running, application, f"https://{HOST}/200") == "200"
        # The API wants the token, which is where the page says.
        assert f"cat {TOKEN}\n" in (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
        assert asked(3129, "/api/v1/circuits")[0] == 401
        token = running.execute(container, "cat", TOKEN).stdout.strip()
        answer, content = asked(3129, "/api/v1/circuits?state=open", token)
        assert answer == 200
        (circuit,) = json.loads(content)["circuits"]
        assert circuit["key"].startswith(f"{HOST}:443#")
        assert_confined(running, process.pid, container, application)
        state = running.volume("breaker-proxy-state") / "circuits.json"
        until(lambda: state.exists() and circuit["key"] in state.read_text(), "the state is not saved")
    (first,) = told(log, "intercepting")

    # The container is started anew (it was killed): what is open stays open, and clients trust it as before.
    log = tmp_path / "second.log"
    with running.running(container, log) as process:
        assert status(running, application, f"https://{HOST}/500") == "503"
        assert status(running, application, f"https://{HOST}/200") == "200"
        (second,) = told(log, "intercepting")
        assert second["fingerprint_sha256"] == first["fingerprint_sha256"]
        # A changed ConfigMap is read; a wrong one changes nothing, and shows.
        running.publish(
            "breaker-proxy-config", {"config.yaml": config["config.yaml"] + "log: {access: all}\n"}
        )
        until(lambda: len(told(log, "configuration reloaded")) == 1, "it is not reloaded")
        running.publish("breaker-proxy-config", {"config.yaml": "version: 1\nnonsense: 1\n"})
        until(lambda: len(told(log, "configuration not reloaded")) == 1, "it is not refused")
        assert b"breaker_proxy_config_reload_success 0.0" in asked(3129, "/metrics")[1]
        assert status(running, application, f"https://{HOST}/500") == "503"
        # At night: nothing is refused any more.
        observing = config["config.yaml"] + "circuit: {mode: observe}\n"
        running.publish("breaker-proxy-config", {"config.yaml": observing})
        until(lambda: len(told(log, "configuration reloaded")) == 2, "it is not reloaded")
        assert status(running, application, f"https://{HOST}/500") == "500"
        # The application has ended; a native sidecar is told then.
        assert running.terminate(process, spec["terminationGracePeriodSeconds"]) == 0


def test_the_dispatcher_of_the_example_calls_and_ends(tmp_path: Path) -> None:
    spec, config = example()
    container, application = sidecar(spec), named(spec["containers"], "dispatcher")
    running = Pod(spec, {SIDECAR: config}, tmp_path, POD, {HOST: INTERNET, "example.com": INTERNET})
    with running.running(container, tmp_path / "log"):
        process = subprocess.Popen(
            running.command(application, [*application["command"], *application["args"]]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                # One of the two that it calls has a certificate for another host, the other has no address.
                assert process.stdout.readline() == "502 https://example.com/\n"
                assert process.stdout.readline() == "502 https://nobody.invalid/hook\n"
                process.terminate()
                assert process.wait(10) == 0
            finally:
                process.kill()


def test_private_authorities_are_hidden_unless_they_are_named(tmp_path: Path) -> None:
    spec, config = example()
    container, application = sidecar(spec), named(spec["containers"], "dispatcher")
    # Both at once: a client that trusts one of ours and one of its own, past the proxy (NO_PROXY).
    named(application["env"], "NO_PROXY")["value"] += ",private.example.com"
    named(application["env"], "no_proxy")["value"] += ",private.example.com"
    private = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private.issue_cert("private.example.com").configure_cert(context)
    inside = "10.96.7.7"
    text = config["config.yaml"]
    assert "extra_roots: []" in text
    named_roots = text.replace("extra_roots: []", "extra_roots: [/etc/breaker-proxy/private-ca.pem]")
    with network(POD, INTERNET, inside), ThreadingHTTPServer((inside, 443), Hook) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            for folder, told_roots, expected in (("without", text, 60), ("with", named_roots, 0)):
                (tmp_path / folder).mkdir()
                data = {"config.yaml": told_roots, "private-ca.pem": private.cert_pem.bytes().decode()}
                running = Pod(spec, {SIDECAR: data}, tmp_path / folder, POD, {"private.example.com": inside})
                with running.running(container, tmp_path / folder / "log"):
                    called = running.execute(
                        application, "curl", "--silent", "--max-time", "10", "https://private.example.com/200"
                    )
                    assert called.returncode == expected
        finally:
            server.shutdown()


def test_a_classic_sidecar_holds_the_application_and_outlives_it(tmp_path: Path) -> None:
    spec = pod(
        of_kind(
            applied(
                tmp_path,
                [of_kind(shipped("example"), "Deployment") | {"spec": plain()}],
                ["sidecar", "classic"],
            ),
            "Deployment",
        )
    )
    container = spec["containers"][0]
    (tmp_path / "pod").mkdir()
    config = "version: 1\nstate_file: /var/lib/breaker-proxy/state/circuits.json\n"
    # The generated name has a suffix.
    name = named(spec["volumes"], "breaker-proxy-config")["configMap"]["name"]
    running = Pod(spec, {name: {"config.yaml": config}}, tmp_path / "pod", POD, {HOST: INTERNET})
    waits = container["lifecycle"]["postStart"]["exec"]["command"]
    with subprocess.Popen(running.command(container, waits), stderr=subprocess.PIPE, text=True) as hook:
        # It runs into an end only once the proxy is there.
        with pytest.raises(subprocess.TimeoutExpired):
            hook.wait(0.5)
        with running.running(container, tmp_path / "log") as process:
            assert hook.wait(PATIENCE_S) == 0
            stop = container["lifecycle"]["preStop"]["exec"]["command"]
            assert stop[0] == "sleep"
            assert running.execute(container, "sleep", "0").returncode == 0
            left = spec["terminationGracePeriodSeconds"] - int(stop[1])
            assert running.terminate(process, left) == 0


def plain() -> Spec:
    """A Deployment's spec with a container and nothing else."""
    return {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "application", "image": "a"}]},
        },
    }


def test_the_standalone_proxy_serves_those_who_show_a_token(tmp_path: Path) -> None:
    manifests = shipped("standalone")
    spec = pod(of_kind(manifests, "Deployment"))
    (container,) = spec["containers"]
    made = command("token", "team-a")
    line, token = made.stdout, made.stderr.strip().rpartition("team-a:")[2].split()[0]
    running = started(
        spec,
        tmp_path,
        **{
            "breaker-proxy-standalone": of_kind(manifests, "ConfigMap")["data"],
            "breaker-proxy-credentials": {"tokens": line},
        },
    )
    service = of_kind(manifests, "Service")["spec"]["ports"][0]
    port = named(container["ports"], service["targetPort"])["containerPort"]
    client = ["curl", "--silent", "--output", "/dev/null", "--max-time", "10"]
    client += ["--write-out", "%{http_connect} %{http_code}", "--cacert", certificates.authority_path()]
    client += ["--resolve", f"{HOST}:443:{INTERNET}", f"https://{HOST}/200"]
    # With grace for the drain that the Pod's own config asks for, and no more.
    grace = spec["terminationGracePeriodSeconds"]
    data = of_kind(manifests, "ConfigMap")["data"]["config.yaml"]
    assert settings(data, tmp_path).drain.timeout + 2 <= grace
    with running.running(container, tmp_path / "log") as process:
        for user, expected in (
            (f"team-a:{token}@", "200 200"),
            ("team-a:wrong@", "407 000"),
            ("", "407 000"),
        ):
            called = subprocess.run(
                [*client, "--proxy", f"http://{user}{POD}:{port}"],
                env={"PATH": os.environ["PATH"]},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert called.stdout == expected
        # The Secret is for its group, not for everybody.
        seen = running.execute(
            container, "stat", "-L", "-c", "%a %g", "/etc/breaker-proxy-credentials/tokens"
        )
        assert seen.stdout == "440 65532\n"
        assert running.terminate(process, grace) == 0


def test_the_variables_name_where_the_sidecar_listens() -> None:
    spec, _ = example()
    at = variables(sidecar(spec))["BREAKER_PROXY_LISTEN_PROXY"]
    given = variables(named(spec["containers"], "dispatcher"))
    assert {given[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")} == {
        f"http://{at}"
    }
