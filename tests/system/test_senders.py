"""Senders deliver through the proxy: what is sick is cut off, others are served, and nothing gets lost."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from support.outage import LocalUpstream, Verbatim
from support.process import CLOSED, OPEN, PATIENCE_S, RunningProxy, until
from system.senders import ALERTMANAGER, BULLMQ, CELERY, Event, Sender

HEALTHY = ("one", "two")
ALL = (*HEALTHY, "sick")


class Receiver(LocalUpstream):
    """One that tells what it receives, and can be made sick.

    Args:
        name: which it tells with each content.
        inbox: whom it tells.
    """

    def __init__(self, name: str, inbox: SimpleQueue[tuple[str, bytes]]) -> None:
        self._silence: dict[str, Verbatim] = {}
        super().__init__(answers=self._silence, keep=lambda content: inbox.put((name, content)))

    def fall_silent(self) -> None:
        self._silence["/hook?event=1"] = Verbatim(b"")

    def speak_again(self) -> None:
        self._silence.clear()


@dataclass(frozen=True)
class Case:
    """What a receiver suffers from, and what the proxy then sees of this sender.

    Attributes:
        kind: of failure.
        timeouts: of the proxy, where the sender has none of its own.
    """

    sender: Sender
    fall: Callable[[Receiver], None]
    recover: Callable[[Receiver], None]
    kind: str
    timeouts: Mapping[str, str] = field(default_factory=dict)


DEAD = (Receiver.kill, Receiver.start)
SILENT = (Receiver.fall_silent, Receiver.speak_again)
CASES = {
    "bullmq-dead": Case(BULLMQ, *DEAD, "refused"),
    "bullmq-silent": Case(BULLMQ, *SILENT, "abandoned"),
    "celery-dead": Case(CELERY, *DEAD, "refused"),
    "alertmanager-dead": Case(ALERTMANAGER, *DEAD, "refused"),
    "alertmanager-silent": Case(ALERTMANAGER, *SILENT, "response_timeout", {"head": "500ms"}),
}


class Post:
    """What was sent and what has arrived."""

    def __init__(self, sender: Sender) -> None:
        self.inbox: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self.sent: list[Event] = []
        self.arrived: list[Event] = []
        self._read = sender.read

    def write(self, *names: str) -> list[Event]:
        """Ten more events for each of these."""
        events = [Event(name, f"{len(self.sent)}-{number}") for number in range(10) for name in names]
        self.sent += events
        return events

    def await_arrival(self, *names: str) -> None:
        """Waits until these have received everything that was sent to them."""
        while missing := {event for event in self.sent if event.receiver in names} - set(self.arrived):
            try:
                self._take(PATIENCE_S)
            except Empty:
                pytest.fail(f"do not arrive: {sorted(missing)}")

    def assert_each_arrived_once(self) -> None:
        while not self.inbox.empty():
            self._take(0)
        assert sorted(self.arrived) == sorted(self.sent)

    def _take(self, timeout_s: float) -> None:
        name, content = self.inbox.get(timeout=timeout_s)
        event = self._read(content)
        assert event.receiver == name
        self.arrived.append(event)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_a_sick_receiver_is_cut_off_until_it_is_well_and_the_others_are_served(
    case: Case, tmp_path: Path
) -> None:
    post = Post(case.sender)
    circuit = {"open": "1s", "open_max": "2s", "abandoned_after": "300ms"}
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(Receiver(name, post.inbox)) for name in ALL}
        proxy = stack.enter_context(RunningProxy(circuit=circuit, timeouts=dict(case.timeouts)))
        urls = {name: receiver.url for name, receiver in receivers.items()}
        of = {name: {"circuit": receiver.authority, "scope": "host"} for name, receiver in receivers.items()}
        state = partial(proxy.metric, "circuit_state")
        rejected = partial(proxy.metric, "circuit_rejected_total", reason="circuit_open", enforced="true")

        with case.sender.start(proxy.url, urls, tmp_path) as send:
            send(*post.write(*ALL))
            post.await_arrival(*ALL)
            assert [state(**of[name]) for name in ALL] == [CLOSED] * 3

            case.fall(receivers["sick"])
            send(*post.write(*ALL))
            until(lambda: state(**of["sick"]) == OPEN, "the circuit of the sick receiver stays closed")
            until(lambda: (rejected(**of["sick"]) or 0) > 0, "no attempt is refused")
            post.await_arrival(*HEALTHY)

            # Others are served while it is cut off, not only until then.
            send(*post.write(*HEALTHY))
            post.await_arrival(*HEALTHY)
            assert [rejected(**of[name]) for name in HEALTHY] == [0, 0]
            assert state(**of["sick"]) != CLOSED

            case.recover(receivers["sick"])
            post.await_arrival(*ALL)
            until(lambda: state(**of["sick"]) == CLOSED, "the circuit does not close")
        post.assert_each_arrived_once()

        until(lambda: proxy.metric("in_flight") == 0, "a call does not end")
        assert proxy.metric("tunnels") == 0
        failed = proxy.metric("circuit_calls_total", **of["sick"], outcome="failure")
        assert proxy.metric("circuit_failures_total", **of["sick"], kind=case.kind) == failed
        assert [proxy.metric("circuit_calls_total", **of[name], outcome="failure") for name in HEALTHY] == [
            0,
            0,
        ]
