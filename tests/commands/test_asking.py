"""What is asked of the admin port, and what is made of what answers there, whoever that is."""

import json
from pathlib import Path

import pytest
from support.odd_server import OddServer, Script, answers, drips, is_silent, pours, says
from support.process import free_port

from proxy.commands.admin import Admin, is_here
from proxy.commands.failure import Failed, Refused
from proxy.commands.place import Place

CHALLENGE = 'WWW-Authenticate: Bearer realm="breaker-proxy"'
PROBLEM = "Content-Type: application/problem+json"
TOKEN = "a-token-of-thirty-two-characters"
OK = b"HTTP/1.1 200 OK\r\n"
PATIENCE_S = 0.3


def admin(port: int, *token_files: Path, patience_s: float = 10.0) -> Admin:
    return Admin(Place("127.0.0.1", port, "--admin", tuple(map(str, token_files))), {}, patience_s)


def problem(status: int, reason: str, detail: str = "no") -> bytes:
    return json.dumps({"status": status, "reason": reason, "detail": detail}).encode()


def test_it_asks_once_and_gives_the_answer() -> None:
    with OddServer(answers(b'{"a": [1]}')) as server:
        assert admin(server.port).get("/x", [("q", "a b"), ("q", "&")]) == {"a": [1]}
    assert len(server.heads) == 1
    assert server.heads[0].startswith(b"GET /api/v1/x?q=a+b&q=%26 HTTP/1.1\r\n")
    assert b"Authorization" not in server.heads[0]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (says(b""), "no HTTP"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP"),
        (says(b"\0" * 100_000), "no HTTP"),
        (says(OK + b"X: y\r\n" * 1000 + b"\r\n"), "no HTTP"),
        (says(OK + b"Content-Length: 10\r\n\r\n{}"), "no HTTP"),
        (says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "no HTTP"),
        (answers(b"<html>"), "not JSON"),
        (answers(b"\xff\xfe"), "not JSON"),
        (answers(b"[" * 100_000), "not JSON"),
        (answers(b"[NaN]"), "not JSON"),
        (answers(b"1" * 5000), "not JSON"),
        (pours(OK + b"\r\n", b" " * 1_000_000), "no end"),
        (answers(b"", "302 Found", "Location: http://127.0.0.1:1/"), "status 302"),
        (answers(b"{}", "404 Not Found"), "status 404"),
        (answers(b"no", "401 Unauthorized", "WWW-Authenticate: Basic"), "status 401"),
        (answers(b"[1]", "500 Oops", PROBLEM), "status 500"),
        (answers(b'{"reason": 7}', "500 Oops", PROBLEM), "status 500"),
        (answers(b"", "204 No Content"), "status 204"),
    ],
)
def test_what_is_not_the_admin_port_is_told_apart(script: Script, told: str) -> None:
    with OddServer(script) as server, pytest.raises(Failed, match=told) as caught:
        admin(server.port).get("/circuits")
    assert str(caught.value).startswith(
        f"what answers on 127.0.0.1:{server.port} (--admin) is not the admin port"
    )
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "script",
    [is_silent, drips(b"HTTP/1.1 2", b"0"), drips(OK, b"X: y\r\n"), drips(OK + b"\r\n", b" ")],
    ids=["silent", "slow status", "slow head", "slow content"],
)
def test_whoever_is_slow_is_left_in_time(script: Script) -> None:
    with OddServer(script) as server, pytest.raises(Failed, match=r"has not answered within 0\.3 s"):
        admin(server.port, patience_s=PATIENCE_S).get("/circuits")


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(
        Failed, match=rf"nothing listens on 127\.0\.0\.1:{port} \(--admin\): is breaker-proxy"
    ):
        admin(port).get("/circuits")


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_what_cannot_be_a_name_is_told(host: str) -> None:
    with pytest.raises(Failed, match="no name of a host"):
        Admin(Place(host, 3129, "--admin", ()), {}, 10.0).get("/x")


def test_what_is_no_unicode_is_asked_for_as_something_else() -> None:
    with OddServer(answers(b"{}")) as server:
        admin(server.port).get("/x", [("q", "a\udcff")])
    assert server.heads[0].startswith(b"GET /api/v1/x?q=a%3F HTTP/1.1\r\n")


def test_the_port_for_clients_is_told_apart() -> None:
    script = answers(
        problem(400, "not_a_proxy_request"),
        "400 Bad Request",
        PROBLEM,
        "X-Breaker-Reason: not_a_proxy_request",
    )
    with OddServer(script) as server, pytest.raises(Failed, match="is the port for clients"):
        admin(server.port).get("/circuits")


def test_a_refusal_says_why_and_nothing_that_a_terminal_would_obey() -> None:
    script = answers(problem(409, "circuit_disabled", "\x1b]0;x\x07 no"), "409 Conflict", PROBLEM)
    with OddServer(script) as server, pytest.raises(Refused) as caught:
        admin(server.port).post("/circuits/a:1/open", {})
    assert (caught.value.status, caught.value.reason) == (409, "circuit_disabled")
    assert str(caught.value).endswith(": �]0;x� no (409 circuit_disabled)")


def test_a_name_that_it_does_not_know_comes_with_advice() -> None:
    script = answers(problem(421, "unknown_host"), "421 Misdirected Request", PROBLEM)
    with OddServer(script) as server, pytest.raises(Refused, match=r"add 127\.0\.0\.1 to admin.hosts"):
        admin(server.port).get("/circuits")


def test_the_token_is_shown_when_it_is_asked_for_and_then_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    asks = answers(problem(401, "token_required"), "401 Unauthorized", PROBLEM, CHALLENGE)
    with OddServer(asks, answers(b"{}")) as server:
        asking = admin(server.port, file)
        asking.get("/a")
        asking.post("/b", {"note": "é"})
    shown = f"Authorization: Bearer {TOKEN}\r\n".encode()
    assert [shown in head for head in server.heads] == [False, True, True]
    assert b"Content-Type: application/json\r\n" in server.heads[2]


@pytest.mark.parametrize(
    ("own", "other", "is_near"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", "::1", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("192.0.2.1", "203.0.113.1", False),
    ],
)
def test_a_token_of_this_machine_is_for_this_machine(own: str, other: str, is_near: bool) -> None:  # noqa: FBT001 -- a column
    assert is_here(own, other) == is_near


def test_tokens_are_tried_one_after_the_other_and_then_it_is_told_where_they_were(tmp_path: Path) -> None:
    files = [tmp_path / "first", tmp_path / "second", tmp_path / "none"]
    files[0].write_text(TOKEN)
    files[1].write_text(TOKEN[::-1])
    asks = answers(problem(401, "token_wrong"), "401 Unauthorized", PROBLEM, CHALLENGE)
    with OddServer(asks) as server, pytest.raises(Failed) as caught:
        admin(server.port, *files).get("/a")
    told = str(caught.value)
    assert (
        f"\n  {files[0]}: refused\n  {files[1]}: refused\n  {files[2]}: No such file or directory\n" in told
    )
    assert f"admin-{server.port}.token: No such file" in told
    assert TOKEN not in told
    assert len(server.heads) == 3


def test_a_token_that_was_replaced_meanwhile_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    asks = answers(problem(401, "token_wrong"), "401 Unauthorized", PROBLEM, CHALLENGE)
    with OddServer(asks, answers(b"{}"), asks, answers(b"{}")) as server:
        asking = admin(server.port, file)
        asking.get("/a")
        file.write_text(TOKEN[::-1])
        asking.get("/b")
    assert f"Bearer {TOKEN[::-1]}".encode() in server.heads[3]


def test_a_token_that_was_refused_once_may_be_right_later(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    asks = answers(problem(401, "token_wrong"), "401 Unauthorized", PROBLEM, CHALLENGE)
    with OddServer(asks, asks, asks, answers(b"{}")) as server:
        asking = admin(server.port, file)
        with pytest.raises(Failed, match="wants its token"):
            asking.get("/a")
        asking.get("/b")
    assert f"Bearer {TOKEN}".encode() in server.heads[3]


def test_a_token_that_is_needed_no_more_is_not_insisted_on(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    asks = answers(problem(401, "token_wrong"), "401 Unauthorized", PROBLEM, CHALLENGE)
    with OddServer(asks, answers(b"{}"), asks, answers(b"{}")) as server:
        asking = admin(server.port, file)
        asking.get("/a")
        asking.get("/b")
    assert [b"Authorization" in head for head in server.heads] == [False, True, True, False]


def test_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with OddServer(says(b"")) as other, OddServer(answers(b"{}")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{other.port}")
        admin(server.port).get("/a")
    assert other.heads == []


@pytest.mark.parametrize("media_type", ["text/html", "application/json"])
def test_events_are_events(media_type: str) -> None:
    with OddServer(answers(b"x", "200 OK", f"Content-Type: {media_type}")) as server:
        with pytest.raises(Failed, match="in place of text/event-stream"), admin(server.port).events("a-1"):
            pass
    assert b"Last-Event-ID: a-1\r\n" in server.heads[0]


def test_a_token_that_was_made_here_is_not_shown_when_the_name_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = iter([True, False])
    monkeypatch.setattr("proxy.commands.admin.is_here", lambda _own, _other: next(near, False))
    script = answers(problem(401, "token_required"), "401 Unauthorized", CHALLENGE, PROBLEM)
    with OddServer(script) as server:
        folder = tmp_path / "breaker-proxy"
        folder.mkdir()
        (folder / f"admin-{server.port}.token").write_text(TOKEN)
        place = Place("127.0.0.1", server.port, "--admin")
        with pytest.raises(Failed, match="not on this machine"):
            Admin(place, {"XDG_RUNTIME_DIR": str(tmp_path)}).get("/x")
    assert not any(b"Authorization" in head for head in server.heads)
