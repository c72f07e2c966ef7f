"""A running process gets other settings: by SIGHUP, by a new file, under load, and while it ends."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

from support.outage import LocalUpstream
from support.process import (
    OPEN,
    PATIENCE_S,
    PROGRAM,
    ROOT,
    RunningProxy,
    environment,
    free_port,
    get,
    until,
)

RELOADED, NOT_RELOADED = "configuration reloaded", "configuration not reloaded"
# Only what the test does can end it within the time that a test has.
PATIENT = {"quiet": "0s", "timeout": "10m"}
CLIENTS = 8
WRONG = "circuit: {open: soon}\nlimits: {max_circuits: 0}\n"


class Load:
    """Clients that call all the time, half of them on a new connection each time."""

    def __init__(self, proxy: RunningProxy, url: str) -> None:
        self._port = proxy.proxy_port
        self._url = url
        self._is_over = Event()
        self.calls = [0] * CLIENTS
        self.failures: list[object] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [Thread(target=self._call, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def until_all_have_called_again(self) -> None:
        before = list(self.calls)
        until(
            lambda: (
                bool(self.failures)
                or all(now > then + 1 for now, then in zip(self.calls, before, strict=True))
            ),
            "nobody calls",
        )
        assert self.failures == []

    def _call(self, number: int) -> None:
        client = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            while not self._is_over.is_set():
                client.request("POST", self._url, b"x" * 1024)
                answer = client.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append((answer.status, answer.reason))
                    return
                self.calls[number] += 1
                if number % 2:
                    client.close()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the test is to know
            self.failures.append(error)
        finally:
            client.close()


def test_reloads_under_load_fail_no_request_and_lose_no_state() -> None:
    """Twenty of them, five broken; the others change every part."""
    with (
        LocalUpstream("localhost") as upstream,
        LocalUpstream() as dead,
        LocalUpstream("localhost") as failing,
        RunningProxy(circuit={"consecutive_failures": 5}) as proxy,
    ):
        dead.kill()
        for _ in range(5):
            get(proxy.proxy_port, dead.url)
        assert proxy.state(dead.authority) == OPEN
        failing.kill()
        for _ in range(3):
            get(proxy.proxy_port, failing.url)
        load = Load(proxy, upstream.url)
        with load.running():
            for number in range(20):
                load.until_all_have_called_again()
                is_bad = number % 4 == 3
                event = NOT_RELOADED if is_bad else RELOADED
                # It may be reloaded twice: the file is looked at as well.
                before = len(proxy.all_told(event))
                if is_bad:
                    proxy.write(WRONG)
                else:
                    proxy.configure(**other(number, upstream.port))
                proxy.send(signal.SIGHUP)
                proxy.told(event, before + 1)
                until(lambda: proxy.metric("config_reload_success") == (not is_bad), "it is not told")  # noqa: B023 -- it is asked at once
                assert proxy.state(dead.authority) == OPEN
            load.until_all_have_called_again()
        assert load.failures == []
        assert (len(proxy.all_told(RELOADED)) >= 15, len(proxy.all_told(NOT_RELOADED)) >= 5) == (True, True)
        # Two more failures make five in a row.
        assert get(proxy.proxy_port, failing.url).status == 502
        assert get(proxy.proxy_port, failing.url).status == 502
        assert proxy.state(failing.authority) == OPEN
        calls = sum(load.calls)
        assert (
            proxy.metric("circuit_calls_total", circuit=upstream.authority, scope="host", outcome="success")
            == calls
        )
        assert proxy.metric("requests_total", entry="forward", code_class="2xx", source="upstream") == calls


def other(number: int, port: int) -> dict[str, Any]:
    """Settings that differ from those before in every part."""
    return {
        "circuit": {"consecutive_failures": 5, "open": f"{60 + number}s", "window": f"{60 + number}s"},
        "timeouts": {"head": f"{10 + number}s", "dns": f"{5 + number}s", "upstream_idle": f"{number % 3}s"},
        "limits": {
            "max_circuits": 1000 + number,
            "idle_per_host": number % 5,
            "max_head": f"{16 + number}KiB",
        },
        "egress": {"addresses": "any", "deny": [f"192.0.2.{number}"]},
        "dns": {"ttl_max": f"{100 + number}s"},
        "upstreams": [{"match": f"localhost:{port}", "timeouts": {"head": f"{20 + number}s"}}] * (number % 2),
        "metrics": {"max_circuits": 100 + number},
        "log": {"access": ("all", "errors", "off")[number % 3], "level": ("info", "debug")[number % 2]},
        "via": bool(number % 2),
        "drain": PATIENT,
    }


def test_a_file_that_changes_is_read_without_a_signal() -> None:
    with LocalUpstream() as upstream, RunningProxy(egress={"addresses": "any"}) as proxy:
        assert get(proxy.proxy_port, upstream.url).status == 200
        proxy.configure(egress={"addresses": "any", "deny": ["127.0.0.0/8"]})
        assert proxy.told(RELOADED)["changed"] == ["egress"]
        assert proxy.told("egress", 2)["deny"] == ["127.0.0.0/8"]
        # Also on the connection that was kept alive.
        assert get(proxy.proxy_port, upstream.url).status == 502


def test_a_bad_file_changes_nothing_and_is_told_until_it_is_good() -> None:
    with LocalUpstream() as upstream, RunningProxy() as proxy:
        assert (proxy.metric("config_reload_success"), proxy.admin("/readyz").content) == (1, b"ok\n")
        proxy.write(WRONG)
        faults = proxy.told(NOT_RELOADED)["faults"]
        assert [fault.partition("config.yaml:")[2].split(":")[:2] for fault in faults] == [
            ["1", " circuit.open"],
            ["2", " limits.max_circuits"],
        ]
        ready = proxy.admin("/readyz")
        assert (ready.status, ready.content) == (
            200,
            b"ok\nthe configuration could not be reloaded: see the log\n",
        )
        assert proxy.metric("config_reload_success") == 0
        assert get(proxy.proxy_port, upstream.url).status == 200
        proxy.configure()
        assert proxy.told(RELOADED)["changed"] == []
        assert (proxy.metric("config_reload_success"), proxy.admin("/readyz").content) == (1, b"ok\n")
        assert len(proxy.all_told(NOT_RELOADED)) == 1


def test_the_command_line_and_the_environment_win_on_reload_too() -> None:
    environ = {"BREAKER_PROXY_LOG_LEVEL": "debug"}
    with LocalUpstream() as upstream, RunningProxy("--egress", "any", environ=environ) as proxy:
        proxy.configure(egress={"addresses": "public"}, log={"level": "error"}, via=False)
        proxy.send(signal.SIGHUP)
        assert proxy.told(RELOADED)["changed"] == ["via"]
        assert get(proxy.proxy_port, upstream.url).status == 200


def test_what_needs_a_restart_stays_and_is_told() -> None:
    with LocalUpstream() as upstream, RunningProxy(name="first") as proxy:
        listen = {"proxy": f"127.0.0.1:{free_port()}", "admin": "127.0.0.1:0"}
        proxy.configure(listen=listen, name="second", via=False)
        proxy.send(signal.SIGHUP)
        assert proxy.told(RELOADED)["changed"] == ["via"]
        told = [proxy.told("setting not changed: it needs a restart", number) for number in (1, 2)]
        assert [(line["level"], line["key"], line["in_force"], line["wanted"]) for line in told] == [
            ("warning", "name", "first", "second"),
            ("warning", "listen.proxy", "127.0.0.1:0", listen["proxy"]),
        ]
        assert get(proxy.proxy_port, upstream.url).status == 200


def test_who_may_use_the_admin_port_changes_and_events_end_for_the_others(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    (tmp_path / "token").write_text(token)
    with RunningProxy() as proxy, closing(HTTPConnection("127.0.0.1", proxy.admin_port)) as reader:
        reader.timeout = PATIENCE_S
        reader.request("GET", "/api/v1/events")
        events = reader.getresponse()
        assert events.status == 200
        proxy.configure(admin={"token_file": str(tmp_path / "token"), "hosts": ["admin.test"]})
        assert proxy.told(RELOADED)["changed"] == ["admin"]
        assert b"event:" not in events.read()
        with closing(HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE_S)) as caller:
            for fields, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
                caller.request("GET", "/api/v1/config", headers=fields)
                answer = caller.getresponse()
                config = answer.read()
                assert answer.status == status
        assert json.loads(config)["admin"] == {"token_file": str(tmp_path / "token"), "hosts": ["admin.test"]}
        assert not [line for line in proxy.lines if "restart" in line["event"]]


def test_a_signal_during_drain_is_ignored() -> None:
    with RunningProxy(drain=PATIENT) as proxy, socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(PATIENCE_S)
        with closing(HTTPConnection("127.0.0.1", proxy.proxy_port, timeout=PATIENCE_S)) as client:
            client.request("GET", f"http://127.0.0.1:{upstream.getsockname()[1]}/")
            held, _ = upstream.accept()
            with held:
                proxy.send(signal.SIGTERM)
                proxy.told("draining")
                proxy.configure(via=False)
                proxy.send(signal.SIGHUP)
                proxy.told("reload ignored: draining")
                assert proxy.admin("/readyz").content == b"draining\n"
                held.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                assert client.getresponse().status == 200
        assert proxy.ended() == 0
        assert proxy.all_told(RELOADED) == []


def test_a_pipe_in_place_of_the_file_does_not_hold_the_end() -> None:
    with RunningProxy() as proxy:
        proxy.make_pipe()
        assert "not a regular file" in proxy.told(NOT_RELOADED)["faults"][0]
        proxy.send(signal.SIGHUP)
        proxy.told(NOT_RELOADED, 2)
        proxy.send(signal.SIGTERM)
        assert proxy.ended() == 0


def test_a_signal_before_the_configuration_is_read_ends_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    with subprocess.Popen(
        [*PROGRAM, "run", "--config", str(config)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        with config.open("w") as written:
            process.send_signal(signal.SIGHUP)
            written.write("listen: {proxy: '127.0.0.1:0', admin: '127.0.0.1:0'}\n")
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "started":
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


def test_many_signals_at_once_make_few_reloads() -> None:
    with RunningProxy() as proxy:
        for _ in range(50):
            proxy.send(signal.SIGHUP)
        proxy.told(RELOADED)
        proxy.configure(via=False)
        proxy.send(signal.SIGHUP)
        until(lambda: any(line["changed"] for line in proxy.all_told(RELOADED)), "the last one is lost")
        assert len(proxy.all_told(RELOADED)) < 50


def test_without_a_file_there_is_nothing_to_fail() -> None:
    environ = {"BREAKER_PROXY_LISTEN_PROXY": "127.0.0.1:0", "BREAKER_PROXY_LISTEN_ADMIN": "127.0.0.1:0"}
    with RunningProxy(environ=environ, has_file=False) as proxy:
        proxy.send(signal.SIGHUP)
        assert proxy.told(RELOADED)["changed"] == []
