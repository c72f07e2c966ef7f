"""What the proxy refuses or ends by itself: circuits, limits, its own end."""

from contextlib import suppress

from faults.by_upstreams import Provoke
from faults.stage import Stage
from support.client import ESTABLISHED
from support.upstream import OK, Do, Expect, Script, Send

from proxy.core.exchange import Entry
from proxy.core.overrides import Force
from proxy.core.policy import CircuitPolicy, Limits, OpenAction, Timeouts
from proxy.core.quantities import Seconds
from proxy.wire.dialer import Dialer

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def _ask_anew(stage: Stage) -> None:
    """The exchange under test begins, by a client of its own."""
    stage.ready()
    await stage.connect()
    await stage.ask()


async def circuit_open(stage: Stage) -> None:
    await stage.refused(circuit=ONE_FAILURE)
    await stage.ask()
    await stage.is_over()
    await _ask_anew(stage)


async def open_action_close(stage: Stage) -> None:
    await stage.refused(circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    await stage.ask()
    await stage.is_over()
    await _ask_anew(stage)


async def forced_open(stage: Stage) -> None:
    await stage.begin()
    circuits, now = stage.proxy.sidecar.circuits, stage.proxy.clock.now
    circuits.force(stage.authority, stage.proxy.sidecar.settings.circuit, Force.OPEN, now)
    await stage.ask()


async def half_open(stage: Stage) -> None:
    await stage.unresponsive(circuit=ONE_FAILURE)
    await stage.ask()
    await stage.is_under_way()
    stage.proxy.clock.now += 5
    await stage.is_over()
    stage.proxy.clock.now += 30
    await stage.connect()
    await stage.ask()
    await stage.is_under_way()
    await _ask_anew(stage)


async def ramping(stage: Stage) -> None:
    policy = CircuitPolicy(consecutive_failures=1, recovery_threshold=1, ramp=Seconds(100))
    is_tunnel = stage.entry is Entry.TUNNEL
    works: Script = [Send(b"hi"), Do.STALL] if is_tunnel else [Expect(), Send(OK)] * 2
    await stage.upstream([Do.RESET], works, circuit=policy)
    # A failure, the probe, and the first call behind it, which passes in any case.
    for number, wait_s in enumerate((0, 30, 0)):
        stage.proxy.clock.now += wait_s
        await stage.ask()
        if is_tunnel:
            with suppress(ConnectionError):
                await stage.client.reader.readuntil(b"hi" if number else ESTABLISHED)
            stage.client.close()
            await stage.connect()
        else:
            await stage.is_over()
        await stage.report(number + 1)
    await _ask_anew(stage)


async def in_flight(stage: Stage) -> None:
    await stage.unresponsive(circuit=CircuitPolicy(max_in_flight=1))
    await stage.ask()
    await stage.is_under_way()
    await _ask_anew(stage)


async def tunnels_full(stage: Stage) -> None:
    is_tunnel = stage.entry is Entry.TUNNEL
    script: Script = [Do.STALL] if is_tunnel else [Expect(), Send(SWITCH), Do.STALL]
    await stage.upstream(script, limits=Limits(max_tunnels=1))
    await stage.ask("GET", "Upgrade: websocket", "Connection: Upgrade")
    assert await stage.client.hears()
    stage.ready()
    await stage.connect()
    await stage.ask("GET", "Upgrade: websocket", "Connection: Upgrade")


async def connections_full(stage: Stage) -> None:
    await stage.unresponsive(limits=Limits(max_connections=1))
    await stage.ask()
    await stage.is_under_way()
    stage.ready()
    await stage.connect()


async def total_over(stage: Stage) -> None:
    upstream = await stage.upstream([Do.STALL], timeouts=Timeouts(total=Seconds(7)))
    await stage.ask()
    await (await upstream.connection(0)).until(b"\r\n\r\n")
    stage.proxy.clock.now += 7


async def total_over_for_client(stage: Stage) -> None:
    upstream = await stage.upstream([Do.STALL], timeouts=Timeouts(total=Seconds(7)))
    await stage.ask("POST", "Content-Length: 10", content=b"half")
    await (await upstream.connection(0)).until(b"half")
    stage.owed = b"x" * 6
    stage.proxy.clock.now += 7


async def draining(stage: Stage) -> None:
    await stage.unresponsive()
    await stage.ask()
    await stage.is_under_way()
    await stage.proxy.sidecar.stop()


async def own_fault(stage: Stage) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    stage.patch.setattr(Dialer, "connect", fail)
    await stage.begin()
    await stage.ask()


PROVOKE: dict[str, Provoke] = {
    "circuit_open": circuit_open,
    "forced_open": forced_open,
    "half_open": half_open,
    "ramping": ramping,
    "open_action_close": open_action_close,
    "in_flight": in_flight,
    "tunnels_full": tunnels_full,
    "connections_full": connections_full,
    "total_over": total_over,
    "total_over_for_client": total_over_for_client,
    "draining": draining,
    "own_fault": own_fault,
}
