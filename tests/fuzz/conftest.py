"""How the fuzz tests run: short and always the same in the suite, as long as asked with `--fuzz-seconds`.

The suite runs the one batch of examples that has the seed 0 (see `batches.py`). With `--fuzz-seconds` batches
follow each other until the time is over, beginning with a seed at random, or with `--fuzz-seed`. A failure
names the seed of its batch, and `--fuzz-seed` repeats it.
"""

import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from fuzz.batches import Fuzz
from fuzz.conversation import Stage, Upstreams
from support.dns import DnsServer
from support.sidecar import Start
from wire.conftest import anyio_backend, start

from proxy.core.policy import CircuitPolicy, Dns, Endpoint

# pytest finds fixtures by their names in a conftest.
__all__ = ["anyio_backend", "start"]

# Examples wait for the sweep of the deadlines more often than for anything else.
_TICK_S = 0.01
# A batch that fails is run again and again to find the smallest example.
_SHRINKING_S = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=0.0, help="how long each fuzz test runs")
    parser.addoption("--fuzz-seed", type=int, default=None, help="the seed of the first batch of examples")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seconds = float(config.getoption("--fuzz-seconds", 0.0))
    for item in items:
        if "fuzz" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(seconds + _SHRINKING_S))


@pytest.fixture
def fuzz(pytestconfig: pytest.Config) -> Fuzz:
    """Tries what a strategy draws."""
    seconds = float(pytestconfig.getoption("--fuzz-seconds", 0.0))
    seed = pytestconfig.getoption("--fuzz-seed", None)
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32) if seconds else 0
    return Fuzz(seconds, int(seed))


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What is logged as an error, by whomever."""
    handler = _Errors()
    logging.getLogger().addHandler(handler)
    yield handler.logged
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """Where anybody connects to, before it is done."""
    addresses: set[tuple[str, int]] = set()
    connect = socket.socket.connect

    def noted(self: socket.socket, address: tuple[str, int]) -> None:
        addresses.add(address[:2])
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    return addresses


@pytest.fixture
async def stage(
    start: Start, errors: list[str], connected: set[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """A proxy that refuses nobody for the upstreams' faults, and upstreams."""
    monkeypatch.setattr("proxy.wire.deadlines.TICK_S", _TICK_S)
    never_opens = CircuitPolicy(consecutive_failures=0, failure_ratio=0)
    # What mutation makes of a name leads nowhere.
    async with Upstreams() as upstreams, DnsServer({}) as dns:
        proxy = await start(circuit=never_opens, dns=Dns(servers=(Endpoint("127.0.0.1", dns.port),)))
        yield Stage(proxy, upstreams, errors, connected)
        await proxy.sidecar.stop()
