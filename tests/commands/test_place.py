"""Who says where the proxy is, and where its token may be."""

import os
import socket
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from proxy.commands.failure import Misused
from proxy.commands.place import DEFAULT, Place, found, tokens, written
from proxy.core.policy import Listen

TOKEN = "a-token-of-thirty-two-characters"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("example.com:80", ("example.com", 80)),
        ("localhost", ("localhost", 3129)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[::1]:3129", ("::1", 3129)),
        ("[::1]", ("::1", 3129)),
        ("http://10.0.0.7:8080/", ("10.0.0.7", 8080)),
        ("http://localhost", ("localhost", 3129)),
    ],
)
def test_what_may_be_written(text: str, place: tuple[str, int]) -> None:
    assert written(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3129",
        "a:0",
        "a:65536",
        "::1",
        "a b",
        "http://a/api",
        "http://me@a",
        "https://a:1",
        "ftp://a",
        "a\n:1",
    ],
)
def test_what_may_not(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="HOST:PORT"):
        written(text)


def test_the_default_is_the_proxys() -> None:
    assert (Listen().admin.host, Listen().admin.port) == DEFAULT
    assert str(found(None, None, None, {})) == "127.0.0.1:3129"


def test_the_command_line_comes_first_then_the_environment_then_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("listen: {admin: '127.0.0.4:4'}\nadmin: {token_file: theirs}\n")
    environ = {"BREAKER_PROXY_LISTEN_ADMIN": "127.0.0.3:3", "BREAKER_PROXY_EGRESS": "nonsense"}
    place = found(("127.0.0.2", 2), config, "mine", environ)
    assert place == Place("127.0.0.2", 2, "--admin", ("mine", "theirs"))
    assert found(None, config, None, environ) == Place(
        "127.0.0.3", 3, "BREAKER_PROXY_LISTEN_ADMIN", ("theirs",)
    )
    assert found(None, config, None, {}) == Place("127.0.0.4", 4, f"listen.admin in {config}", ("theirs",))
    assert found(None, None, None, environ) == Place("127.0.0.3", 3, "BREAKER_PROXY_LISTEN_ADMIN")


@pytest.mark.parametrize(("listen", "host"), [("0.0.0.0:5", "127.0.0.1"), ("[::]:5", "::1")])
def test_everywhere_is_here(listen: str, host: str) -> None:
    assert found(None, None, None, {"BREAKER_PROXY_LISTEN_ADMIN": listen}).host == host


def test_a_name_stays_a_name() -> None:
    assert str(found(("admin.internal", 1), None, None, {})) == "admin.internal:1"
    assert str(found(("::2", 1), None, None, {})) == "[::2]:1"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "nonsense"])
def test_what_is_no_place_is_told(listen: str) -> None:
    with pytest.raises(Misused, match="BREAKER_PROXY_LISTEN_ADMIN"):
        found(None, None, None, {"BREAKER_PROXY_LISTEN_ADMIN": listen})


def test_a_file_that_cannot_be_used_is_told_with_all_faults(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("circuit: {open: soon, opne: 1s}\n")
    with pytest.raises(Misused) as caught:
        found(None, config, None, {})
    assert len(str(caught.value).splitlines()) == 2


def test_tokens_are_looked_for_in_order_and_it_is_told_why_there_is_none(tmp_path: Path) -> None:
    chosen, odd, pipe = tmp_path / "chosen", tmp_path / "odd", tmp_path / "pipe"
    chosen.write_text(f"{TOKEN}\n")
    odd.write_text("two words")
    os.mkfifo(pipe)
    folder = tmp_path / "breaker-proxy"
    folder.mkdir()
    (folder / "admin-3129.token").write_text(TOKEN[::-1])
    place = Place("127.0.0.1", 3129, "", tuple(map(str, (tmp_path / "none", odd, pipe, tmp_path, chosen))))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    looked = list(tokens(place, environ, is_here=True))
    told = [(Path(file).name, token, why) for file, token, why in looked[:6]]
    assert told == [
        ("none", None, "No such file or directory"),
        ("odd", None, "holds no token"),
        ("pipe", None, "it is not a regular file"),
        (tmp_path.name, None, "Is a directory"),
        ("chosen", TOKEN, ""),
        ("admin-3129.token", TOKEN[::-1], ""),
    ]
    assert [file for file, _, _ in tokens(place, environ, is_here=False)] == list(place.token_files)


def test_a_socket_is_no_token(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        ((_, token, why),) = tokens(Place("a", 1, "", (str(tmp_path / "socket"),)), {}, is_here=False)
    assert token is None
    assert why


def test_what_others_have_put_where_a_made_token_would_be_leads_to_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    folder = tmp_path / "breaker-proxy"
    folder.mkdir()
    (folder / "admin-3129.token").symlink_to(tmp_path / "secret")
    looked = tokens(Place("127.0.0.1", 3129, ""), {"XDG_RUNTIME_DIR": str(tmp_path)}, is_here=True)
    assert next(looked)[1] is None
