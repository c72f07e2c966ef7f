"""For how long a connection to an upstream rests: `upstream_idle`, or less by the upstream's own word."""

import pytest
from support.client import Client, get
from support.sidecar import Start
from support.upstream import Expect, ScriptedUpstream, Send

from proxy.core.policy import Timeouts
from proxy.core.quantities import Seconds


@pytest.mark.parametrize(
    ("told", "rests_s"),
    [
        ([], 10),
        (["timeout=60"], 10),
        (["timeout=11"], 10),
        (["timeout=10"], 9),
        # It may close at the very end of its time, so we use it for a second less.
        (["timeout=5"], 4),
        (["Timeout=5"], 4),
        (['timeout="5"'], 4),
        (["timeout=5, max=100"], 4),
        (["max=100,\ttimeout=5"], 4),
        (["max=100", "timeout=5"], 4),
        (["timeout=2"], 1),
        (["timeout=1"], 0),
        (["timeout=0"], 0),
        (["max=1"], 10),
        (["timeout"], 10),
        (["timeout="], 10),
        (["timeout=x"], 10),
        (["timeout=-1"], 10),
        (["timeout=1.5"], 10),
        (["timeout=5s"], 10),
        (["timeout=" + "9" * 5000], 10),
        (["xtimeout=5"], 10),
        ([""], 10),
    ],
    ids=lambda told: ";".join(told)[:20] if isinstance(told, list) else str(told),
)
async def test_an_upstream_that_says_less_is_believed(start: Start, told: list[str], rests_s: float) -> None:
    proxy = await start(timeouts=Timeouts(upstream_idle=Seconds(10)))
    lines = "".join(f"Keep-Alive: {value}\r\n" for value in told)
    serve = [Expect(), Send(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode())] * 3
    async with ScriptedUpstream(serve) as upstream, await Client.connect(proxy.port) as client:
        # Idle until just before the end, and then until the end.
        for wait_s in (0.0, max(rests_s - 0.25, 0.0), rests_s):
            proxy.clock.now += wait_s
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
            assert answer.header("Keep-Alive") is None
    reused = [exchange.reused for exchange in proxy.exchanges]
    assert reused == [False, rests_s > 0, False]


async def test_each_response_says_it_anew(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(upstream_idle=Seconds(10)))
    short = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n"
    silent = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    serve = [Expect(), Send(short), Expect(), Send(silent), Expect(), Send(silent)]
    async with ScriptedUpstream(serve) as upstream, await Client.connect(proxy.port) as client:
        for wait_s in (0, 1, 9):
            proxy.clock.now += wait_s
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 200
        assert len(upstream.connections) == 1


async def test_with_upstream_idle_0_none_rests_whatever_it_says(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(upstream_idle=Seconds(0)))
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(answer)] * 2) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(2):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).status == 200
        assert len(upstream.connections) == 2
