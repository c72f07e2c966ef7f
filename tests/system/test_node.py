"""Node's undici through the proxy. It tunnels http:// as well, so a refusal answers its CONNECT."""

import json
import random
import re
import subprocess
from pathlib import Path

import pytest
from support.outage import LocalUpstream, assert_abandoned, outage, received, silent_upstream
from support.process import PATIENCE_S, Reply, RunningProxy

SCRIPT = Path(__file__).parent / "node" / "call.mjs"
MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 -- no secret


def call(
    proxy: RunningProxy,
    method: str,
    url: str,
    content: bytes = b"",
    *,
    chunked: bool = False,
    timeout_s: float = PATIENCE_S,
) -> Reply:
    """One call with a ProxyAgent of its own.

    Raises:
        TimeoutError: the client has given up.
    """
    framing = ["chunked" if chunked else "whole"] if content else []
    arguments = [proxy.url, method, url, str(round(timeout_s * 1000)), *framing]
    done = subprocess.run(
        ["node", str(SCRIPT), *arguments],
        input=content,
        stdout=subprocess.PIPE,
        timeout=2 * PATIENCE_S,
        check=True,
    )
    told = json.loads(done.stdout)
    if told.get("name") == "TimeoutError":
        raise TimeoutError
    if "status" in told:
        return Reply(told["status"], told["headers"], told["content"].encode())
    # undici shows nothing else of an answer to its CONNECT.
    refusal = re.fullmatch(r"Proxy response \((\d+)\) !== 200 when HTTP Tunneling", told["message"])
    assert refusal is not None, told
    return Reply(int(refusal[1]))


def assert_refused(reply: Reply, _circuit: str) -> None:
    assert reply.status == 503


@pytest.mark.parametrize(
    ("method", "content", "chunked"),
    [("GET", b"", False), ("POST", MEGABYTES, False), ("POST", MEGABYTES, True)],
    ids=["get", "post", "chunked"],
)
def test_a_request_arrives_and_its_answer_comes_back(method: str, content: bytes, *, chunked: bool) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = call(proxy, method, upstream.url, content, chunked=chunked)
        assert reply.status == 200
        assert json.loads(reply.content) == received(method, content, chunked=chunked)
        assert proxy.metric("circuit_calls_total", **success(upstream)) == 1


def test_head() -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = call(proxy, "HEAD", upstream.url)
        assert (reply.status, reply.headers["x-upstream"], reply.content) == (200, "local", b"")


def test_a_dead_upstream_is_cut_off_until_it_is_back() -> None:
    with RunningProxy(circuit={"open": "3s"}) as proxy, LocalUpstream() as upstream:
        outage(proxy, upstream, lambda: call(proxy, "POST", upstream.url, b"event"), assert_refused)


def test_a_silent_upstream_is_cut_off_by_clients_that_give_up() -> None:
    with RunningProxy(circuit={"abandoned_after": "500ms"}) as proxy, silent_upstream() as authority:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                call(proxy, "POST", f"http://{authority}/", b"event", timeout_s=1.5)
        assert_abandoned(proxy, authority, lambda: call(proxy, "GET", f"http://{authority}/"), assert_refused)


def success(upstream: LocalUpstream) -> dict[str, str]:
    """The labels of the calls that this upstream has answered well."""
    return {"circuit": upstream.authority, "scope": "host", "outcome": "success"}
