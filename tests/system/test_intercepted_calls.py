"""Who trusts the proxy's bundle has HTTPS that is seen through; who does not, fails and harms nobody."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import certificates
from support.outage import LocalUpstream, assert_recovers, assert_refused
from support.process import OPEN, Reply, RunningProxy, until
from system.adapters import Answerless, Ask
from system.caller import HOST, Caller, calling, host_of
from system.kinds import CONNECTING, HTTPS, KINDS
from system.scenarios import ANSWERS, BROKEN, PLAIN, SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", [pytest.param(row, id=name) for name, row in SCENARIOS.items()])
def test_a_call_is_answered_and_so_is_the_next(trusting: Caller, scenario: Scenario) -> None:
    with LocalUpstream(HOST, ANSWERS, certificates.server(HOST)) as upstream:
        reply, following = trusting.client(scenario.ask(upstream), PLAIN.ask(upstream))
        scenario.check(reply)
        PLAIN.check(following)
        assert upstream.seen == [f"{scenario.method} {scenario.target}", "GET /hook?event=1"]
        assert "breaker-proxy-" in following.headers["via"]


def test_an_upstream_that_answers_500_is_cut_off_until_it_is_mended(trusting: Caller) -> None:
    answers = {"/hook?event=1": BROKEN}
    with LocalUpstream(HOST, answers, certificates.server(HOST)) as upstream:
        ask, circuit = Ask(upstream.url, "POST", b"event"), upstream.authority
        *broken, refused = trusting.client(*[ask] * 6)
        assert [(reply.status, reply.content) for reply in broken] == [(500, b"broken")] * 5
        # Inside of TLS every client can read it.
        assert_refused(refused, circuit)
        assert json.loads(refused.content)["upstream"] == circuit
        assert len(upstream.seen) == 5
        assert trusting.proxy.state(circuit) == OPEN
        labels = {"circuit": circuit, "scope": "host", "kind": "status"}
        assert trusting.proxy.metric("circuit_failures_total", **labels) == 5

        answers.clear()
        upstream.seen.clear()

        def call() -> Reply:
            return trusting.client(ask)[0]

        assert_recovers(trusting.proxy, upstream, call)


@pytest.mark.parametrize("name", CONNECTING)
def test_without_trust_a_client_says_so_and_nothing_is_held_against_the_upstream(
    name: str, intercepting: RunningProxy, tmp_path: Path
) -> None:
    kind, host = KINDS[name], host_of(name)
    with LocalUpstream(host, tls=certificates.server(host)) as upstream:
        circuit = upstream.authority

        def lines(event: str) -> list[dict[str, Any]]:
            return [it for it in intercepting.lines if (it["event"], it.get("upstream")) == (event, circuit)]

        with calling(kind, intercepting, tmp_path) as caller:
            for _ in range(6):
                with pytest.raises(Answerless) as failed:
                    caller.client(Ask(upstream.url))
                assert kind.distrusts in str(failed.value)
        # Some try again by themselves.
        until(lambda: len(lines("exchange ended")) >= 6, "not all calls have a line")
        ended = lines("exchange ended")
        assert {(it["entry"], it["outcome"]) for it in ended} == {("tunnel", "neutral")}
        reasons = {it["reason"] for it in ended}
        if kind.hasty:
            assert reasons <= {"ca_not_trusted", "client_tls_failed"}
        else:
            assert reasons == {"ca_not_trusted" if kind.alert else "client_tls_failed"}
        # Once, however often it was heard.
        told = [(it["level"], it["details"]) for it in lines("client does not trust the CA")]
        warning = ("warning", f"the client refused the certificate: {kind.alert}")
        assert told == ([warning] if "ca_not_trusted" in reasons else [])
        assert len(lines("client may not trust the CA")) == ("client_tls_failed" in reasons)
        assert intercepting.state(circuit) is None
        assert upstream.seen == []


@pytest.mark.parametrize("name", [name for name in HTTPS if KINDS[name].forwards_https])
def test_without_connect_no_trust_is_needed(name: str, intercepting: RunningProxy, tmp_path: Path) -> None:
    with LocalUpstream(HOST, tls=certificates.server(HOST)) as upstream:
        with calling(KINDS[name], intercepting, tmp_path) as caller:
            (reply,) = caller.client(PLAIN.ask(upstream))
        PLAIN.check(reply)
        assert "breaker-proxy-" in reply.headers["via"]
