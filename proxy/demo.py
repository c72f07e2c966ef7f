"""`breaker-proxy demo`: three upstreams on this machine, a stream of calls, and their circuits in a table.

It needs no network. The settings are those of a proxy in a hurry, so that a circuit opens and recovers while
somebody watches.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.app import Sidecar
from proxy.control import log
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.policy import CircuitPolicy, Endpoint, Listen, Log, LogLevel, Settings
from proxy.core.quantities import Seconds
from proxy.core.states import State

_CALL_EVERY_S = 0.2
_FRAMES_A_SECOND = 5
# The flapping upstream is well for this long, then fails for as long.
_FLAP_S = 8.0

_SETTINGS = Settings(
    listen=Listen(proxy=Endpoint("127.0.0.1", 0), admin=Endpoint("127.0.0.1", 0)),
    circuit=CircuitPolicy(open=Seconds(4), open_max=Seconds(8)),
    egress=Egress(addresses=AllowedAddresses.ANY),
    log=Log(level=LogLevel.ERROR),
)
_STYLES = {State.CLOSED: "green", State.HALF_OPEN: "yellow", State.OPEN: "bold red"}


@dataclass(slots=True)
class _Upstream:
    """One row of the table."""

    name: str
    does: str
    port: int
    answers: dict[str, int] = field(default_factory=lambda: {"2xx": 0, "5xx": 0, "502": 0, "503": 0})
    last: str = ""

    @property
    def key(self) -> str:
        return f"127.0.0.1:{self.port}"


async def demo(seconds: float | None) -> None:
    """Runs until cancelled, or for this many seconds."""
    console = Console()
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 -- never blocks
        log.configure(_SETTINGS.log, nowhere)
        async with AsyncExitStack() as stack:
            sidecar = Sidecar(_SETTINGS)
            stack.push_async_callback(sidecar.stop)
            await sidecar.start()
            rows = await _start_upstreams(stack)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
            )
            calls = [asyncio.create_task(_call(session, sidecar, row)) for row in rows]
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await _show(console, sidecar, rows)
            finally:
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)


async def _start_upstreams(stack: AsyncExitStack) -> list[_Upstream]:
    began = time.monotonic()
    healthy = await _serve(stack, lambda: 200)
    flapping = await _serve(
        stack, lambda: 500 if (time.monotonic() - began) % (2 * _FLAP_S) > _FLAP_S else 200
    )
    # Bound and not listening: the port stays ours, and every connection to it is refused.
    dead = stack.enter_context(socket.socket())
    dead.bind(("127.0.0.1", 0))
    return [
        _Upstream("healthy", "always answers 200", healthy),
        _Upstream("flapping", f"answers 500 for {_FLAP_S:.0f} s in {2 * _FLAP_S:.0f} s", flapping),
        _Upstream("dead", "refuses connections", dead.getsockname()[1]),
    ]


async def _serve(stack: AsyncExitStack, status: Callable[[], int]) -> int:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status(), text="demo\n")

    runner = web.ServerRunner(web.Server(answer, access_log=None), handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def _call(session: aiohttp.ClientSession, sidecar: Sidecar, row: _Upstream) -> None:
    proxy = f"http://127.0.0.1:{sidecar.proxy_port}"
    while True:
        began = time.monotonic()
        try:
            async with session.get(f"http://{row.key}/event", proxy=proxy) as response:
                await response.read()
                status, reason = response.status, response.headers.get("X-Breaker-Reason", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            status, reason = 0, type(error).__name__
        kind = str(status) if reason else f"{status // 100}xx"
        row.answers[kind] = row.answers.get(kind, 0) + 1
        took_ms = (time.monotonic() - began) * 1000
        row.last = f"{status} {reason} {took_ms:.1f} ms".replace("  ", " ")
        await asyncio.sleep(_CALL_EVERY_S)


async def _show(console: Console, sidecar: Sidecar, rows: list[_Upstream]) -> None:
    if not console.is_terminal:
        await _tell(console, sidecar, rows)
        return
    with Live(_picture(sidecar, rows), console=console, refresh_per_second=_FRAMES_A_SECOND) as live:
        while True:
            await asyncio.sleep(1 / _FRAMES_A_SECOND)
            live.update(_picture(sidecar, rows))


async def _tell(console: Console, sidecar: Sidecar, rows: list[_Upstream]) -> None:
    """Without a terminal there is no table to redraw: one line a change."""
    console.print(_where(sidecar))
    known: dict[str, str] = {}
    while True:
        await asyncio.sleep(1 / _FRAMES_A_SECOND)
        for row in rows:
            state = _state(sidecar, row).value
            if known.get(row.name) != state:
                known[row.name] = state
                console.print(
                    f"{row.name} ({row.key}): circuit {state}, last answer {row.last}", soft_wrap=True
                )


def _picture(sidecar: Sidecar, rows: list[_Upstream]) -> Group:
    table = Table(title="breaker-proxy demo", title_justify="left", expand=False)
    for heading in ("upstream", "what it does", "circuit", "next probe"):
        table.add_column(heading)
    for heading in ("2xx", "5xx", "502", "503"):
        table.add_column(heading, justify="right")
    table.add_column("last answer")
    for row in rows:
        state = _state(sidecar, row)
        circuit = sidecar.circuits.get(row.key)
        left_s = circuit.open_s_left(time.monotonic()) if circuit is not None else 0.0
        table.add_row(
            f"{row.name}\n{row.key}",
            row.does,
            Text(state.value, style=_STYLES[state]),
            f"in {left_s:.1f} s" if left_s else "",
            *(str(row.answers[kind]) for kind in ("2xx", "5xx", "502", "503")),
            row.last,
        )
    legend = "5xx: the upstream's answer. 502: it was not reached. 503: refused at once, its circuit is open."
    return Group(table, Text(legend, style="dim"), Text(_where(sidecar)))


def _where(sidecar: Sidecar) -> str:
    return (
        f"proxy http://127.0.0.1:{sidecar.proxy_port}   metrics http://127.0.0.1:{sidecar.admin_port}/metrics"
        "   Ctrl-C ends it"
    )


def _state(sidecar: Sidecar, row: _Upstream) -> State:
    circuit = sidecar.circuits.get(row.key)
    return circuit.state if circuit is not None else State.CLOSED
