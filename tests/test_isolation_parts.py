"""The parts of the isolation experiment (bench/isolation) that need neither Redis nor Celery."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import httpx
import pytest
from isolation import endpoints, records
from isolation.endpoints import Clinic, RunningEndpoints
from isolation.scenario import Ailment, Endpoint, Scenario
from isolation.schedule import events
from support import certificates
from support.process import PATIENCE_S

# The flapping one is sick, and then well, for 5 s: longer than a test looks. Where it is amid that, it
# is asked first.
SCALE = 1 / 4
SCENARIO = Scenario().scaled(SCALE)
EVENT = {"event": 1}
HEAD = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningEndpoints]:
    with endpoints.running(tmp_path, SCALE) as started:
        yield started
    assert started.process.returncode == 0


def connected(running: RunningEndpoints, name: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.ports[name]), timeout=PATIENCE_S)


def called(running: RunningEndpoints, name: str) -> int | None:
    """The status; None: nothing in far more than the time that the slow take."""
    try:
        return httpx.post(
            f"http://127.0.0.1:{running.ports[name]}/events",
            json=EVENT,
            timeout=SCENARIO.slow_error_s * 2,
            trust_env=False,
        ).status_code
    except httpx.ReadTimeout:
        return None


ALL_WELL = {"flapping": 200, "healthy-00": 200, "silent": 200, "silent-recovering": 200, "slow-error": 200}


@pytest.mark.parametrize(
    ("since_s", "status"),
    [
        pytest.param(None, ALL_WELL, id="onset-unknown"),
        pytest.param(-3600.0, ALL_WELL, id="onset-ahead"),
        pytest.param(
            0.1,
            {
                "flapping": 500,
                "healthy-00": 200,
                "silent": None,
                "silent-recovering": None,
                "slow-error": 500,
            },
            id="onset",
        ),
        pytest.param(
            SCENARIO.recovery_s + 0.1,
            {"flapping": 200, "healthy-00": 200, "silent": None, "silent-recovering": 200, "slow-error": 500},
            id="recovery",
        ),
        pytest.param(SCENARIO.measured_s, ALL_WELL, id="end"),
    ],
)
def test_each_has_what_ails_it_at_that_time(
    running: RunningEndpoints, tmp_path: Path, since_s: float | None, status: dict[str, int | None]
) -> None:
    assert list(running.ports) == [endpoint.name for endpoint in SCENARIO.endpoints()]
    began_s = monotonic()
    if since_s is not None:
        running.fall_sick(began_s - since_s)
    assert {name: called(running, name) for name in status} == status
    arrivals = list(records.arrivals(tmp_path))
    assert [(arrival.endpoint, arrival.is_sick) for arrival in arrivals] == [
        (name, seen != 200) for name, seen in status.items()
    ]
    assert began_s < arrivals[0].at_s < arrivals[-1].at_s < monotonic()


def test_how_long_an_answer_takes(running: RunningEndpoints) -> None:
    running.fall_sick(monotonic())
    with httpx.Client(trust_env=False) as client:
        took_s = {
            name: client.post(f"http://127.0.0.1:{running.ports[name]}/", json=EVENT).elapsed.total_seconds()
            for name in ("healthy-00", "slow-error", "flapping")
        }
    assert took_s["healthy-00"] >= SCENARIO.answer_s[0]
    assert took_s["slow-error"] >= SCENARIO.slow_error_s
    assert took_s["flapping"] < SCENARIO.slow_error_s


def test_a_call_from_the_time_of_the_sickness_is_not_answered_after_it(
    running: RunningEndpoints, tmp_path: Path
) -> None:
    running.fall_sick(monotonic() - SCENARIO.recovery_s + 2)
    with connected(running, "silent-recovering") as early:
        early.sendall(HEAD + b"{}")
        # The first of these is given up before the recovery, or is itself from before it.
        while called(running, "silent-recovering") is None:
            pass
        early.settimeout(SCENARIO.answer_s[1] * 2)
        with pytest.raises(TimeoutError):
            early.recv(1)
    assert next(records.arrivals(tmp_path)).is_sick


def test_a_head_has_arrived_whatever_becomes_of_its_content(
    running: RunningEndpoints, tmp_path: Path
) -> None:
    with connected(running, "healthy-00") as client:
        client.sendall(HEAD + b"{")
    assert called(running, "healthy-01") == 200
    assert Counter(arrival.endpoint for arrival in records.arrivals(tmp_path)) == {
        "healthy-00": 1,
        "healthy-01": 1,
    }


def test_bad_peers_do_not_end_it(running: RunningEndpoints) -> None:
    for said in (b"", b"\r\n\r\n\x00", HEAD[:20], b"POST /" + b"x" * 100_000, HEAD + b"{", HEAD + b"{}"):
        with connected(running, "healthy-00") as client:
            client.sendall(said)
    assert called(running, "healthy-00") == 200


@pytest.mark.parametrize("is_asked", [True, False], ids=["sigterm", "end-of-input"])
def test_it_ends_at_once(running: RunningEndpoints, is_asked: bool) -> None:  # noqa: FBT001 -- a row of the table
    running.fall_sick(monotonic())
    with connected(running, "silent") as client:
        client.sendall(HEAD + b"{}")
        assert called(running, "flapping") == 500
        if is_asked:
            running.process.terminate()
        elif running.process.stdin is not None:
            running.process.stdin.close()
        assert running.process.wait(PATIENCE_S) == 0


def test_it_speaks_tls(tmp_path: Path) -> None:
    pem = tmp_path / "endpoints.pem"
    shown = certificates.certificate("127.0.0.1")
    shown.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with endpoints.running(tmp_path, SCALE, pem) as running:
        context = ssl.create_default_context(cafile=certificates.authority_path())
        url = f"https://127.0.0.1:{running.ports['silent']}/events"
        assert httpx.post(url, json=EVENT, verify=context, trust_env=False).status_code == 200


async def test_a_call_that_hangs_ends_with_its_client(tmp_path: Path) -> None:
    endpoint = Endpoint("silent", Ailment.SILENT, ((0.0, PATIENCE_S),))
    with (tmp_path / "arrivals.jsonl").open("w", encoding="utf-8") as to:
        clinic = Clinic(SCENARIO, to)
        clinic.onset_s = monotonic()
        server = await endpoints.listen(clinic, endpoint, None)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        before = asyncio.all_tasks()
        writer.write(HEAD + b"{}")
        while not list(records.arrivals(tmp_path)):
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) > len(before)
        writer.close()
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
        server.close()


def test_events_are_due_one_after_another_and_as_many_for_each() -> None:
    planned = list(events(SCENARIO))
    gap_s = 1 / SCENARIO.events_per_s
    assert [event.number for event in planned] == list(range(len(planned)))
    assert planned[0].due_s == -SCENARIO.lead_in_s
    assert SCENARIO.measured_s - gap_s <= planned[-1].due_s + 1e-9 < SCENARIO.measured_s
    assert [event.due_s for event in planned] == pytest.approx(
        [number * gap_s - SCENARIO.lead_in_s for number in range(len(planned))]
    )
    names = [endpoint.name for endpoint in SCENARIO.endpoints()]
    turns = [planned[begin : begin + 20] for begin in range(0, len(planned), 20)]
    assert all(Counter(event.endpoint for event in turn) == Counter(names) for turn in turns)
    assert len({tuple(event.endpoint for event in turn) for turn in turns}) == len(turns)
    assert planned == list(events(SCENARIO))
