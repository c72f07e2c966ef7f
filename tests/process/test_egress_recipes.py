"""The recipes of docs/egress.md, each run by the real program, as far as a machine without a network can."""

import re
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.outage import LocalUpstream
from support.process import PATIENCE_S, Reply, RunningProxy

PAGE = (Path(__file__).parents[2] / "docs" / "egress.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"(?ms)^### ([^\n]+)\n\n```yaml\n(.*?)^```$", PAGE))
ADDRESS_DENIED = (502, "address_denied")


def running(recipe: str, **words: str) -> RunningProxy:
    """The program with a recipe's configuration, listening on free ports."""
    text = RECIPES[recipe]
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    sections: dict[str, Any] = {"egress": {}} | yaml.safe_load(text)
    listen = dict.fromkeys(("proxy", "admin", *sections.get("listen", {})), "127.0.0.1:0")
    return RunningProxy(**sections | {"listen": listen})


def asked(port: int, url: str, method: str = "GET") -> Reply:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, url)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())
    finally:
        connection.close()


def refused(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.headers.get("x-breaker-reason")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_and_is_told_at_start(recipe: str) -> None:
    with running(recipe) as proxy:
        told = proxy.told("egress")
        assert told["addresses"] == "public"
        assert refused(asked(proxy.proxy_port, "http://169.254.169.254/"))[0] in {403, 502}
        assert proxy.told("exchange ended")["reason"] in {"address_denied", "host_denied"}


def test_only_the_upstream_that_is_named_may_be_inside() -> None:
    with LocalUpstream() as upstream, LocalUpstream() as other:
        words = {"hooks.example.internal:8080": f"localhost:{upstream.port}", "10.20.0.0/16": "127.0.0.0/8"}
        with running("Let one upstream be inside", **words) as proxy:
            assert asked(proxy.proxy_port, f"http://localhost:{upstream.port}/").status == 200
            for elsewhere in (f"127.0.0.1:{upstream.port}", f"localhost:{other.port}"):
                assert refused(asked(proxy.proxy_port, f"http://{elsewhere}/")) == ADDRESS_DENIED


def test_a_route_leads_inside_and_the_same_host_by_the_proxy_does_not() -> None:
    with LocalUpstream() as upstream:
        inside = f"127.0.0.1:{upstream.port}"
        with running("A route to an inside service", **{"billing.internal:8080": inside}) as proxy:
            reverse = int(proxy.told("started")["reverse"].rpartition(":")[2])
            assert asked(reverse, "/billing/hook").status == 200
            assert refused(asked(proxy.proxy_port, f"http://{inside}/hook")) == ADDRESS_DENIED
            assert proxy.told("egress")["internal_routes"] == 1
            assert proxy.state(f"{inside}+internal") is not None
            assert proxy.state(inside) is None
    without = {"billing.internal:8080": inside, ", internal: true": ""}
    with running("A route to an inside service", **without) as proxy:
        reverse = int(proxy.told("started")["reverse"].rpartition(":")[2])
        assert refused(asked(reverse, "/billing/hook")) == ADDRESS_DENIED


def test_what_would_be_refused_is_counted_and_logged() -> None:
    with running("Look first, refuse later") as proxy:
        # It passes the lists of hosts; the rules on addresses know no such mode.
        assert refused(asked(proxy.proxy_port, "http://10.0.0.1/")) == ADDRESS_DENIED
        line = proxy.told("exchange ended")
        assert (line["unenforced"], line["upstream"].partition("#")[0]) == ("host_denied", "10.0.0.1:80")
        assert proxy.metric("denied_total", reason="host_denied", enforced="false") == 1
        assert proxy.metric("denied_total", reason="address_denied", enforced="true") == 1


def test_tunnels_to_other_ports_are_refused() -> None:
    with running("Only these hosts, only these ports") as proxy:
        assert refused(asked(proxy.proxy_port, "api.example.com:22", "CONNECT")) == (502, "port_denied")
        assert refused(asked(proxy.proxy_port, "http://elsewhere.example/")) == (403, "host_denied")
