"""HTTPS in tunnels, which is the default: only what befalls connections counts, whatever is said in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import certificates
from support.outage import (
    LocalUpstream,
    assert_abandoned,
    assert_refused,
    outage,
    received,
    silent_upstream,
)
from support.process import CLOSED, OPEN, RunningProxy, until
from system.adapters import Answerless, Ask
from system.caller import HOST, Caller, calling
from system.kinds import CONNECTING, HTTPS, KINDS
from system.refusals import refusal, shown
from system.scenarios import BROKEN, PLAIN

# A process for each call, and each call a connection: those that start soonest.
SOON = ["curl", "requests", "axios", "go"]
# Those that close their connection when they give up in the middle of TLS. undici leaves that to its own time
# for connections, which is 10 s, and Java to nobody.
CLOSING = [name for name in CONNECTING if name not in {"undici", "fetch", "java"}]


@pytest.fixture(scope="session")
def tunnelling(names: str) -> Iterator[RunningProxy]:
    """A proxy by its defaults, which could itself trust the upstreams."""
    with RunningProxy(
        circuit={"open": "2s", "abandoned_after": "300ms"},
        dns={"servers": [names]},
        upstreams=[{"match": "*.test", "tls": {"ca": certificates.authority_path()}}],
    ) as proxy:
        yield proxy


@pytest.fixture
def direct(request: pytest.FixtureRequest, tunnelling: RunningProxy, tmp_path: Path) -> Iterator[Caller]:
    """A client that trusts what the upstreams have their certificates from."""
    with calling(KINDS[request.param], tunnelling, tmp_path, Path(certificates.authority_path())) as caller:
        yield caller


@pytest.mark.parametrize("direct", CONNECTING, indirect=True)
def test_answers_of_500_are_nobodys_business(direct: Caller) -> None:
    with LocalUpstream(HOST, {"/hook?event=1": BROKEN}, certificates.server(HOST)) as upstream:
        ask = Ask(upstream.url, "POST", b"event")
        replies = [*direct.client(*[ask] * 6), direct.afresh(ask)]
        assert [(reply.status, reply.content) for reply in replies] == [(500, b"broken")] * 7
        assert "via" not in replies[-1].headers
        assert len(upstream.seen) == 7
        assert direct.proxy.state(upstream.authority) == CLOSED
        labels = {"circuit": upstream.authority, "scope": "host"}
        # One for each tunnel; axios opens one for each call.
        assert direct.proxy.metric("circuit_calls_total", **labels, outcome="success") in {2, 7}
        assert direct.proxy.metric("circuit_calls_total", **labels, outcome="failure") in {None, 0}


@pytest.mark.parametrize("direct", SOON, indirect=True)
def test_a_stopped_upstream_is_cut_off_until_it_is_back(direct: Caller) -> None:
    with LocalUpstream(HOST, tls=certificates.server(HOST)) as upstream:
        ask = Ask(upstream.url, "POST", b"event")
        refused = refusal(direct, connect=True)
        outage(direct.proxy, upstream, lambda: shown(direct, direct.afresh, ask, upstream.authority), refused)


@pytest.mark.parametrize("direct", CLOSING, indirect=True)
def test_a_silent_port_is_cut_off_by_clients_that_give_up(direct: Caller) -> None:
    with silent_upstream(HOST) as circuit:
        ask = Ask(f"https://{circuit}/", timeout_s=0.6)
        for _ in range(5):
            with pytest.raises((TimeoutError, Answerless)):
                direct.client(ask)
        refused = refusal(direct, connect=True)
        assert_abandoned(direct.proxy, circuit, lambda: shown(direct, direct.afresh, ask, circuit), refused)


@pytest.mark.parametrize("name", CONNECTING)
def test_a_silent_port_is_cut_off_when_clients_are_patient(name: str, names: str, tmp_path: Path) -> None:
    timeouts = {"head": "300ms"}
    with RunningProxy(timeouts=timeouts, dns={"servers": [names]}) as proxy, silent_upstream(HOST) as circuit:
        with calling(KINDS[name], proxy, tmp_path) as caller:
            ask = Ask(f"https://{circuit}/")
            for _ in range(5):
                with pytest.raises(Answerless):
                    caller.client(ask)
            until(lambda: proxy.state(circuit) == OPEN, "the circuit does not open")
            assert proxy.metric("circuit_failures_total", circuit=circuit, scope="host", kind="tunnel") == 5
            refusal(caller, connect=True)(shown(caller, caller.once, ask, circuit), circuit)


@pytest.mark.parametrize("direct", [name for name in HTTPS if name not in CONNECTING], indirect=True)
def test_without_connect_all_is_seen(direct: Caller) -> None:
    answers = {"/broken": BROKEN}
    with LocalUpstream(HOST, answers, certificates.server(HOST)) as upstream:
        (reply,) = direct.client(PLAIN.ask(upstream))
        assert (reply.status, json.loads(reply.content)) == (200, received("GET"))
        assert "breaker-proxy-" in reply.headers["via"]
        *broken, refused = direct.client(*[Ask(f"{upstream.origin}/broken")] * 6)
        assert [reply.status for reply in broken] == [500] * 5
        assert_refused(refused, upstream.authority)
