"""A sidecar on loopback, on both event loops, and the proof that nothing is left over after each test."""

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.sidecar import SETTINGS, Clock, Running, Start

from proxy.app import Sidecar
from proxy.core.exchange import Exchange


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The wire tests run on both event loops."""
    return ("asyncio", {"use_uvloop": request.param})


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts sidecars; `start(circuit=CircuitPolicy(...))` replaces whole sections of SETTINGS."""
    tasks_before = _tasks()
    sockets_before = _open_sockets()
    started: list[Running] = []

    async def begin(**sections: Any) -> Running:
        clock = Clock()

        def on_exchange(exchange: Exchange) -> None:
            running.exchanges.append(exchange)
            running.reported.set()

        running = Running(
            Sidecar(replace(SETTINGS, **sections), clock=clock, draw=lambda: 0.5, on_exchange=on_exchange),
            clock,
        )
        await running.sidecar.start()
        started.append(running)
        return running

    yield begin
    for running in started:
        sidecar = running.sidecar
        await sidecar.stop()
        assert sidecar.data_plane.handler.in_flight == 0
        redirected = sum(exchange.original is not None for exchange in running.exchanges)
        assert sidecar.data_plane.handler.begun <= len(running.exchanges) + redirected, (
            "one report per request"
        )
        assert sum(circuit.in_flight for circuit in sidecar.circuits) == 0, "a permit is outstanding"
        assert len(sidecar.data_plane.deadlines) == 0
        assert sidecar.data_plane.tunnels.open == 0
        assert not sidecar.data_plane.tunnels.of_host
        assert sidecar.data_plane.pool.idle == 0
    await _settled(lambda: _no_clients(started), "a client's transport is open")
    await _settled(lambda: _tasks() <= tasks_before, "a task is left")
    gc.collect()
    await _settled(lambda: _open_sockets() <= sockets_before, "a descriptor is left")


def _no_clients(started: list[Running]) -> bool:
    return not any(running.sidecar.data_plane.clients for running in started)


def _tasks() -> set[str]:
    """What runs, by name, without the test runner's own tasks."""
    return {
        repr(task)
        for task in asyncio.all_tasks()
        if not getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")
    }


def _open_sockets() -> set[str]:
    """Every descriptor that is a network socket; event loops open other kinds when they please."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            name = str(link.readlink())
            if name.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(link.name))) as copy:
                    if copy.family in (socket.AF_INET, socket.AF_INET6):
                        found.add(name)
    return found


async def _settled(condition: Callable[[], bool], otherwise: str) -> None:
    """Gives the loop some turns to close what was aborted."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(otherwise)
