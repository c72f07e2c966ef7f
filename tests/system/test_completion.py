"""The TAB key in real shells: commands, options, and keys from a running proxy."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from support.odd_server import OddServer, is_silent
from support.process import ROOT, RunningProxy, command, environment, free_port
from support.terminal import Terminal

from proxy.core.scope import endpoint_name

ENDPOINT = endpoint_name("hooks.test:443", b"/secret")
# How each shell is started without anybody's own settings, and what it is told before.
SHELLS = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), "source <(breaker-proxy completion bash)"),
    "zsh": (
        ("zsh", "-f", "-i"),
        "autoload -Uz compinit; compinit -u -D; source <(breaker-proxy completion zsh)",
    ),
    "fish": (("fish", "--no-config", "-i"), "breaker-proxy completion fish | source"),
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningProxy]:
    with RunningProxy() as running:
        for key in ("api.example.test:443", "[::1]:8080"):
            place = f"127.0.0.1:{running.admin_port}"
            assert command("circuit", "open", key, "--admin", place).returncode == 0
        yield running


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the shells find the program of this tree."""
    program = tmp_path / "bin" / "breaker-proxy"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom proxy.cli import main\nraise SystemExit(main())\n")
    program.chmod(0o755)
    return f"{program.parent}:{environment()['PATH']}"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("breaker-proxy circ", "breaker-proxy circuit"),
        ("breaker-proxy ev", "breaker-proxy events "),
        ("breaker-proxy circuit au", "breaker-proxy circuit auto "),
        ("breaker-proxy circuits --state forced_o", "breaker-proxy circuits --state forced_open "),
        ("breaker-proxy circuit open --no", "breaker-proxy circuit open --note "),
        ("breaker-proxy circuit auto {admin} api", "api.example.test:443 "),
        ("breaker-proxy circuit auto {admin} api.example.test:4", "api.example.test:443 "),
    ],
)
def test_what_is_completed(
    shell: str, typed: str, completed: str, proxy: RunningProxy, path: str, tmp_path: Path
) -> None:
    program, before = SHELLS[shell]
    admin = f"--admin 127.0.0.1:{proxy.admin_port}"
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PS1": "> "}
    with Terminal(program=program, width=200, variables=variables) as terminal:
        terminal.press(f"{before}; echo re''ady\n")
        seen = len(terminal.shows("ready\n"))
        terminal.press(f"{typed.format(admin=admin)}\t")
        terminal.shows(completed, after=seen)


@pytest.mark.parametrize("kind", ["nobody", "silent"])
def test_a_proxy_that_does_not_answer_costs_half_a_second_and_nothing_is_said(kind: str, path: str) -> None:
    with OddServer(is_silent) as silent:
        port = silent.port if kind == "silent" else free_port()
        line = f"breaker-proxy circuit auto --admin 127.0.0.1:{port} a"
        script = f"""
            source <(breaker-proxy completion bash)
            COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_TYPE=9 COMP_WORDS=({line}) COMP_CWORD=5
            _python_argcomplete breaker-proxy a {port}
            echo "[${{COMPREPLY[*]}}]"
        """
        began = monotonic()
        variables = {"PATH": path, "PYTHONPATH": str(ROOT)}
        with Terminal("-c", script, program=("bash",), variables=variables) as terminal:
            assert terminal.ended() == 0
        assert terminal.text == "[]\n"
        assert monotonic() - began < 10
