"""The clients, each with a proxy of its own."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from anyio.from_thread import start_blocking_portal
from support.dns import DnsServer
from support.process import RunningProxy
from system.adapters import environment
from system.caller import HOST, Caller
from system.kinds import KINDS


@pytest.fixture(scope="session")
def names() -> Iterator[str]:
    """The address of a DNS server that knows `HOST`."""
    with start_blocking_portal() as portal:
        with portal.wrap_async_context_manager(DnsServer({HOST: ["127.0.0.1"]})) as server:
            yield str(server.endpoint)


@pytest.fixture(scope="session", params=KINDS)
def caller(
    request: pytest.FixtureRequest, names: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    circuit = {"open": "2s", "abandoned_after": "300ms"}
    with ExitStack() as resources:
        proxy = resources.enter_context(RunningProxy(circuit=circuit, dns={"servers": [names]}))
        client = resources.enter_context(kind.start(folder, environment(proxy.url)))
        yield Caller(kind, client, proxy, folder)
