"""What clients show of an answer of the proxy's own, each in its own way."""

from collections.abc import Callable

from support.outage import assert_refused
from support.process import Reply
from system.adapters import Answerless, Ask
from system.caller import Caller


def shown(caller: Caller, call: Callable[[Ask], Reply], ask: Ask, circuit: str) -> Reply:
    """What the client shows: an answer, or a text that tells no more than the status."""
    try:
        return call(ask)
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
