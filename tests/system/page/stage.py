"""A proxy in the middle of a bad day: upstreams with names, some of them sick, and who calls them.

For pictures of the page. All calls are real: over TLS that the proxy speaks, to names that a DNS server
knows, on port 443 of addresses of loopback (so only root can do this).
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import web
from anyio.from_thread import start_blocking_portal
from support import certificates
from support.dns import DnsServer, Known, Trouble
from support.process import RunningProxy
from system.page.calling import AdminClient

# Where all upstreams are, and where none is.
HERE, NOWHERE = "127.0.0.77", "127.0.0.78"
REFUSES, HAS_NO_ADDRESS, FAILS_THEN_HANGS = "refuses", "has no address", "fails, then hangs"
_FIELDS = {"Content-Type": "application/json"}
_CONTENT = b"{}"


@dataclass(frozen=True)
class Play:
    """How an upstream is called, and how it answers.

    Attributes:
        calls_a_second: on average; they come in waves.
        takes_s: to answer.
        fails: every how manieth call is answered 503; 0 is none.
        from_share: from this share of the whole time on it is sick, 0 to 1.
        sickness: what it then does to a call.
    """

    calls_a_second: float
    takes_s: float
    fails: int = 0
    from_share: float = 1.0
    sickness: str = ""


PLAYS: Mapping[str, Play] = {
    "api.example.com": Play(14, 0.035),
    "hooks.example.com": Play(5, 0.08, from_share=0.6, sickness=REFUSES),
    "billing.example.org": Play(3, 0.12, from_share=0.84, sickness=FAILS_THEN_HANGS),
    "mail.example.net": Play(1.5, 0.09, from_share=0.35, sickness=HAS_NO_ADDRESS),
    "events.example.net": Play(6, 0.05, fails=6),
    "search.example.com": Play(8, 0.012),
    "payments.example.com": Play(2, 0.9),
    "crm.example.org": Play(1, 0.15),
    "sms.example.com": Play(1, 0.2, fails=2),
    "legacy.example.org": Play(0.5, 0.4),
    "hooks.north.example": Play(1, 0.06),
    "hooks.south.example": Play(1, 0.07, fails=25),
    "hooks.east.example": Play(0.5, 0.11),
    "hooks.west.example": Play(0.5, 0.05),
}
NAMED_SICK, PROBED = "hooks.example.com:443", "billing.example.org:443"


@dataclass
class Stage:
    """The upstreams while they play.

    Args:
        lasts_s: the whole time.
    """

    lasts_s: float
    began: float = field(default_factory=monotonic)
    names: dict[str, Known] = field(default_factory=lambda: dict.fromkeys(PLAYS, (HERE,)))
    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLAYS, 0))

    @property
    def share(self) -> float:
        """How much of the time has passed."""
        return (monotonic() - self.began) / self.lasts_s

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What an upstream says."""
        host = request.host.partition(":")[0]
        play = PLAYS[host]
        self.answered[host] += 1
        await asyncio.sleep(play.takes_s * (0.8 + 0.4 * (self.answered[host] % 7) / 6))
        is_sick = self.share >= play.from_share
        if is_sick and play.sickness in {REFUSES, HAS_NO_ADDRESS} and request.transport is not None:
            # What was kept open ends, and the next one does not come here.
            request.transport.abort()
        elif is_sick and self.share >= play.from_share + 15 / self.lasts_s:
            await asyncio.sleep(60)
        fails = is_sick or (play.fails > 0 and self.answered[host] % play.fails == 0)
        return web.Response(status=503 if fails else 200, body=_CONTENT, headers=_FIELDS)

    async def fall_sick(self) -> None:
        """Takes their addresses from those who are to lose them, when it is time."""
        while True:
            for host, play in PLAYS.items():
                if self.share >= play.from_share and play.sickness == REFUSES:
                    self.names[host] = (NOWHERE,)
                elif self.share >= play.from_share and play.sickness == HAS_NO_ADDRESS:
                    self.names[host] = Trouble.NXDOMAIN
            await asyncio.sleep(0.2)

    async def call(self, proxy: str) -> None:
        """Calls them all through the proxy, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=40)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

            async def once(host: str) -> None:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"http://{host}/v1", proxy=proxy) as answer:
                        await answer.read()

            async def keep_calling(host: str, play: Play) -> None:
                async with asyncio.TaskGroup() as calls:
                    phase = len(host)
                    while True:
                        wave = (
                            1
                            + 0.45 * math.sin(monotonic() / 11 + phase)
                            + 0.2 * math.sin(monotonic() / 3.1 + phase)
                        )
                        await asyncio.sleep(1 / (play.calls_a_second * wave))
                        calls.create_task(once(host))

            async with asyncio.TaskGroup() as callers:
                for host, play in PLAYS.items():
                    callers.create_task(keep_calling(host, play))


@asynccontextmanager
async def _upstreams(stage: Stage) -> AsyncIterator[str]:
    """They listen; gives the address of the server that knows their names."""
    application = web.Application()
    application.router.add_get("/v1", stage.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, 443, ssl_context=certificates.server(*PLAYS)).start()
        async with DnsServer(stage.names) as names:
            yield str(names.endpoint)
    finally:
        await runner.cleanup()


@contextmanager
def staged(lasts_s: float) -> Iterator[tuple[RunningProxy, Stage]]:
    """The proxy, its upstreams, and who calls them all the while."""
    stage = Stage(lasts_s)
    upstreams: list[dict[str, Any]] = [
        {"match": "*", "https": "originate", "tls": {"ca": certificates.authority_path()}}
    ]
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_upstreams(stage)) as names:
        with RunningProxy(
            name="orders",
            circuit={"open": "25s", "open_jitter": 0, "consecutive_failures": 5},
            upstreams=upstreams,
            dns={"servers": [names], "negative": "1s", "stale": "0s"},
            timeouts={"head": "60s"},
        ) as proxy:
            plays = (stage.fall_sick, lambda: stage.call(proxy.url))
            playing = [portal.start_task_soon(play) for play in plays]
            try:
                yield proxy, stage
            finally:
                for task in playing:
                    task.cancel()


def steer(proxy: RunningProxy) -> None:
    """What operators have done meanwhile."""
    admin = AdminClient(proxy)
    admin.steer("crm.example.org:443", "open", ttl="45m", note="they migrate until 18:00, see #4711")
    admin.steer("sms.example.com:443", "close", ttl="2h", note="half of their 503 are false, we retry")
    admin.close()
