"""curl's calls in the clear for which the proxy speaks HTTPS: `https: originate` and routes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support import certificates
from support.outage import LocalUpstream, Verbatim, assert_recovers, assert_refused
from support.process import OPEN, Reply, RunningProxy, free_port
from system.adapters import Ask, Client, environment
from system.caller import HOST
from system.kinds import KINDS
from system.scenarios import ANSWERS, BROKEN, PLAIN, SCENARIOS, Scenario

WAYS = ["originate", "route"]


@dataclass(frozen=True)
class Way:
    """A way from curl to an upstream that speaks HTTPS.

    Attributes:
        base: of the URLs that lead there.
        answers: of the upstream; may be changed.
    """

    proxy: RunningProxy
    client: Client
    upstream: LocalUpstream
    base: str
    answers: dict[str, Verbatim]

    def ask(self, scenario: Scenario) -> Ask:
        return replace(scenario.ask(self.upstream), url=self.base + scenario.target)

    def call(self, scenario: Scenario) -> Reply:
        return self.client(self.ask(scenario))[0]


@pytest.fixture(scope="module", params=WAYS)
def way(
    request: pytest.FixtureRequest,
    names: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Way]:
    answers = dict(ANSWERS)
    with ExitStack() as resources:
        upstream = resources.enter_context(LocalUpstream(HOST, answers, certificates.server(HOST)))
        policy = {"match": HOST, "tls": {"ca": certificates.authority_path()}}
        listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        sections: dict[str, Any] = {"circuit": {"open": "2s"}, "dns": {"servers": [names]}}
        if request.param == "originate":
            proxy = RunningProxy(upstreams=[policy | {"https": "originate"}], listen=listen, **sections)
            base = f"http://{upstream.authority}"
        else:
            reverse = f"127.0.0.1:{free_port()}"
            routes = [{"path": "/hooks", "upstream": upstream.origin}]
            proxy = RunningProxy(
                upstreams=[policy], listen=listen | {"reverse": reverse}, routes=routes, **sections
            )
            base = f"http://{reverse}/hooks"
        resources.enter_context(proxy)
        environ = environment(proxy.url if request.param == "originate" else "")
        folder = tmp_path_factory.mktemp(request.param)
        client = resources.enter_context(KINDS["curl"].start(folder, environ))
        yield Way(proxy, client, upstream, base, answers)


@pytest.mark.parametrize("scenario", [pytest.param(row, id=name) for name, row in SCENARIOS.items()])
def test_a_call_is_answered_and_so_is_the_next(way: Way, scenario: Scenario) -> None:
    way.upstream.seen.clear()
    reply, following = way.client(way.ask(scenario), way.ask(PLAIN))
    scenario.check(reply)
    PLAIN.check(following)
    assert way.upstream.seen == [f"{scenario.method} {scenario.target}", "GET /hook?event=1"]
    assert "breaker-proxy-" in following.headers["via"]


def test_answers_of_500_cut_off_until_they_end(way: Way) -> None:
    circuit = way.upstream.authority
    way.answers["/hook?event=1"] = BROKEN
    assert [way.call(PLAIN).status for _ in range(5)] == [500] * 5
    assert_refused(way.call(PLAIN), circuit)
    assert way.proxy.state(circuit) == OPEN
    del way.answers["/hook?event=1"]
    way.upstream.seen.clear()
    assert_recovers(way.proxy, way.upstream, lambda: way.call(PLAIN))


def test_a_certificate_for_another_name_is_refused_with_the_reason(names: str, tmp_path: Path) -> None:
    upstreams = [{"match": HOST, "https": "originate", "tls": {"ca": certificates.authority_path()}}]
    with LocalUpstream(HOST, tls=certificates.server("other.test")) as upstream:
        with RunningProxy(upstreams=upstreams, dns={"servers": [names]}) as proxy:
            with KINDS["curl"].start(tmp_path, environment(proxy.url)) as client:
                replies = client(*[Ask(upstream.url.replace("https://", "http://"))] * 6)
    assert upstream.seen == []
    *failed, refused = replies
    assert [reply.status for reply in failed] == [502] * 5
    assert "error=tls_certificate_error" in failed[0].headers["proxy-status"]
    assert "Hostname mismatch" in failed[0].headers["proxy-status"]
    assert json.loads(failed[0].content)["error"] == "tls_certificate_error"
    assert_refused(refused, upstream.authority)
