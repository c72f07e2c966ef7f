"""The clients, each with a proxy of its own, or all with one that intercepts HTTPS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from support import certificates
from support.dns import DnsServer
from support.process import RunningProxy
from system.caller import HOST, Caller, calling, host_of
from system.kinds import HTTPS, KINDS


@pytest.fixture(scope="session")
def names() -> Iterator[str]:
    """The address of a DNS server that knows `HOST`, and a host for each client alone."""
    known = {host: ["127.0.0.1"] for host in (HOST, *map(host_of, KINDS))}
    with start_blocking_portal() as portal:
        with portal.wrap_async_context_manager(DnsServer(known)) as server:
            yield str(server.endpoint)


@pytest.fixture(scope="session", params=KINDS)
def caller(
    request: pytest.FixtureRequest, names: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    circuit = {"open": "2s", "abandoned_after": "300ms"}
    with RunningProxy(circuit=circuit, dns={"servers": [names]}) as proxy:
        with calling(kind, proxy, folder) as caller:
            yield caller


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the intercepting proxy writes for its clients."""
    return tmp_path_factory.mktemp("shared") / "ca-bundle.crt"


@pytest.fixture(scope="session")
def intercepting(
    names: str, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    upstreams = [{"match": "*.test", "https": "intercept", "tls": {"ca": certificates.authority_path()}}]
    private = tmp_path_factory.mktemp("private")
    with RunningProxy(
        circuit={"open": "2s"},
        dns={"servers": [names]},
        upstreams=upstreams,
        intercept={"directory": str(bundle.parent), "private_directory": str(private)},
    ) as proxy:
        yield proxy


@pytest.fixture(scope="session", params=HTTPS)
def trusting(
    request: pytest.FixtureRequest,
    intercepting: RunningProxy,
    bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Caller]:
    """A client of the intercepting proxy that trusts its bundle, and not what upstreams have theirs from."""
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp(request.param)
    with calling(kind, intercepting, folder, bundle) as caller:
        yield caller
