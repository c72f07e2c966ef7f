"""What is sick is cut off, and clients see why, each in its own way."""

from collections.abc import Callable

import pytest
from support.outage import LocalUpstream, assert_abandoned, assert_refused, outage, silent_upstream
from support.process import Reply
from system.adapters import Answerless, Ask
from system.caller import HOST, Caller


def shown(caller: Caller, ask: Ask, circuit: str) -> Reply:
    """What the client shows: an answer, or a text that tells no more than the status."""
    try:
        return caller.once(ask)
    except Answerless as error:
        for status, reason in ((502, "Connection refused"), (503, f"Circuit open for {circuit}")):
            if caller.kind.refused.format(status=status, reason=reason) in str(error):
                return Reply(status)
        raise


def refusal(caller: Caller, *, connect: bool) -> Callable[[Reply, str], None]:
    """Asserts that a reply is as much of an open circuit's refusal as the client shows."""
    if connect and caller.kind.refused:
        return lambda reply, _circuit: assert_status(reply)
    return assert_refused


def assert_status(reply: Reply) -> None:
    assert reply.status == 503


def test_a_dead_upstream_is_cut_off_until_it_is_back(caller: Caller) -> None:
    with LocalUpstream(HOST) as upstream:
        ask = Ask(upstream.url, "POST", b"event")
        refused = refusal(caller, connect=caller.kind.tunnels)
        outage(caller.proxy, upstream, lambda: shown(caller, ask, upstream.authority), refused)


def test_a_refused_tunnel_says_why(caller: Caller) -> None:
    with LocalUpstream(HOST) as upstream:
        upstream.kill()
        ask = Ask(f"https://{upstream.authority}/")
        *failed, refused = [shown(caller, ask, upstream.authority) for _ in range(6)]
        assert [reply.status for reply in failed] == [502] * 5
        refusal(caller, connect=True)(refused, upstream.authority)


def test_a_silent_upstream_is_cut_off_by_clients_that_give_up(caller: Caller) -> None:
    with silent_upstream(HOST) as circuit:
        ask = Ask(f"http://{circuit}/", "POST", b"event", timeout_s=0.6)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                caller.once(ask)
        refused = refusal(caller, connect=caller.kind.tunnels)
        assert_abandoned(caller.proxy, circuit, lambda: shown(caller, ask, circuit), refused)
