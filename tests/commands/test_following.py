"""How the stream of events is read when it breaks, or is none; with a server that says what a test wants."""

import json
import re
import socket
from argparse import Namespace
from threading import Event

import pytest
from support.odd_server import OddServer, Script, answers, pours, says

from proxy.commands.admin import Admin
from proxy.commands.events import events
from proxy.commands.failure import Failed
from proxy.commands.place import Place

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
NEWEST = answers(b'{"circuits": [], "last_event_id": "a-1"}')


def stream(*lines: str) -> Script:
    return says(HEAD + "\n".join([*lines, "", ""]).encode())


def event(number: int) -> str:
    return f'id: a-{number}\nevent: transition\ndata: {{"number": {number}}}\n'


def followed(
    server: OddServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, connections: int
) -> tuple[list[object], str]:
    """What it writes while it connects so often; and its remarks."""

    def wait(_seconds: float) -> None:
        if len(server.heads) > connections:
            raise KeyboardInterrupt

    monkeypatch.setattr("proxy.commands.events.time.sleep", wait)
    with server:
        admin = Admin(Place("127.0.0.1", server.port, "--admin"), {})
        assert events(Namespace(json=True), admin) == 0
    written = capsys.readouterr()
    return [json.loads(line) for line in written.out.splitlines()], written.err


def last_ids(server: OddServer) -> list[str]:
    found = (re.search(rb"Last-Event-ID: (\S+)", head) for head in server.heads[1:])
    return [match[1].decode() if match else "" for match in found]


def test_it_goes_on_behind_what_it_has_heard(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = OddServer(NEWEST, stream(event(2), event(3)), stream(": keep-alive\n", event(4)))
    lines, remarks = followed(server, capsys, monkeypatch, 2)
    assert lines == [{"number": 2}, {"number": 3}, {"number": 4}]
    assert last_ids(server) == ["a-1", "a-3"]
    assert remarks.count("has broken off (it has ended)") == 2
    assert "connected again" in remarks


@pytest.mark.parametrize(
    "cut",
    ["id: a-3\nevent: transition\n", 'id: a-3\nevent: transition\ndata: {"number"', "id: a-3\n", "id: a-"],
)
def test_an_event_that_was_cut_off_is_asked_for_again(
    cut: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = f"{event(2)}\n".encode()
    server = OddServer(NEWEST, says(HEAD + whole + cut.encode()), stream(event(3)))
    lines, _ = followed(server, capsys, monkeypatch, 2)
    assert lines == [{"number": 2}, {"number": 3}]
    assert last_ids(server) == ["a-1", "a-2"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (stream(event(2), "data: {not json\n"), "an event is not JSON"),
        (stream(event(2), f"data: {'[' * 50_000}\n"), "an event is not JSON"),
        (pours(HEAD + event(2).encode() + b"\n", b"x" * 100_000), "a line has no end"),
        (
            says(HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"zz\r\n"),
            "",
        ),
    ],
)
def test_what_are_no_events_is_left(
    script: Script, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = OddServer(NEWEST, script, stream(event(3)))
    lines, remarks = followed(server, capsys, monkeypatch, 2)
    assert lines[-1] == {"number": 3}
    assert f"has broken off ({told}" in remarks


def test_an_id_that_is_none_goes_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = stream("id: a\tb\nevent: transition\ndata: 1\n", f"id: {'x' * 101}\ndata: 2\n", "id: é\ndata: 3\n")
    server = OddServer(NEWEST, odd, stream(event(3)))
    followed(server, capsys, monkeypatch, 2)
    assert last_ids(server) == ["a-1", "a-1"]


def test_a_stream_that_falls_silent_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(client: socket.socket, over: Event) -> None:
        client.sendall(HEAD + event(2).encode() + b"\n")
        over.wait(20)

    monkeypatch.setattr("proxy.commands.admin._SILENCE_S", 0.2)
    server = OddServer(NEWEST, silent, stream(event(3)))
    lines, remarks = followed(server, capsys, monkeypatch, 2)
    assert lines == [{"number": 2}, {"number": 3}]
    assert "it has fallen silent" in remarks


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"last_event_id": "a\\r\\nX: y"}', b'{"last_event_id": 1}']
)
def test_without_an_id_to_begin_with_it_does_not_begin(content: bytes) -> None:
    with OddServer(answers(content)) as server, pytest.raises(Failed, match="which event was the last"):
        events(Namespace(json=True), Admin(Place("127.0.0.1", server.port, "--admin"), {}))
