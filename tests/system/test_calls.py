"""What clients send through the proxy arrives, what comes back does not confuse them."""

from pathlib import Path

import pytest
from support.outage import LocalUpstream
from support.process import until
from system.adapters import Framing
from system.caller import HOST, Caller
from system.kinds import KINDS
from system.scenarios import ANSWERS, KEPT_ALIVE, MEGABYTES, PLAIN, SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", [pytest.param(row, id=name) for name, row in SCENARIOS.items()])
def test_a_call_is_answered_and_so_is_the_next(caller: Caller, scenario: Scenario) -> None:
    with LocalUpstream(HOST, ANSWERS) as upstream:
        reply, following = caller.client(scenario.ask(upstream), PLAIN.ask(upstream))
        scenario.check(reply)
        PLAIN.check(following)
        assert upstream.seen == [f"{scenario.method} {scenario.target}", "GET /hook?event=1"]
        # In a tunnel, too: what it finds there is HTTP.
        assert "breaker-proxy-" in following.headers["via"]


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
        calls = len(KEPT_ALIVE)
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
