"""The program as its user starts it: exit codes, what stands on standard error, and who overrides whom."""

import re
import socket
from pathlib import Path

import pytest
from support.outage import LocalUpstream
from support.process import RunningProxy, command, free_port, get

from proxy import __version__

ANY_PORTS = {"BREAKER_PROXY_LISTEN_PROXY": "127.0.0.1:0", "BREAKER_PROXY_LISTEN_ADMIN": "127.0.0.1:0"}

BAD = """\
circuit:
  open: soon
  opne: 30s
log: {level: loud}
"""
FAULTS = {2: "circuit.open", 3: "circuit.opne", 4: "log.level"}


def test_version() -> None:
    done = command("version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"breaker-proxy {__version__}\n", "")


def test_check_of_a_good_file() -> None:
    done = command("check", "config.example.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "config.example.yaml: ok\n", "")


def test_check_warns_of_what_may_not_do_what_is_expected(tmp_path: Path) -> None:
    file = tmp_path / "doubtful.yaml"
    # Every Linux has memory there.
    kept = "/dev/shm/breaker-proxy-deferred.db"  # noqa: S108 -- `check` makes no file
    file.write_text(f"{{defer: {{path: {kept}}}, upstreams: [{{match: a.test, fallback: {{defer: true}}}}]}}")
    done = command("check", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: ok\n")
    tunnels, memory = done.stderr.splitlines()
    assert tunnels.startswith(f"{file}: upstreams[0].fallback.defer: warning: HTTPS passes in tunnels")
    assert memory.startswith(f"{file}: defer.path: warning: it is in memory (tmpfs)")
    assert not Path(kept).exists()


@pytest.mark.parametrize("arguments", [("check",), ("run", "--config")])
def test_a_bad_file_ends_with_2_and_every_fault(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    done = command(*arguments, str(file))
    assert (done.returncode, done.stdout) == (2, "")
    faults = done.stderr.splitlines()
    assert len(faults) == len(FAULTS)
    for fault, (line, key) in zip(faults, FAULTS.items(), strict=True):
        assert fault.startswith(f"{file}:{line}:")
        assert key in fault


@pytest.mark.parametrize("arguments", [("check",), ("run", "--config")])
@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_an_unreadable_file_ends_with_2_and_its_name(
    arguments: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    done = command(*arguments, str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"{re.escape(str(file))}: .+\n", done.stderr)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("run", "--egress", "nowhere"), ("check",)])
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: breaker-proxy")


@pytest.mark.parametrize("taken", ["proxy", "admin"])
def test_a_port_in_use_ends_with_1_and_one_line_that_names_it(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = command("run", **ANY_PORTS | {f"BREAKER_PROXY_LISTEN_{taken.upper()}": address})
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"breaker-proxy: cannot listen on {address} (listen.{taken}): Address already in use\n"
    assert done.stderr == expected


def test_an_address_that_is_not_ours_ends_with_1_and_one_line_that_names_it() -> None:
    variables = {"BREAKER_PROXY_LISTEN_PROXY": "192.0.2.1:0", "BREAKER_PROXY_OPEN_RELAY": "true"}
    done = command("run", **ANY_PORTS | variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"breaker-proxy: cannot listen on 192\.0\.2\.1:0 .+\n", done.stderr)


def test_listening_for_other_machines_needs_open_relay() -> None:
    done = command("run", **ANY_PORTS | {"BREAKER_PROXY_LISTEN_PROXY": "0.0.0.0:0"})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"BREAKER_PROXY_LISTEN_PROXY: listen\.proxy: .*open_relay: true\n", done.stderr)


def test_open_relay_allows_it() -> None:
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0", "open_relay": False}
    variables = {"BREAKER_PROXY_LISTEN_PROXY": "0.0.0.0:0", "BREAKER_PROXY_OPEN_RELAY": "true"}
    with RunningProxy(environ=variables, listen=listen) as proxy:
        assert proxy.told("started")["proxy"].startswith("0.0.0.0:")


def test_the_environment_overrides_the_file() -> None:
    # Whoever took these ports would be told that they are privileged, or in use.
    listen = {"proxy": "127.0.0.1:1", "admin": "127.0.0.1:1"}
    variables = {**ANY_PORTS, "BREAKER_PROXY_EGRESS": "no-metadata", "BREAKER_PROXY_PORT": "tcp://10.0.0.1:1"}
    with RunningProxy(environ=variables, listen=listen) as proxy:
        assert proxy.proxy_port != 1
        assert proxy.admin_port != 1
        assert proxy.told("egress")["addresses"] == "no-metadata"


def test_the_command_line_overrides_the_environment() -> None:
    variables = {"BREAKER_PROXY_EGRESS": "any"}
    with RunningProxy("--egress", "public", environ=variables) as proxy:
        assert proxy.told("egress")["addresses"] == "public"


def test_the_environment_sets_the_log_level() -> None:
    variables = {"BREAKER_PROXY_EGRESS": "public", "BREAKER_PROXY_LOG_LEVEL": "error"}
    with RunningProxy(environ=variables, admin_port=free_port()) as proxy:
        assert proxy.admin("/readyz").status == 200
    assert proxy.lines == []


@pytest.mark.parametrize(
    "variable",
    [
        "BREAKER_PROXY_LISTEN_PROXY",
        "BREAKER_PROXY_LISTEN_ADMIN",
        "BREAKER_PROXY_OPEN_RELAY",
        "BREAKER_PROXY_EGRESS",
        "BREAKER_PROXY_LOG_LEVEL",
    ],
)
def test_a_wrong_variable_ends_with_2_and_its_name(variable: str) -> None:
    done = command("run", **{variable: "nonsense"})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"{variable}: .+\n", done.stderr)


def test_a_proxy_in_its_own_environment_is_ignored() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, LocalUpstream() as upstream:
        other = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        variables = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), other)
        with RunningProxy(environ=variables) as proxy:
            assert get(proxy.proxy_port, upstream.url).status == 200
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
