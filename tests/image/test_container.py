"""The image at work: without rights, on a root that cannot be written to, as the first process of its own."""

import os
import signal
import ssl
from pathlib import Path
from time import monotonic

import httpx
import pytest
import yaml
from image.buildah import Image
from image.container import ADMIN_PORT, OUTSIDE, PROXY_PORT, TMP, Mount, Start, through
from support import certificates
from support.outage import LocalUpstream
from support.process import get

ANY = {"BREAKER_PROXY_EGRESS": "any"}
# drain.quiet, and 1.5 s at most to end (docs/operations.md), and what a busy machine takes.
END_S = 5.0
USER = 65532


@pytest.fixture
def health(image: Image) -> list[str]:
    test: list[str] = image.config["Healthcheck"]["Test"]
    return test[1:]


def config(folder: Path, text: str) -> Mount:
    """A ConfigMap with this file."""
    file = folder / "config.yaml"
    file.write_text(f"version: 1\n{text}")
    file.chmod(0o644)
    folder.chmod(0o755)
    return Mount("/etc/breaker-proxy", folder)


def status_of(process: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_serves_without_rights_and_ends_in_order(start: Start) -> None:
    with start(environ=ANY) as container, LocalUpstream() as upstream:
        started = container.told("started")
        assert (started["proxy"], started["admin"]) == ("127.0.0.1:3128", "0.0.0.0:3129")
        status = status_of(container.pid)
        assert status["NSpid"].split()[-1] == "1"
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
        assert {status[name].lstrip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
            ""
        }
        assert status["NoNewPrivs"] == "1"
        assert container.execute(["touch", "/venv/new"]).code != 0
        assert through(upstream.url).status == 200
        ended, took_s = container.stop()
        assert (ended.code, ended.stderr) == (0, "")
        assert took_s < END_S
        assert container.told("stopped")["level"] == "info"


def test_others_reach_its_admin_port_and_not_its_proxy(start: Start) -> None:
    with start() as container:
        container.told("started")
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"http://{OUTSIDE}:{ADMIN_PORT}/readyz").status_code == 200
            assert client.get(f"http://{OUTSIDE}:{ADMIN_PORT}/api/v1/config").status_code == 401
            with pytest.raises(httpx.ConnectError):
                client.get(f"http://{OUTSIDE}:{PROXY_PORT}/")


def test_its_token_is_left_in_memory_for_its_user_alone(start: Start) -> None:
    with start() as container:
        path = container.told("admin token written")["path"]
        assert path == "/tmp/breaker-proxy/admin-3129.token"  # noqa: S108 -- the container's
        assert container.execute(["stat", "--format=%a %u", path]).stdout.split() == ["600", str(USER)]
        token = container.execute(["cat", path]).stdout.strip()
        container.told("started")
        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
            answer = client.get(f"http://{OUTSIDE}:{ADMIN_PORT}/api/v1/version")
        assert answer.status_code == 200


def test_its_health_check_knows_whether_it_lives(image: Image, start: Start, health: list[str]) -> None:
    with start() as container:
        container.told("started")
        healthy = container.execute(health)
        assert (healthy.code, healthy.stdout, healthy.stderr) == (0, "/livez says 200\n", "")
        os.kill(container.pid, signal.SIGSTOP)
        began = monotonic()
        stuck = container.execute(health)
        took_s = monotonic() - began
        os.kill(container.pid, signal.SIGCONT)
    assert stuck.code == 1
    # So that it is told why, and not only that the time is up.
    assert took_s < image.config["Healthcheck"]["Timeout"] / 1e9
    assert "127.0.0.1 port 3129: timed out" in stuck.stdout


def test_its_health_check_follows_the_admin_port(start: Start, health: list[str], tmp_path: Path) -> None:
    """A file cannot move it away from where the environment says it is."""
    mounts = (TMP, config(tmp_path, "listen: {admin: '127.0.0.1:4000'}\n"))
    arguments = ("run", "--config", "/etc/breaker-proxy/config.yaml")
    with start(*arguments, environ={"BREAKER_PROXY_LISTEN_ADMIN": "[::1]:4001"}, mounts=mounts) as container:
        assert container.told("started")["admin"] == "[::1]:4001"
        assert container.execute(health).code == 0


def test_its_settings_come_from_a_file_that_it_cannot_write(start: Start, tmp_path: Path) -> None:
    settings = "name: from-a-file\negress: {addresses: any}\ncircuit: {consecutive_failures: 1}\n"
    mounts = (TMP, config(tmp_path, settings))
    arguments = ("run", "--config", "/etc/breaker-proxy/config.yaml")
    with start(*arguments, mounts=mounts) as container, LocalUpstream() as upstream:
        container.told("started")
        assert container.execute(["touch", "/etc/breaker-proxy/config.yaml"]).code != 0
        assert through(upstream.url).headers["via"].endswith(" from-a-file")
        assert through("http://127.0.0.1:9/").status == 502
        assert through("http://127.0.0.1:9/").headers["x-breaker-reason"] == "circuit_open"
        assert container.stop()[0].code == 0


def test_wrong_settings_end_it_with_all_faults(start: Start, tmp_path: Path) -> None:
    mounts = (TMP, config(tmp_path, "circuit: {open: never}\ndrain: {quiet: 3 apples}\n"))
    ended = start("run", "--config", "/etc/breaker-proxy/config.yaml", mounts=mounts).run()
    assert ended.code == 2
    assert ended.stdout == ""
    faults = ended.stderr.splitlines()
    assert [fault.partition(" ")[0] for fault in faults] == [
        f"/etc/breaker-proxy/config.yaml:{n}:" for n in (2, 3)
    ]


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A volume that belongs to the user of the image."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    return folder


def test_it_intercepts_with_a_volume_for_its_key(start: Start, tmp_path: Path, private: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    os.chown(trust, USER, USER)
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "upstream.crt").write_bytes(Path(certificates.authority_path()).read_bytes())
    intercept = {
        "private_directory": "/var/lib/breaker-proxy/ca",
        "directory": "/var/lib/breaker-proxy/trust",
    }
    upstream_tls = {
        "match": "127.0.0.1",
        "https": "intercept",
        "tls": {"ca": "/etc/breaker-proxy/upstream.crt"},
    }
    sections = {"egress": {"addresses": "any"}, "intercept": intercept, "upstreams": [upstream_tls]}
    mounts = (
        TMP,
        config(settings, yaml.safe_dump(sections)),
        Mount("/var/lib/breaker-proxy/ca", private, "rw"),
        Mount("/var/lib/breaker-proxy/trust", trust, "rw"),
    )
    arguments = ("run", "--config", "/etc/breaker-proxy/config.yaml")
    with (
        start(*arguments, mounts=mounts) as container,
        LocalUpstream(tls=certificates.server("127.0.0.1")) as upstream,
    ):
        container.told("started")
        context = ssl.create_default_context(cafile=str(trust / "ca-bundle.crt"))
        with httpx.Client(proxy=f"http://127.0.0.1:{PROXY_PORT}", verify=context, trust_env=False) as client:
            answer = client.get(upstream.url)
        assert answer.status_code == 200
        assert "breaker-proxy" in answer.headers["via"], "it came through the proxy's own eyes"
        assert (private / "ca.key").stat().st_uid == USER
        # The authorities of the base as well, for upstreams that are not intercepted.
        assert (trust / "ca-bundle.crt").read_text().count("BEGIN CERTIFICATE") > 50
        assert container.stop()[0].code == 0


def test_nothing_is_compiled_at_a_start(start: Start) -> None:
    program = (
        "import os, sys, proxy.cli, proxy.demo, proxy.livez, proxy.wire.certificate_authority\n"
        "of = {name: getattr(module, '__cached__', None) for name, module in sorted(sys.modules.items())}\n"
        "print(len(of), [name for name, cached in of.items() if cached and not os.path.exists(cached)])\n"
    )
    ended = start("-c", program, entrypoint=["/venv/bin/python"]).run()
    assert ended.stderr == ""
    count, _, without = ended.stdout.partition(" ")
    assert int(count) > 300
    assert without.strip() == "[]"


def test_its_commands_work_without_anything_to_write_to(start: Start) -> None:
    assert start("version", mounts=()).run().stdout.startswith("breaker-proxy ")
    assert start("--help", mounts=()).run().code == 0


def test_without_tmp_it_serves_all_the_same(start: Start) -> None:
    with start(mounts=()) as container:
        container.told("started")
        assert get(ADMIN_PORT, "/readyz").status == 200
        assert container.stop()[0].code == 0
