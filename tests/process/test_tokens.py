"""Tokens as their user meets them: made by a command, kept in a file, asked for by a running process."""

import os
import re
import subprocess
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests
from support.credentials import field, line
from support.outage import LocalUpstream
from support.process import PATIENCE_S, PROGRAM, ROOT, RunningProxy, command, environment, until

EXPECTED = "expected NAME:SHA256, as `breaker-proxy token NAME` writes it"


def listen(tokens: Path, proxy: str = "0.0.0.0:0") -> dict[str, Any]:
    return {"proxy": proxy, "admin": "127.0.0.1:0", "credentials_file": str(tokens)}


def call(proxy: RunningProxy, url: str, given: str | None) -> int:
    """The status of a call through the proxy with this user and token."""
    user = "" if given is None else f"{given}@"
    with requests.Session() as session:
        session.trust_env = False
        through = {"http": f"http://{user}127.0.0.1:{proxy.proxy_port}"}
        return session.get(url, proxies=through, timeout=PATIENCE_S).status_code


# The command.


def test_a_token_and_its_line() -> None:
    done = command("token", "ci")
    written = re.fullmatch(r"ci:([A-Za-z0-9_-]{43})\n", done.stderr)
    assert written is not None
    assert (done.returncode, done.stdout) == (0, f"ci:{sha256(written[1].encode()).hexdigest()}\n")
    assert command("token", "ci").stderr != done.stderr


@pytest.mark.parametrize("name", ["", "a:b", "a b", "-", "ä", "a" * 65])
def test_a_name_that_would_not_fit_its_line_is_refused(name: str) -> None:
    done = command("token", "--", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a letter or digit, then up to 63 letters, digits, " in done.stderr


def test_what_the_help_says_works_as_it_stands(tmp_path: Path) -> None:
    """Its two examples, run by a shell."""
    shown = command("token", "--help").stdout
    appends, url = (
        text.strip() for text in re.findall(r"^  (?:breaker-proxy|HTTP_PROXY=).*$", shown, re.MULTILINE)
    )
    (tmp_path / "breaker-proxy").write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    (tmp_path / "breaker-proxy").chmod(0o700)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", f'{appends}\n{url}\necho "$HTTP_PROXY"'],
        cwd=tmp_path,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    tokens = [done.stderr.strip(), done.stdout.removeprefix("http://").removesuffix("@127.0.0.1:3128\n")]
    names = [given.partition(":")[0] for given in tokens]
    lines = "".join(line(*given.split(":")) for given in tokens)
    assert (names, (tmp_path / "tokens").read_text()) == (["ci", "ci"], lines)


# The start.


def config(folder: Path, tokens: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(f"listen: {{proxy: '0.0.0.0:0', admin: '127.0.0.1:0', credentials_file: {tokens}}}\n")
    return file


@pytest.mark.parametrize("arguments", [("check",), ("run", "--config")])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r": listen\.credentials_file: expected at least one line .+\n"),
        (None, r": listen\.credentials_file: cannot be read: No such file or directory\n"),
        ("# ours\nci:s3cret\ns3cret", rf":2: {EXPECTED}\nFILE:3: {EXPECTED}\n"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_2(
    arguments: tuple[str, ...], text: str | None, told: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    if text is not None:
        tokens.write_text(text)
    done = command(*arguments, str(config(tmp_path, tokens)))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"FILE{told}".replace("FILE", re.escape(str(tokens))), done.stderr)
    assert "s3cret" not in done.stderr


def test_check_of_a_good_file(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(line())
    file = config(tmp_path, tokens)
    done = command("check", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: ok\n", "")


# A running process.


def test_a_token_made_by_the_command_lets_in_a_running_process(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    first, second = command("token", "first"), command("token", "second")
    tokens.write_text(first.stdout)
    old, new = first.stderr.strip(), second.stderr.strip()
    with LocalUpstream() as upstream, RunningProxy(listen=listen(tokens)) as proxy:
        assert proxy.told("credentials read")["names"] == 1
        assert [call(proxy, upstream.url, given) for given in (old, new, None)] == [200, 407, 407]
        with tokens.open("a") as file:
            file.write(second.stdout)
        until(lambda: call(proxy, upstream.url, new) == 200, "the new token is not taken")
        assert call(proxy, upstream.url, old) == 200
        tokens.write_text(second.stdout)
        until(lambda: call(proxy, upstream.url, old) == 407, "the old token is still taken")
        tokens.write_text("")
        assert len(proxy.told("credentials not changed")["faults"]) == 1
        assert [call(proxy, upstream.url, given) for given in (old, new)] == [407, 200]
    written = str(proxy.lines)
    assert [part for given in (old, new) if (part := given.partition(":")[2]) in written] == []


def exchanges(proxy: RunningProxy) -> list[tuple[int, str | None]]:
    lines = [line for line in proxy.lines if line["event"] == "exchange ended"]
    return [(line["status"], line["client_name"]) for line in lines]


def test_on_loopback_a_token_is_asked_for_as_well_and_the_log_has_its_name(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(line())
    log = {"access": "all"}
    with LocalUpstream() as upstream, RunningProxy(listen=listen(tokens, "127.0.0.1:0"), log=log) as proxy:
        connection = HTTPConnection("127.0.0.1", proxy.proxy_port, timeout=PATIENCE_S)
        name, _, value = field().partition(": ")
        statuses = []
        for headers in ({}, {name: value}):
            connection.request("GET", upstream.url, headers=headers)
            with connection.getresponse() as answer:
                statuses.append(answer.status)
                answer.read()
        connection.close()
        assert statuses == [407, 200]
        until(lambda: len(exchanges(proxy)) == 2, "an exchange has no line")
        # A 407 has its line at `all` only, and no name.
        assert exchanges(proxy) == [(407, None), (200, "ci")]
        assert upstream.seen == ["GET /hook?event=1"]
