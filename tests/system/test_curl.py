"""curl through the proxy, forwarding and through a tunnel (`-p`), as the README shows it."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.outage import LocalUpstream, assert_abandoned, outage, received, silent_upstream
from support.process import PATIENCE_S, Reply, RunningProxy

MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 -- no secret
# The file in which curl leaves all heads it was sent.
HEAD = "head"
TIMED_OUT = 28
TUNNEL_REFUSED = 56

Curl = Callable[..., Reply]


@pytest.fixture(params=[(), ("-p",)], ids=["forward", "tunnel"])
def curl(request: pytest.FixtureRequest, tmp_path: Path) -> Curl:
    """`curl(proxy, *arguments)` runs curl with these arguments; TimeoutError: it has given up."""

    def run(proxy: RunningProxy, *arguments: str) -> Reply:
        return _curl(tmp_path, "-x", proxy.url, *request.param, *arguments)

    return run


def _curl(folder: Path, *arguments: str) -> Reply:
    head, content = folder / HEAD, folder / "content"
    content.write_bytes(b"")
    options = ["-q", "-sS", "--noproxy", "", "-D", str(head), "-o", str(content)]
    done = subprocess.run(
        ["curl", *options, *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    if done.returncode == TIMED_OUT:
        raise TimeoutError
    assert done.returncode in (0, TUNNEL_REFUSED), done.stderr
    # The last head is that of the answer: an interim one, or the tunnel's, may stand before it.
    status, *fields = head.read_text().strip().split("\n\n")[-1].splitlines()
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    return Reply(int(status.split()[1]), headers, content.read_bytes())


@pytest.fixture
def megabytes(tmp_path: Path) -> str:
    """The argument that names 10 MB of content."""
    file = tmp_path / "megabytes"
    file.write_bytes(MEGABYTES)
    return f"@{file}"


def test_get(curl: Curl) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = curl(proxy, upstream.url)
        assert (reply.status, json.loads(reply.content)) == (200, received("GET"))


def test_head(curl: Curl) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = curl(proxy, "-I", upstream.url)
        assert (reply.status, reply.headers["x-upstream"]) == (200, "local")
        assert upstream.seen == ["HEAD /hook?event=1"]


def test_post_of_10_mb(curl: Curl, megabytes: str, tmp_path: Path) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = curl(proxy, "--data-binary", megabytes, upstream.url)
        assert (reply.status, json.loads(reply.content)) == (200, received("POST", MEGABYTES))
    # curl asks with `Expect` before it sends so much, and is answered by the upstream.
    assert "HTTP/1.1 100 Continue\n" in (tmp_path / HEAD).read_text()


def test_chunked_upload(curl: Curl, megabytes: str) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        reply = curl(proxy, "-H", "Transfer-Encoding: chunked", "--data-binary", megabytes, upstream.url)
        assert (reply.status, json.loads(reply.content)) == (200, received("POST", MEGABYTES, chunked=True))


def test_a_dead_upstream_is_cut_off_until_it_is_back(curl: Curl) -> None:
    with RunningProxy(circuit={"open": "2s"}) as proxy, LocalUpstream() as upstream:
        outage(proxy, upstream, lambda: curl(proxy, "-d", "event", upstream.url))


def test_a_silent_upstream_is_cut_off_by_clients_that_give_up(curl: Curl) -> None:
    with RunningProxy(circuit={"abandoned_after": "500ms"}) as proxy, silent_upstream() as authority:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                curl(proxy, "-m", "0.7", "-d", "event", authority)
        assert_abandoned(proxy, authority, lambda: curl(proxy, authority))
