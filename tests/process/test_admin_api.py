"""The API of the real process: who is refused, in which ways, and what its page says to type."""

import json
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.process import PATIENCE_S, ROOT, Reply, RunningProxy, environment, get

KEY = "127.0.0.1:9"
OPEN = f"/api/v1/circuits/{KEY}/open"
JSON = "Content-Type: application/json"
TOKEN = "a-token-of-thirty-two-characters"


def raw(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Sends bytes and reads until the other side closes."""
    with socket.create_connection((host, port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b""
        while received := client.recv(65536):
            answer += received
    head, _, content = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), fields, content


def request(method: str, path: str, *fields: str, host: str = "127.0.0.1", content: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def forms() -> list[tuple[str, bytes, str]]:
    """What a page may send to any host without asking before (Fetch, section 2.2.2)."""
    return [
        ("POST", b"ttl=10m", "Content-Type: application/x-www-form-urlencoded"),
        ("POST", b"{}", "Content-Type: text/plain"),
        ("POST", b'{"note": "="}', "Content-Type: text/plain;charset=UTF-8"),
        ("POST", b"--x\r\n\r\n--x--\r\n", "Content-Type: multipart/form-data; boundary=x"),
        ("POST", b"{}", "X-Nothing: no content type"),
    ]


# A request, and the statuses that refuse it.
HOSTILE = [
    *[
        (request("POST", OPEN, JSON, host=host, content=b"{}"), {421})
        for host in ("evil.test", "10.0.0.7", "")
    ],
    (request("GET", "/api/v1/config", host="127.0.0.1.evil.test"), {421}),
    (request("GET", "/api/v1/config", "Host: 127.0.0.1", host="evil.test"), {400, 421}),
    (request("GET", "http://127.0.0.1/api/v1/config", host="evil.test"), {421}),
    (b"GET /api/v1/config HTTP/1.0\r\n\r\n", {421}),
    *[
        (request("POST", OPEN, JSON, f"Origin: {origin}", content=b"{}"), {403})
        for origin in ("http://evil.test", "null", "http://127.0.0.1:8000", "https://localhost")
    ],
    (request("GET", "/api/v1/events", "Origin: http://evil.test"), {403}),
    (request("GET", "/api/v1/config", "Sec-Fetch-Site: cross-site"), {403}),
    (request("OPTIONS", OPEN, "Origin: http://evil.test", "Access-Control-Request-Method: POST"), {403}),
    (request("OPTIONS", OPEN), {405}),
    (request("POST", "/static/main.js", JSON, content=b"{}"), {405}),
    (request("PUT", "/static/main.js", JSON, content=b"{}"), {405}),
    *[(request(method, OPEN, field, content=content), {415}) for method, content, field in forms()],
    (request("POST", OPEN, JSON, "Content-Encoding: gzip", content=b"{}"), {415}),
    (request("GET", OPEN), {405}),
    (request("PUT", OPEN, JSON, content=b"{}"), {405}),
    (request("POST", OPEN, JSON), {400}),
    (request("POST", OPEN, JSON, content=b'{"ttl": "for ever"}'), {400}),
    (request("POST", OPEN, JSON, content=b"{}" + b" " * 5000), {413}),
    (request("POST", OPEN, JSON, content=b"x" * 3_000_000), {413}),
    (
        request("POST", OPEN, JSON, "Transfer-Encoding: chunked")
        + b"2000\r\n"
        + b"x" * 8192
        + b"\r\n0\r\n\r\n",
        {413},
    ),
    (request("POST", OPEN, JSON, "Authorization: Bearer wrong", content=b"{}"), {401}),
    (request("GET", "/api/v1/config", "Authorization: Basic YTpi"), {401}),
    *[
        (request(method, f"/api/v1/circuits/{key}{action}", JSON, content=b"{}"), {404})
        for key in (
            "..",
            "%2e%2e",
            "..%2Fconfig",
            "%2F",
            "a%2Fb:80",
            "%00",
            f"{KEY}%00",
            "%0D%0ASet-Cookie:%20a:80",
            "%25",
            "x" * 7000,
            "%C3%A9:80",
            "%FF:80",
            "a:99999",
            f"{KEY}%23",
            f"{KEY};a",
        )
        for method, action in (("GET", ""), ("POST", "/open"))
    ],
    *[
        (request("GET", path), {404})
        for path in (
            "//api/v1/config",
            "/api/v1/config/",
            "/api//v1/config",
            "/api/v1/./config",
            "/livez/../api/v1/config",
            "/api/v1/circuits/",
            "/api/v1/circuits//open",
            f"{OPEN}%2F",
            "/API/v1/config",
            "/api/v2/config",
            "/api/v1/config%00",
            "/.env",
            "/static/../main.js",
            "/static/../../page.py",
            "/static/%2e%2e/page.py",
            "/static/..%2fpage.py",
            "/static/..\\page.py",
            "/static//etc/passwd",
            "/static/vendor/",
            "/static/main.js%00.css",
            "/static/main.js;a",
            "/%2e/static/%2e%2e/%2e%2e/page.py",
        )
    ],
    (request("GET", f"/api/v1/circuits?q={'x' * 201}"), {400}),
    *[
        (request(method, f"/api/v1/deferred/{path}", *fields, content=content), {status})
        for method, path, fields, content, status in (
            ("DELETE", f"requests/{'0' * 32}", ("Origin: http://evil.test",), b"", 403),
            ("DELETE", f"requests/{'0' * 32}", ("Sec-Fetch-Site: same-site",), b"", 403),
            ("DELETE", f"requests/{'0' * 32}", ("Authorization: Bearer wrong",), b"", 401),
            ("GET", "export", ("Sec-Fetch-Site: cross-site",), b"", 403),
            ("POST", "pause", ("Content-Type: text/plain",), b"{}", 415),
            ("POST", "delete", (JSON,), b"{}", 400),
            ("POST", "delete", (JSON,), b"[" * 4000, 400),
            ("GET", "requests?queue=%00&limit=1&x=1", (), b"", 400),
            ("GET", f"requests/{'0' * 31}%00", (), b"", 404),
            ("GET", "requests?after=10000000000000000", (), b"", 400),
        )
    ],
    (request("GET", f"/{'x' * 20000}"), {400, 414}),
    (request("GET", "/api/v1/config", f"X: {'x' * 20000}"), {400, 431}),
    (request("TRACE", "/api/v1/config"), {405}),
    (request("CONNECT", f"127.0.0.1:{9}"), {400, 404, 405}),
]


def test_hostile_requests_are_refused_and_change_nothing(tmp_path: Path) -> None:
    with RunningProxy(defer={"path": str(tmp_path / "deferred.db")}) as proxy:
        for sent, statuses in HOSTILE:
            status, fields, content = raw(proxy.admin_port, sent)
            assert status in statuses, sent[:200]
            if fields["content-type"] == "application/problem+json":
                assert json.loads(content)["status"] == status
            if status == 405:
                assert fields["allow"]
            assert not any(name.startswith("access-control-") for name in fields)
            assert b"Set-Cookie" not in content
            assert "set-cookie" not in fields
        assert json.loads(proxy.admin("/api/v1/circuits").content)["total"] == 0
        assert [line for line in proxy.lines if line["event"] in ("circuit changed", "circuit steered")] == []
        # What is no HTTP at all is a line of its own, which holds nothing of it.
        proxy.lines[:] = [line for line in proxy.lines if line.get("logger") != "aiohttp.server"]


def test_the_proxy_leads_nobody_to_it() -> None:
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    with RunningProxy(listen=listen, egress={"addresses": "any"}) as proxy:
        for host in ("127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0", "[::ffff:127.0.0.1]"):
            authority = f"{host}:{proxy.admin_port}"
            for sent in (
                request("POST", f"http://{authority}{OPEN}", JSON, host=authority, content=b"{}"),
                request("CONNECT", authority, host=authority),
            ):
                status, fields, _ = raw(proxy.proxy_port, sent)
                assert (status, fields["x-breaker-reason"]) == (502, "address_denied")
        assert json.loads(proxy.admin("/api/v1/circuits").content)["total"] <= 5
        assert [line for line in proxy.lines if line["event"] == "circuit steered"] == []


def own_address() -> str:
    """An address of this machine that is not on loopback; none is called."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
    return address


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_elsewhere_a_token_is_asked_for_which_is_left_for_our_user(tmp_path: Path) -> None:
    everywhere = {"proxy": "127.0.0.1:0", "admin": "0.0.0.0:0"}
    here = own_address()
    with RunningProxy(listen=everywhere, environ={"XDG_RUNTIME_DIR": str(tmp_path)}) as proxy:
        path = Path(proxy.told("admin token written")["path"])
        assert path == tmp_path / "breaker-proxy" / f"admin-{proxy.admin_port}.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        token = path.read_text().strip()
        for address in ("127.0.0.1", here):
            for asked in ("/livez", "/readyz", "/metrics", "/", "/static/main.js"):
                assert raw(proxy.admin_port, request("GET", asked, host="any.test"), address)[0] == 200
            for asked in ("/api/v1/config", "/api/v1/events", "/api/v1/openapi.json", "/nothing", "/api/v1"):
                for fields in ((), (bearer("wrong"),), (bearer(""),), (bearer(token[:-1]),)):
                    status, headers, _ = raw(proxy.admin_port, request("GET", asked, *fields), address)
                    assert (status, headers["www-authenticate"][:6]) == (401, "bearer")
            steer = request("POST", OPEN, JSON, content=b"{}")
            assert raw(proxy.admin_port, steer, address)[0] == 401
            steer = request("POST", OPEN, JSON, bearer(token), host=here, content=b"{}")
            assert raw(proxy.admin_port, steer, address)[0] == 200
            foreign = request("GET", "/api/v1/config", bearer(token), "Origin: http://evil.test")
            assert raw(proxy.admin_port, foreign, address)[0] == 403
        assert token not in json.dumps(proxy.lines)
    assert not path.exists()


def test_where_no_token_can_be_left_it_warns_once_and_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "breaker-proxy").write_text("in the way")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    with RunningProxy(listen={"proxy": "127.0.0.1:0", "admin": "0.0.0.0:0"}, environ=environ) as proxy:
        for fields in ((), (bearer(""),), (bearer("x"),)):
            assert raw(proxy.admin_port, request("GET", "/api/v1/config", *fields))[0] == 401
        assert proxy.admin("/livez").status == 200
    warnings = [line for line in proxy.lines if line["event"].startswith("admin token not written")]
    assert [line["level"] for line in warnings] == ["warning"]


def test_a_token_of_ones_own_is_asked_for_on_loopback_as_well_and_can_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with RunningProxy(admin={"token_file": str(file)}) as proxy:
        asked = request("GET", "/api/v1/config", bearer(TOKEN))
        assert raw(proxy.admin_port, asked)[0] == 200
        assert get(proxy.admin_port, "/api/v1/config").status == 401
        file.write_text(TOKEN[::-1])
        for _ in range(10_000):
            if raw(proxy.admin_port, asked)[0] == 401:
                break
        assert raw(proxy.admin_port, request("GET", "/api/v1/config", bearer(TOKEN[::-1])))[0] == 200


def test_a_reader_of_events_hears_a_circuit_open_and_does_not_hold_the_end() -> None:
    with RunningProxy() as proxy:
        with socket.create_connection(("127.0.0.1", proxy.admin_port), timeout=PATIENCE_S) as reader:
            reader.sendall(request("GET", "/api/v1/events"))
            heard = reader.recv(65536)
            for _ in range(5):
                raw(proxy.proxy_port, request("GET", f"http://{KEY}/", host=KEY))
            while b"event: transition" not in heard:
                heard += reader.recv(65536)
            assert b'"reason":"consecutive_failures"' in heard


PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for command in block.splitlines()
    if command.startswith("curl")
]


def curl(command: str, proxy: RunningProxy, **variables: str) -> Reply:
    """Runs a command of the page in a shell, with the status behind its output."""
    done = subprocess.run(
        ["sh", "-c", f"{command.partition(' > ')[0]} --noproxy '*' --max-time 2 -w '\\n%{{http_code}}'"],
        env=environment(ADMIN=f"http://127.0.0.1:{proxy.admin_port}", **variables),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    content, _, status = done.stdout.rpartition(b"\n")
    return Reply(int(status), content=content)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are curl's")
def test_what_the_page_says_to_type_does_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    assert len(COMMANDS) == 16
    answers: list[Any] = []
    with RunningProxy(defer={"path": str(tmp_path / "deferred.db")}) as proxy:
        for _ in range(5):
            raw(proxy.proxy_port, request("GET", f"http://{KEY}/", host=KEY))
        for command in COMMANDS:
            reply = curl(command, proxy, TOKEN_FILE=str(file))
            if "TOKEN_FILE" in command:
                # Where no token is asked for, none is right.
                assert reply.status == 401
            else:
                assert reply.status == 200, (command, reply)
                answers.append(reply.content)
    first, _, one, _, _, opened, auto, reset, kept, dead, put_back, deleted, exported, paused, events = (
        answers
    )
    assert [circuit["key"] for circuit in json.loads(first)["circuits"]] == [KEY]
    assert json.loads(one)["last_failures"][0]["kind"] == "refused"
    told = [json.loads(answer) for answer in (opened, auto, reset)]
    assert [each["state"] for each in told] == ["forced_open", "half_open", "closed"]
    assert [each["transitions"][0]["note"] for each in told] == ["they are moving", "they have moved", None]
    assert events.startswith(b"retry: ")
    assert (json.loads(kept)["waiting"], json.loads(dead)["requests"], exported) == (0, [], b"")
    assert json.loads(put_back) == json.loads(deleted) == {"changed": 0, "has_more": False}
    assert json.loads(paused) == {"is_paused": True}
    with RunningProxy(admin={"token_file": str(file)}) as proxy:
        assert curl(COMMANDS[-1], proxy, TOKEN_FILE=str(file)).status == 200


def test_the_page_names_every_reason() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "proxy" / "control").glob("*.py")]
    reasons = {
        reason
        for source in sources
        for reason in re.findall(r'(?:Problem\(\s*\d{3},\s*|_unauthorized\()"(\w+)"', source)
    }
    assert len(reasons) > 8
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()
