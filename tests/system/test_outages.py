"""What is sick is cut off, and clients see why, each in its own way."""

import pytest
from support.outage import LocalUpstream, assert_abandoned, outage, silent_upstream
from system.adapters import Ask
from system.caller import HOST, Caller
from system.refusals import refusal, shown


def test_a_dead_upstream_is_cut_off_until_it_is_back(caller: Caller) -> None:
    with LocalUpstream(HOST) as upstream:
        ask = Ask(upstream.url, "POST", b"event")
        refused = refusal(caller, connect=caller.kind.tunnels)
        outage(caller.proxy, upstream, lambda: shown(caller, caller.once, ask, upstream.authority), refused)


def test_a_refused_tunnel_says_why(caller: Caller) -> None:
    with LocalUpstream(HOST) as upstream:
        upstream.kill()
        ask = Ask(f"https://{upstream.authority}/")
        *failed, refused = [shown(caller, caller.once, ask, upstream.authority) for _ in range(6)]
        assert [reply.status for reply in failed] == [502] * 5
        refusal(caller, connect=True)(refused, upstream.authority)


def test_a_silent_upstream_is_cut_off_by_clients_that_give_up(caller: Caller) -> None:
    with silent_upstream(HOST) as circuit:
        ask = Ask(f"http://{circuit}/", "POST", b"event", timeout_s=0.6)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                caller.once(ask)
        refused = refusal(caller, connect=caller.kind.tunnels)
        assert_abandoned(caller.proxy, circuit, lambda: shown(caller, caller.once, ask, circuit), refused)
