"""What clients send through the proxy arrives, what comes back does not confuse them."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.outage import LocalUpstream, Verbatim, received
from support.process import Reply, until
from system.adapters import Ask, Framing
from system.caller import HOST, Caller
from system.kinds import KINDS

MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 -- no secret

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large"
ANSWERS = {
    "/megabytes": Verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + MEGABYTES),
    "/nothing": Verbatim(b"HTTP/1.1 204 No Content\r\nX-Upstream: local\r\n\r\n"),
    "/trailers": Verbatim(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
        b"8\r\ntrailers\r\n0\r\nX-Checksum: 8\r\n\r\n"
    ),
    "/hints": Verbatim(
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhints"
    ),
    "/too-large": Verbatim(TOO_LARGE),
    "/too-large-and-reset": Verbatim(TOO_LARGE, reset=True),
}


@dataclass(frozen=True)
class Scenario:
    """A call and its answer; None as `answer`: the upstream's account of what it has received."""

    target: str = "/hook?event=1"
    method: str = "GET"
    content: bytes = b""
    framing: Framing = "whole"
    status: int = 200
    answer: bytes | None = None

    def ask(self, upstream: LocalUpstream) -> Ask:
        return Ask(f"http://{upstream.authority}{self.target}", self.method, self.content, self.framing)

    def check(self, reply: Reply) -> None:
        assert reply.status == self.status
        if self.answer is not None:
            # A plain comparison of megabytes would be told byte by byte.
            assert len(reply.content) == len(self.answer)
            assert (reply.content == self.answer) is True
        else:
            assert reply.headers["x-upstream"] == "local"
            chunked = self.framing == "chunked"
            assert json.loads(reply.content) == received(self.method, self.content, chunked=chunked)


PLAIN = Scenario()
KEPT_ALIVE = {
    "get": PLAIN,
    "get-10-mb": Scenario("/megabytes", answer=MEGABYTES),
    "post": Scenario(method="POST", content=b'{"event": 1}'),
    "post-10-mb": Scenario(method="POST", content=MEGABYTES),
    "chunked-10-mb": Scenario(method="POST", content=MEGABYTES, framing="chunked"),
    "delete": Scenario(method="DELETE"),
    "204": Scenario("/nothing", status=204, answer=b""),
    "trailers": Scenario("/trailers", answer=b"trailers"),
}
SCENARIOS = KEPT_ALIVE | {
    "head": Scenario(method="HEAD", answer=b""),
    "early-413": Scenario("/too-large", "POST", MEGABYTES, status=413, answer=b"too large"),
    "early-413-chunked": Scenario("/too-large", "POST", MEGABYTES, "chunked", 413, b"too large"),
}


@pytest.mark.parametrize("scenario", [pytest.param(row, id=name) for name, row in SCENARIOS.items()])
def test_a_call_is_answered_and_so_is_the_next(caller: Caller, scenario: Scenario) -> None:
    with LocalUpstream(HOST, ANSWERS) as upstream:
        reply, following = caller.client(scenario.ask(upstream), PLAIN.ask(upstream))
        scenario.check(reply)
        PLAIN.check(following)
        assert upstream.seen == [f"{scenario.method} {scenario.target}", "GET /hook?event=1"]
        assert ("breaker-proxy-" in following.headers.get("via", "")) is not caller.kind.tunnels


def test_head_tells_the_length_that_get_would_have(caller: Caller) -> None:
    with LocalUpstream(HOST, ANSWERS) as upstream:
        reply = caller.client(Scenario(method="HEAD").ask(upstream))[0]
        assert (reply.headers["x-upstream"], reply.content) == ("local", b"")
        assert int(reply.headers["content-length"]) > 0


def test_calls_share_a_connection(caller: Caller) -> None:
    with LocalUpstream(HOST, ANSWERS) as upstream:
        before = client_ports(caller)
        replies = caller.client(*(row.ask(upstream) for row in KEPT_ALIVE.values()))
        for row, reply in zip(KEPT_ALIVE.values(), replies, strict=True):
            row.check(reply)
        # None, where it still has one from an earlier test.
        assert len(client_ports(caller) - before) <= 1
        assert len(upstream.seen) == len(KEPT_ALIVE)
        labels = {"circuit": upstream.authority, "scope": "host", "outcome": "success"}
        calls = 1 if caller.kind.tunnels else len(KEPT_ALIVE)
        until(lambda: caller.proxy.metric("circuit_calls_total", **labels) == calls, "not all are booked")


def client_ports(caller: Caller) -> set[str]:
    """The client's end of each connection to the proxy that Linux knows of, just closed ones included."""
    port = f":{caller.proxy.proxy_port:04X}"
    rows = [line.split()[1:3] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = {tuple(row) for row in rows} | {(remote, local) for local, remote in rows}
    return {remote for local, remote in ends if local.endswith(port)}


def test_early_hints_come_before_the_answer(caller: Caller) -> None:
    with LocalUpstream(HOST, ANSWERS) as upstream:
        asked = (Scenario("/hints").ask(upstream), PLAIN.ask(upstream))
        reply, following = caller.client(*asked)
        assert (reply.status, reply.content) == (
            caller.kind.hints,
            b"hints" if caller.kind.hints == 200 else b"",
        )
        assert reply.interim == ((103,) if caller.kind.interim else ())
        PLAIN.check(following)


EXPECTING = [name for name, kind in KINDS.items() if kind.expects]
FORWARDING = [name for name, kind in KINDS.items() if not kind.tunnels]


@pytest.mark.parametrize("caller", EXPECTING, indirect=True)
def test_content_is_sent_once_the_upstream_has_said_100(caller: Caller) -> None:
    scenario = Scenario(method="POST", content=MEGABYTES, framing="expected")
    with LocalUpstream(HOST, ANSWERS) as upstream:
        reply = caller.client(scenario.ask(upstream))[0]
        scenario.check(reply)
        assert reply.interim == ((100,) if caller.kind.interim else ())
        assert upstream.expected == 1


# In a tunnel the reset may overtake the answer, as it would without a proxy.
@pytest.mark.parametrize("caller", FORWARDING, indirect=True)
@pytest.mark.parametrize("framing", ["whole", "chunked"])
def test_an_early_answer_outlives_the_reset_behind_it(caller: Caller, framing: Framing) -> None:
    scenario = Scenario("/too-large-and-reset", "POST", MEGABYTES, framing, 413, b"too large")
    with LocalUpstream(HOST, ANSWERS) as upstream:
        scenario.check(caller.client(scenario.ask(upstream))[0])
