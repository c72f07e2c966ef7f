"""The health check of the image, asked of a real proxy, of others that answer, and of nobody."""

import socket
import subprocess
import sys
from threading import Thread

import pytest
from support.process import ROOT, RunningProxy, environment, free_port

from proxy.livez import address, main

VARIABLE = "BREAKER_PROXY_LISTEN_ADMIN"


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("127.0.0.1:3129", ("127.0.0.1", 3129)),
        ("0.0.0.0:3129", ("127.0.0.1", 3129)),
        ("[::]:4000", ("::1", 4000)),
        ("[::1]:4000", ("::1", 4000)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("localhost:80", ("localhost", 80)),
        # An empty variable is unset to the program as well.
        ("", ("127.0.0.1", 3129)),
    ],
)
def test_whom_it_asks(listens: str, asked: tuple[str, int]) -> None:
    assert address({VARIABLE: listens}) == asked


def test_without_the_variable_it_asks_the_programs_default() -> None:
    assert address({}) == ("127.0.0.1", 3129)


def test_a_proxy_that_runs_lives_by_a_command_that_heeds_no_proxy() -> None:
    with RunningProxy() as proxy:
        asked = subprocess.run(
            [sys.executable, "-m", "proxy.livez"],
            cwd=ROOT,
            env=environment(**{VARIABLE: f"0.0.0.0:{proxy.admin_port}", "http_proxy": "http://127.0.0.1:9"}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "/livez says 200\n", "")


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main({VARIABLE: f"127.0.0.1:{port}"}) == 1
    assert capsys.readouterr().out.startswith(f"nobody answers on 127.0.0.1 port {port}: ")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 draining\r\nContent-Length: 0\r\n\r\n", "/livez says 503\n"),
        (b"", "nobody answers"),
        (b"SSH-2.0\r\n", "nobody answers"),
    ],
)
def test_somebody_else_there(answer: bytes, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(65536)
            client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve)
        thread.start()
        code = main({VARIABLE: f"127.0.0.1:{server.getsockname()[1]}"})
        thread.join()
    assert code == 1
    assert capsys.readouterr().out.startswith(says)
