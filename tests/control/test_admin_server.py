"""Who may use the admin port may change while it runs: who was let in before has no more than the others."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.api import CIRCUITS, AdminPort

from proxy.control.admin_server import AdminServer
from proxy.control.events import KEEP_ALIVE_S
from proxy.core.host_pattern import HostPattern
from proxy.core.policy import Admin, Endpoint

TOKEN, OTHER = b"0123456789abcdef", b"fedcba9876543210"
LOOPBACK = Endpoint("127.0.0.1", 0)
EVERYWHERE = Endpoint("0.0.0.0", 0)
EVENTS = "/api/v1/events"


class Rig:
    """An admin server, and a client of it."""

    client: httpx.AsyncClient

    def __init__(self, endpoint: Endpoint, runtime: Path) -> None:
        self.behind = AdminPort()
        self.runtime = runtime
        self.server = AdminServer(
            endpoint,
            self.behind.application(),
            self.behind.trust,
            on_trust=self.behind.events.review,
            clock=self.behind.clock,
            environ={"XDG_RUNTIME_DIR": str(runtime)},
        )

    def configure(self, token: bytes | None = None, **settings: object) -> None:
        path = None if token is None else str(self.runtime / "token")
        if token is not None:
            (self.runtime / "token").write_bytes(token)
        self.server.configure(Admin(**({"token_file": path} | settings)), token)  # type: ignore[arg-type]

    async def status(self, token: bytes | None = None, host: str = "localhost") -> int:
        """What the API answers to whoever shows this."""
        return (await self.client.get(CIRCUITS, headers=_fields(token) | {"Host": host})).status_code

    @asynccontextmanager
    async def stream(self, token: bytes | None = None) -> AsyncIterator[AsyncIterator[str]]:
        """The events as a stream, once it has begun."""
        async with self.client.stream("GET", EVENTS, headers=_fields(token)) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            await anext(lines)
            yield lines

    @property
    def left(self) -> bytes | None:
        """The token that was left for our user."""
        path = self.runtime / "breaker-proxy" / f"admin-{self.server.port}.token"
        return path.read_bytes().strip() if path.exists() else None


def _fields(token: bytes | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token.decode()}"}


@asynccontextmanager
async def listening(endpoint: Endpoint, runtime: Path) -> AsyncIterator[Rig]:
    rig = Rig(endpoint, runtime)
    rig.configure()
    await rig.server.listen()
    try:
        base = f"http://127.0.0.1:{rig.server.port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as rig.client:
            yield rig
    finally:
        await rig.server.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Rig]:
    async with listening(LOOPBACK, tmp_path) as rig:
        yield rig


@pytest.fixture
async def everywhere(tmp_path: Path) -> AsyncIterator[Rig]:
    async with listening(EVERYWHERE, tmp_path) as rig:
        yield rig


async def test_on_loopback_a_token_may_come_change_and_go(here: Rig) -> None:
    assert (await here.status(), await here.status(TOKEN), here.left) == (200, 401, None)
    here.configure(TOKEN)
    assert (await here.status(), await here.status(TOKEN), await here.status(OTHER)) == (401, 200, 401)
    here.configure(OTHER)
    assert (await here.status(), await here.status(TOKEN), await here.status(OTHER)) == (401, 401, 200)
    here.configure()
    assert (await here.status(), await here.status(TOKEN), await here.status(OTHER)) == (200, 401, 401)


async def test_names_of_this_machine_may_be_others(here: Rig) -> None:
    assert await here.status(host="admin.test") == 421
    here.configure(hosts=(HostPattern.parse("admin.test"),))
    assert await here.status(host="admin.test") == 200
    here.configure()
    assert await here.status(host="admin.test") == 421


async def test_a_token_of_our_own_stays_until_a_file_takes_its_place(everywhere: Rig) -> None:
    made = everywhere.left
    assert made is not None
    assert (await everywhere.status(made), await everywhere.status()) == (200, 401)
    everywhere.configure(hosts=(HostPattern.parse("admin.test"),))
    assert (await everywhere.status(made), everywhere.left) == (200, made)
    everywhere.configure(TOKEN)
    assert (await everywhere.status(made), await everywhere.status(TOKEN), everywhere.left) == (
        401,
        200,
        None,
    )
    everywhere.configure()
    again = everywhere.left
    assert again not in (None, made)
    assert [await everywhere.status(token) for token in (again, made, TOKEN, None)] == [200, 401, 401, 401]


async def test_a_token_of_our_own_that_found_no_place_is_written_once_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    async with listening(EVERYWHERE, runtime) as rig:
        before = rig.left
        runtime.mkdir()
        rig.configure()
        assert before is None
        assert await rig.status(rig.left) == 200
        assert await rig.status() == 401


async def test_at_the_end_a_token_of_our_own_is_taken_away(tmp_path: Path) -> None:
    async with listening(EVERYWHERE, tmp_path) as rig:
        assert rig.left is not None
    assert list((tmp_path / "breaker-proxy").iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second"), [(None, TOKEN), (TOKEN, OTHER), (TOKEN, None)], ids=["comes", "changes", "goes"]
)
async def test_a_stream_of_whoever_is_not_trusted_any_more_ends_at_once(
    here: Rig, first: bytes | None, second: bytes | None
) -> None:
    here.configure(first)
    async with here.stream(first) as lines:
        here.configure(first)
        here.behind.rig.fail(5, 0.0)
        while (await anext(lines)) != "event: transition":
            pass
        here.configure(second)
        async with asyncio.timeout(KEEP_ALIVE_S / 2):
            async for _ in lines:
                pass
    assert here.behind.events.readers == 0


async def test_a_file_that_says_something_else_ends_them_before_the_next_event(here: Rig) -> None:
    here.configure(TOKEN)
    async with here.stream(TOKEN) as lines:
        (here.runtime / "token").write_bytes(OTHER)
        here.behind.clock.now += 1
        here.behind.rig.fail(5, 0.0)
        rest = [line async for line in lines]
    assert [line for line in rest if line.startswith("event:")] == []
