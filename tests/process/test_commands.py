"""The commands against a running proxy, each a process of its own: in a pipe, and on a terminal."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from support.odd_server import OddServer, answers, is_silent
from support.process import (
    PATIENCE_S,
    PROGRAM,
    ROOT,
    RunningProxy,
    command,
    environment,
    free_port,
    get,
    until,
)
from support.terminal import Terminal

KEY = "127.0.0.1:9"
TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningProxy]:
    # What has happened stays as it is for longer than all the tests of it take on a busy machine.
    with RunningProxy(circuit={"open": "10m", "open_max": "10m", "window": "10m"}) as running:
        fail(running, KEY)
        fail(running, "127.0.0.1:11", times=1)
        yield running


def fail(proxy: RunningProxy, key: str, times: int = 6) -> None:
    for _ in range(times):
        get(proxy.proxy_port, f"http://{key}/")


def at(proxy: RunningProxy) -> tuple[str, str]:
    return ("--admin", f"127.0.0.1:{proxy.admin_port}")


def done(*arguments: str, **variables: str) -> str:
    """Runs a command that has to do what it should; what it has written."""
    ended = command(*arguments, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def refused(*arguments: str, **variables: str) -> str:
    """Runs a command that has to fail; what it says of that."""
    ended = command(*arguments, **variables)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("breaker-proxy: ")
    return ended.stderr


def steered(proxy: RunningProxy, number: int) -> dict[str, Any]:
    return proxy.told("circuit steered", number)


def test_the_list_is_one_document_in_a_pipe(proxy: RunningProxy) -> None:
    found = json.loads(done("circuits", *at(proxy)))
    assert [circuit["key"] for circuit in found["circuits"]] == [KEY, "127.0.0.1:11"]
    assert (
        found["circuits"][0].keys()
        == json.loads(get(proxy.admin_port, "/api/v1/circuits").content)["circuits"][0].keys()
    )
    assert found["total"] == 2
    for option, keys in (
        (("--state", "open", "--state", "half_open"), [KEY]),
        (("--search", ":11"), ["127.0.0.1:11"]),
        (("--sort", "key"), ["127.0.0.1:11", KEY]),
        (("--sort", "key", "--reverse"), [KEY, "127.0.0.1:11"]),
        (("--sort", "calls"), ["127.0.0.1:11", KEY]),
        (("--sort", "rejected"), [KEY, "127.0.0.1:11"]),
        (("--limit", "1"), [KEY]),
    ):
        found = json.loads(done("circuits", *at(proxy), *option))
        assert [circuit["key"] for circuit in found["circuits"]] == keys, option


def test_one_circuit(proxy: RunningProxy) -> None:
    assert json.loads(done("circuit", "show", KEY, *at(proxy)))["last_failures"][0]["kind"] == "refused"
    with Terminal("circuit", "show", KEY, *at(proxy)) as terminal:
        assert terminal.ended() == 0
        assert f"{KEY}  ■ open" in terminal.text
        assert "consecutive failures: refused" in terminal.text


def test_on_a_terminal_it_is_a_table_that_fits_its_width(proxy: RunningProxy) -> None:
    for width, column in ((80, "next probe"), (120, "latency")):
        with Terminal("circuits", *at(proxy), width=width) as terminal:
            assert terminal.ended() == 0
        lines = terminal.text.splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].split()[0] == f"127.0.0.1:{proxy.admin_port}"
        assert re.search(rf"^circuit +state .*{column}", terminal.text, re.MULTILINE)
        assert re.search(rf"^{re.escape(KEY)} +■ open .* in \d+m", terminal.text, re.MULTILINE)
        assert "\x1b[1;31m" in terminal.raw


def test_json_and_no_color_are_obeyed_on_a_terminal(proxy: RunningProxy) -> None:
    with Terminal("circuits", "--json", *at(proxy)) as terminal:
        assert terminal.ended() == 0
        assert json.loads(terminal.text)["total"] == 2
        assert "\x1b" not in terminal.raw
    for variable in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with Terminal("circuits", *at(proxy), variables=variable) as terminal:
            assert terminal.ended() == 0
            assert "■ open" in terminal.text
            assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.raw)


def test_without_rich_a_terminal_gets_json_and_a_hint(proxy: RunningProxy, tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with Terminal("circuits", *at(proxy), variables={"PYTHONPATH": path}, width=200) as terminal:
        assert terminal.ended() == 0
    hint, _, document = terminal.text.partition("\n")
    assert "breaker-proxy[terminal]" in hint
    assert json.loads(document)["total"] == 2


def test_actions_say_what_was_done_and_until_when() -> None:
    with RunningProxy() as proxy:
        said = done("circuit", "open", "a.test:80", "--for", "10m", "--note", "they move", *at(proxy))
        assert re.fullmatch(
            r"a\.test:80 is forced open until (\d+ \w+ )?[\d:]{8} \(10m\); no call has come to it so far\n",
            said,
        )
        told = steered(proxy, 1)
        assert (told["circuit"], told["action"], told["ttl_s"], told["note"]) == (
            "a.test:80",
            "open",
            600,
            "they move",
        )
        assert done("circuit", "auto", "a.test", *at(proxy)) == "a.test:80 is half-open, not forced\n"
        said = done("circuit", "close", "A.test", *at(proxy))
        assert said.startswith("a.test:80 is forced closed until `breaker-proxy circuit auto a.test:80`")
        assert done("circuit", "reset", "a.test:80", *at(proxy)) == "a.test:80 is closed, beginning anew\n"
        answer = json.loads(done("circuit", "open", "[::1]:80", "--json", *at(proxy)))
        assert (answer["key"], answer["state"]) == ("[::1]:80", "forced_open")


def test_what_the_proxy_refuses_comes_with_advice(proxy: RunningProxy) -> None:
    said = refused("circuit", "auto", "127.0.0.1:90", *at(proxy))
    assert (
        said
        == f"breaker-proxy: 127.0.0.1:90: there is no circuit by this name (is it {KEY} or 127.0.0.1:11?)\n"
    )
    assert "several circuits" in refused("circuit", "show", "127.0.0.1", *at(proxy))
    assert "no circuit for nowhere" in refused("circuit", "open", "nowhere", *at(proxy))
    for odd in ("..:80", "a/b:80", "é:80", f"{KEY}#x", "\x1b(0:80"):
        said = refused("circuit", "open", odd, *at(proxy))
        assert "names no circuit" in said
        assert "\x1b" not in said
    with RunningProxy(circuit={"mode": "disabled"}) as disabled:
        assert "circuit.mode is disabled" in refused("circuit", "open", KEY, *at(disabled))


def test_where_nobody_or_somebody_else_answers(proxy: RunningProxy) -> None:
    port = free_port()
    said = refused("circuits", "--admin", f"127.0.0.1:{port}")
    assert said.startswith(
        f"breaker-proxy: nothing listens on 127.0.0.1:{port} (--admin): is breaker-proxy running?"
    )
    assert "port for clients" in refused("circuits", "--admin", f"127.0.0.1:{proxy.proxy_port}")
    assert "cannot be reached" in refused("circuits", "--admin", "name.invalid")
    with OddServer(answers(b"<html>")) as other:
        assert "not the admin port" in refused("circuits", "--admin", f"127.0.0.1:{other.port}")
    assert "nothing listens" in refused("circuits", "--admin", f"127.0.0.2:{proxy.admin_port}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("circuits", "--state", "ajar"),
        ("circuits", "--sort", "luck"),
        ("circuits", "--limit", "0"),
        ("circuits", "--limit", "9" * 5000),
        ("circuits", "--search", "x" * 201),
        ("circuits", "--admin", "https://a"),
        ("circuits", "extra"),
        ("circuit",),
        ("circuit", "open"),
        ("circuit", "ajar", KEY),
        ("circuit", "open", ""),
        ("circuit", "open", KEY, "--for", "soon"),
        ("circuit", "open", KEY, "--note", "a\nb"),
        ("circuit", "auto", KEY, "--for", "10m"),
        ("completion", "tcsh"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...]) -> None:
    ended = command(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: breaker-proxy")


def test_the_configuration_says_where_it_is(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with RunningProxy(admin={"token_file": str(token)}) as proxy:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"listen: {{admin: '0.0.0.0:{proxy.admin_port}'}}\nadmin: {{token_file: {token}}}\n"
        )
        assert json.loads(done("circuits", "--config", str(config)))["total"] == 0
        assert json.loads(done("circuits", *at(proxy), "--token-file", str(token)))["total"] == 0
        variable = {"BREAKER_PROXY_LISTEN_ADMIN": f"127.0.0.1:{proxy.admin_port}"}
        assert json.loads(done("circuits", "--token-file", str(token), **variable))["total"] == 0
        said = refused("circuits", *at(proxy), XDG_RUNTIME_DIR=str(tmp_path))
        assert f"{tmp_path}/breaker-proxy/admin-{proxy.admin_port}.token: No such file" in said
        token.write_text(TOKEN[::-1])
    config.write_text("circuit: {opne: 1s}\n")
    ended = command("circuits", "--config", str(config))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"{config}:1: circuit.opne: unknown key")


def test_a_token_that_the_proxy_has_made_is_found(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with RunningProxy(listen={"proxy": "127.0.0.1:0", "admin": "0.0.0.0:0"}, environ=runtime) as proxy:
        token = (tmp_path / "breaker-proxy" / f"admin-{proxy.admin_port}.token").read_text().strip()
        assert json.loads(done("circuits", *at(proxy), **runtime))["total"] == 0
        assert token not in refused(
            "circuits", *at(proxy), XDG_RUNTIME_DIR="/nonexistent", TMPDIR=str(elsewhere)
        )
        ended = command("circuit", "open", KEY, *at(proxy), **runtime)
        assert ended.returncode == 0
        assert token not in ended.stdout + ended.stderr


class Following:
    """A command that goes on, its output a line at a time."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def remark(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def interrupted(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors


def test_events_are_lines_and_a_restart_of_the_proxy_is_told() -> None:
    port = free_port()
    with RunningProxy(admin_port=port) as proxy:
        following = Following("events", *at(proxy))
        done("circuit", "open", "a.test:80", "--note", "é [b]", *at(proxy))
        with following:
            # It begins with what was the latest when it asked, so that nothing may be lost from then on.
            while True:
                done("circuit", "reset", "a.test:80", *at(proxy))
                told = following.line()
                if told["transition"]["reason"] == "reset":
                    break
            assert told["key"] == "a.test:80"
            proxy.crash()
            assert "has broken off" in following.remark()
            with RunningProxy(admin_port=port) as again:
                done("circuit", "open", "c.test:80", *at(again))
                remark = following.remark()
                while "connected again" not in remark:
                    remark = following.remark()
                while "missed" not in (line := following.line()):
                    assert line["key"] == "a.test:80"
                assert line == {"missed": None}
                assert following.line()["key"] == "c.test:80"
                assert following.interrupted() == (0, "")


def test_whoever_reads_no_more_ends_it_without_a_word(proxy: RunningProxy) -> None:
    program = f"{sys.executable} -m proxy circuits --admin 127.0.0.1:{proxy.admin_port}"
    ended = subprocess.run(
        ["sh", "-c", f"({program}; echo $? >&2) | head -n 0"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == (b"", b"0\n")


def test_whoever_reads_no_more_of_a_watch_ends_it() -> None:
    with RunningProxy() as proxy, Following("circuits", "--watch", *at(proxy)) as following:
        following.line()
        assert following.process.stdout is not None
        following.process.stdout.close()
        done("circuit", "open", "a.test:80", *at(proxy))
        assert following.process.wait(PATIENCE_S) == 0
        assert following.process.stderr is not None
        assert following.process.stderr.read() == ""


def test_ctrl_c_ends_a_command_that_waits_without_a_word() -> None:
    with (
        OddServer(is_silent) as silent,
        Following("circuits", "--admin", f"127.0.0.1:{silent.port}") as waiting,
    ):
        until(lambda: bool(silent.heads), "it does not ask")
        assert waiting.interrupted() == (130, "")


def test_watching_in_a_pipe_is_a_document_for_each_change() -> None:
    with RunningProxy() as proxy, Following("circuits", "--watch", *at(proxy)) as following:
        assert following.line()["total"] == 0
        done("circuit", "open", "a.test:80", *at(proxy))
        assert following.line()["circuits"][0]["state"] == "forced_open"
        assert following.interrupted() == (0, "")


@pytest.mark.parametrize(("ending", "code"), [("\x03", 0), (signal.SIGTERM, 143)])
def test_watching_on_a_terminal_shows_what_happens_and_gives_the_terminal_back(
    ending: str | signal.Signals, code: int
) -> None:
    with RunningProxy() as proxy, Terminal("circuits", "--watch", *at(proxy)) as terminal:
        terminal.shows("no circuits so far")
        fail(proxy, KEY)
        terminal.shows(f"{KEY} ")
        assert "\x1b[?1049h" in terminal.raw
        assert "\x1b[?1049l" not in terminal.raw
        if isinstance(ending, str):
            terminal.press(ending)
        else:
            terminal.send(ending)
        assert terminal.ended() == code
        assert terminal.raw.rindex("\x1b[?1049l") > terminal.raw.rindex(KEY)
        # The cursor is seen again.
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
        assert "Traceback" not in terminal.text


def test_watching_outlasts_a_proxy_that_is_away() -> None:
    port = free_port()
    with RunningProxy(admin_port=port) as proxy:
        terminal = Terminal("circuits", "--watch", *at(proxy))
        with terminal:
            terminal.shows("no circuits so far")
            proxy.crash()
            terminal.shows("nothing listens")
            with RunningProxy(admin_port=port) as again:
                done("circuit", "open", "z.test:80", *at(again))
                shown, _, _ = terminal.shows("z.test:80").rpartition("z.test:80")
                assert "nothing listens" not in shown[-300:]


def test_events_on_a_terminal_are_lines_for_people() -> None:
    with RunningProxy() as proxy, Terminal("events", *at(proxy), width=120) as terminal:
        for _ in range(100):
            done("circuit", "open", "a.test:80", "--note", "they move [b]", *at(proxy))
            if terminal.has_written():
                break
        text = terminal.shows("they move [b]")
        line = r"^\d\d:\d\d:\d\d  a\.test:80  . \w+ → ■ open  forced open, “they move \[b\]”$"
        assert re.search(line, text, re.MULTILINE)
        terminal.press("\x03")
        assert terminal.ended() == 0


def test_escapes_in_what_a_proxy_says_never_reach_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    circuit = {"key": f"a{evil}.test:80", "state": evil, "reason": evil, "cause": evil, "since": evil}
    page = {"circuits": [circuit], "total": 1, "states": {"open": 1}, "last_event_id": "a-1"}
    content = json.dumps(page, ensure_ascii=False).encode()
    with OddServer(answers(content)) as server:
        for options in ((), ("--json",), ("--watch",)):
            with Terminal("circuits", *options, "--admin", f"127.0.0.1:{server.port}") as terminal:
                terminal.shows(".tes")
                terminal.press("\x03")
                terminal.ended()
                for bad in ("\x1b]", "\x07", "\u202e", "\x1b[2J\u202e"):
                    assert bad not in terminal.raw


def test_the_light_commands_import_nothing_of_the_server(proxy: RunningProxy) -> None:
    heavy = {
        "aiohttp",
        "uvloop",
        "asyncio",
        "structlog",
        "yaml",
        "msgspec",
        "rich",
        "proxy.app",
        "proxy.wire",
        "proxy.control",
    }
    for arguments in (["version"], ["circuits", *at(proxy)], ["circuit", "show", KEY, *at(proxy)]):
        program = (
            "import sys; from proxy.cli import main; "
            f"main({arguments!r}); sys.stderr.write(' '.join(sys.modules))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(ended.stderr.split())
        expected = {"msgspec"} if arguments[0] == "circuit" else set()
        assert heavy & loaded <= expected
        assert "proxy.commands.options" in loaded


def test_completion_code_is_written_for_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "breaker-proxy" in done("completion", shell)


def test_the_schema_is_json() -> None:
    schema = json.loads(done("schema"))
    assert schema["properties"]["circuit"]["properties"]["open"]["default"] == "30s"


PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
TYPED = [
    line.removeprefix("$ ")
    for kind, block in re.findall(r"```(sh|console)\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ breaker-proxy" if kind == "console" else "breaker-proxy")
]


def shape(text: str) -> str:
    """A text without what differs each time."""
    return re.sub(r"\d+", "0", re.sub(r"\d+ \w{3} (\d\d:)", r"\1", text))


def test_what_the_page_says_to_type_does_what_it_says(tmp_path: Path) -> None:
    program = tmp_path / "breaker-proxy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@"\n')
    program.chmod(0o755)
    typed = [line for line in TYPED if " events" not in line and "fish" not in line]
    assert len(typed) >= 8
    said: dict[str, str] = {}
    with RunningProxy() as proxy:
        fail(proxy, KEY)
        fail(proxy, "127.0.0.1:8080", times=1)
        variables = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "BREAKER_PROXY_LISTEN_ADMIN": f"127.0.0.1:{proxy.admin_port}",
            "PYTHONPATH": str(ROOT),
        }
        for line in typed:
            # jq is not ours to test.
            ended = subprocess.run(
                ["sh", "-c", f"cd {tmp_path} && {line.partition(' | ')[0]}"],
                env=environment(**variables),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert (ended.returncode, ended.stderr) == (0, ""), line
            said[line] = ended.stdout
    assert json.loads((tmp_path / "breaker-proxy.schema.json").read_text())["properties"]
    lines = PAGE.splitlines()
    acted = [line for line in typed if " circuit open " in line or " circuit auto " in line]
    assert len(acted) == 2
    for line in acted:
        assert shape(said[line]) == shape(lines[lines.index(f"$ {line}") + 1]) + "\n"
