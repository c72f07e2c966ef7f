"""Which circuit somebody means, and all pages of a list."""

import json
import re
import socket
from threading import Event
from urllib.parse import parse_qs

import pytest
from support.odd_server import OddServer, answers

from proxy.commands.admin import Admin
from proxy.commands.failure import Failed
from proxy.commands.keys import alike, pages, path, resolved
from proxy.commands.place import Place

KEYS = [
    "api.example.com:443",
    "api.example.com:443#0123456789abcdef",
    "hooks.example.com:443",
    "hooks.example.com:80",
    "my-api.example.com:443",
    "[::1]:80",
    "10.0.0.7:80+internal",
]


class Table(OddServer):
    """A list of keys as the API gives it."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(self._answer)
        self._keys = keys

    def _answer(self, client: socket.socket, over: Event) -> None:
        target = re.search(rb"GET (\S+)", self.heads[-1])
        assert target is not None
        query = parse_qs(target[1].decode().partition("?")[2])
        limit, offset, text = int(query["limit"][0]), int(query["offset"][0]), query.get("q", [""])[0]
        fitting = [key for key in self._keys if text in key]
        page = [{"key": key} for key in fitting[offset : offset + limit]]
        content = json.dumps({"circuits": page, "total": len(fitting)}).encode()
        answers(content)(client, over)


def asking(server: OddServer) -> Admin:
    return Admin(Place("127.0.0.1", server.port, "--admin"), {})


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("api.example.com", "api.example.com:443"),
        ("API.example.com.", "api.example.com:443"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("10.0.0.7", "10.0.0.7:80+internal"),
        ("unheard.of:80", "unheard.of:80"),
        ("api.example.com:443#x", "api.example.com:443#x"),
    ],
)
def test_a_host_is_enough_if_it_has_one_circuit(typed: str, key: str) -> None:
    with Table(KEYS) as table:
        assert resolved(asking(table), typed) == key


def test_a_host_with_several_circuits_is_asked_back() -> None:
    with Table(KEYS) as table, pytest.raises(Failed, match=r"several.*com:443 or hooks\.example\.com:80"):
        resolved(asking(table), "hooks.example.com")


def test_what_is_not_there_comes_with_what_is_like_it() -> None:
    with Table(KEYS) as table:
        with pytest.raises(Failed, match=r"no circuit for api\.exmple\.com \(is it api\.example\.com:443"):
            resolved(asking(table), "api.exmple.com")
        assert alike(asking(table), "nothing like it") == ""


def test_all_pages_are_followed_and_nothing_is_listed_twice() -> None:
    many = [f"host-{number}:80" for number in range(2500)]
    many[1000] = many[0]
    with Table(many) as table:
        found = pages(asking(table), [], 10_000)
        assert found["total"] == 2500
        assert [circuit["key"] for circuit in found["circuits"]] == list(dict.fromkeys(many))
        assert len(table.heads) == 3
        assert len(pages(asking(table), [], 1200)["circuits"]) == 1199


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"circuits": [1]}', b'{"circuits": [{"key": 1}]}'])
def test_what_is_no_list_is_told(content: bytes) -> None:
    with OddServer(answers(content)) as server, pytest.raises(Failed, match="not a list of circuits"):
        pages(asking(server), [], 10)


def test_a_list_without_end_has_an_end() -> None:
    endless = json.dumps({"circuits": [{"key": f"a:{n}"} for n in range(1000)], "total": 1}).encode()
    with OddServer(answers(endless)) as server:
        assert len(pages(asking(server), [], 5000)["circuits"]) == 1000
    assert len(server.heads) == 5


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("[::1]:80+internal#a/b", "/circuits/%5B%3A%3A1%5D%3A80%2Binternal%23a%2Fb"),
        ("..", "/circuits/%2E%2E"),
        ("é", "/circuits/%C3%A9"),
        ("a\ud800", "/circuits/a%3F"),
    ],
)
def test_a_key_is_one_segment_of_the_path(key: str, told: str) -> None:
    assert path(key) == told
