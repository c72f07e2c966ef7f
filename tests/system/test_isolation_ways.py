"""Each way of the isolation experiment, really started, and what Squid and Envoy do with the sick."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import yaml
from isolation import envoy, ours, squid
from isolation.running import Running
from isolation.scenario import Scenario
from isolation.ways import Way, ways
from support import certificates
from support.outage import LocalUpstream, Verbatim, silent_upstream
from support.process import PATIENCE_S, free_port, until

from proxy.control import config

# Timeouts of a tenth of a second and more, but for Squid, which has none below 1 s.
SHORT = replace(Scenario().scaled(1 / 30), head_s=0.2)
BROKEN = {
    "/hook?event=1": Verbatim(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsick"
    )
}
BY_SLUG = {way.slug: way for way in ways()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Clients of other tests, which live as long as the session, may be there."""
    before = children()
    yield
    assert children() <= before


def call(running: Running, url: str, monkeypatch: pytest.MonkeyPatch) -> requests.Response:
    """A delivery by a worker that is started with the variables of the way."""
    with monkeypatch.context() as patched:
        for name, value in running.environ.items():
            patched.setenv(name, value)
        return requests.post(url, b"event", timeout=PATIENCE_S)


@contextmanager
def opened(way: Way, folder: Path, **ports: int) -> Iterator[Running]:
    """The way, which leads to upstreams in health or not."""
    with way.start(folder, SHORT, ports, Path(certificates.authority_path()) if way.is_https else None) as it:
        yield it


@pytest.mark.parametrize("way", ways(), ids=lambda way: way.slug)
def test_each_way_delivers_and_passes_on_errors(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the surroundings say must not count.
    for name in ("http_proxy", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tls = certificates.server("127.0.0.1") if way.is_https else None
    with LocalUpstream(tls=tls) as healthy, LocalUpstream(answers=BROKEN, tls=tls) as broken:
        with opened(way, tmp_path, healthy=healthy.port, broken=broken.port) as running:
            delivered = call(running, healthy.url, monkeypatch)
            assert (delivered.status_code, delivered.json()["length"]) == (200, 5)
            failed = call(running, broken.url, monkeypatch)
            assert (failed.status_code, failed.content) == (500, b"sick")
        assert running.openings() == []
        is_through = {"squid": "Squid", "envoy": "Envoy"}.get(way.slug, "breaker-proxy")
        if way.start is BY_SLUG["direct"].start:
            assert running.program is None
            assert "via" not in delivered.headers
        else:
            assert running.program is not None
            assert re.fullmatch(rf"{is_through} [0-9][0-9.]*\S*", running.program)
            assert is_through.lower() in str(delivered.headers).lower()


@pytest.mark.parametrize("slug", ["defaults", "tuned-https"])
def test_ours_trips_and_tells_it(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = BY_SLUG[slug]
    tls = certificates.server("127.0.0.1") if way.is_https else None
    with LocalUpstream(answers=BROKEN, tls=tls) as broken:
        with opened(way, tmp_path, broken=broken.port) as running:
            began_s = time.monotonic()
            statuses = [call(running, broken.url, monkeypatch).status_code for _ in range(6)]
            assert statuses == [500] * 5 + [503]
            opened_s = time.monotonic()
            # A probe fails: it opens a second time, by way of half-open.
            until(
                lambda: call(running, broken.url, monkeypatch).status_code == 500, "it lets no probe through"
            )
        ended_s = time.monotonic()
        assert len(broken.seen) == 6
    first, second = running.openings()
    assert {first.endpoint, second.endpoint} == {"broken"}
    # The log counts microseconds, and the clocks are read one after the other.
    assert began_s - 0.01 <= first.at_s <= opened_s + 0.01
    assert first.at_s + first.open_s - 0.01 <= second.at_s <= ended_s + 0.01
    # 30 s, a thirtieth of it, and the jitter; then twice that.
    assert 0.8 <= first.open_s <= 1.2
    assert 1.6 <= second.open_s <= 2.4


def test_squid_gives_a_silent_endpoint_up_and_remembers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalUpstream(answers=BROKEN) as broken, silent_upstream() as silent:
        with opened(BY_SLUG["squid"], tmp_path) as running:
            assert call(running, f"http://{silent}/", monkeypatch).status_code == 504
            for _ in range(20):
                assert call(running, broken.url, monkeypatch).status_code == 500
            assert len(broken.seen) == 20


def test_envoy_ejects_one_that_fails_and_takes_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalUpstream() as healthy, LocalUpstream(answers=dict(BROKEN)) as broken:
        with opened(BY_SLUG["envoy"], tmp_path) as running:
            for _ in range(5):
                assert call(running, broken.url, monkeypatch).status_code == 500
            assert_ejected(running, broken.url, monkeypatch)
            assert call(running, healthy.url, monkeypatch).status_code == 200
            assert len(broken.seen) == 5
            until(lambda: call(running, broken.url, monkeypatch).status_code == 500, "it is never taken back")
            # All its calls at once: there is no half-open.
            for _ in range(4):
                assert call(running, broken.url, monkeypatch).status_code == 500
            assert_ejected(running, broken.url, monkeypatch)


def test_envoy_ejects_a_black_hole_and_a_dead_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalUpstream() as dead, silent_upstream() as silent:
        dead.kill()
        with opened(BY_SLUG["envoy"], tmp_path) as running:
            for url, status in ((f"http://{silent}/", 504), (dead.url, 503)):
                answers = [call(running, url, monkeypatch) for _ in range(5)]
                assert [answer.status_code for answer in answers] == [status] * 5
                assert all("no healthy upstream" not in answer.text for answer in answers)
                assert_ejected(running, url, monkeypatch)


def test_envoy_ejects_no_black_hole_if_it_splits_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why that option is off."""
    split = (
        "      split_external_local_origin_errors: true\n      consecutive_local_origin_failure: FAILURES\n"
    )
    monkeypatch.setattr(envoy, "CONFIGURATION", envoy.CONFIGURATION + split)
    with silent_upstream() as silent, opened(BY_SLUG["envoy"], tmp_path) as running:
        for _ in range(12):
            assert call(running, f"http://{silent}/", monkeypatch).status_code == 504


def assert_ejected(running: Running, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy answers itself, and at once."""
    refused = call(running, url, monkeypatch)
    assert (refused.status_code, refused.text) == (503, "no healthy upstream")
    assert "retry-after" not in refused.headers


def test_squid_takes_another_port_if_somebody_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = free_port()
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(squid, "free_port", lambda: next(ports))
        with opened(BY_SLUG["squid"], tmp_path) as running:
            assert running.environ["http_proxy"] == f"http://127.0.0.1:{free}"


def test_nothing_is_left_of_a_program_when_its_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(BY_SLUG["envoy"], tmp_path):
        raise ZeroDivisionError


def test_the_tuned_file_has_the_timeouts_of_the_scenario() -> None:
    settings = config.load(ours.TUNED, {}, {})
    assert (settings.timeouts.connect, settings.timeouts.head) == (Scenario().connect_s, Scenario().head_s)


def test_nothing_is_set_at_full_scale_but_what_the_file_has() -> None:
    assert ours.sections(None, 1) == {}
    assert ours.sections(ours.TUNED, 1) == {"version": 1, "timeouts": {"connect": "2s", "head": "5s"}}


@pytest.mark.parametrize("file", [None, ours.TUNED])
def test_all_times_are_scaled(file: Path | None, tmp_path: Path) -> None:
    scaled = tmp_path / "scaled.yaml"
    scaled.write_text(yaml.safe_dump(ours.sections(file, 1 / 6)))
    # That it can be loaded shows that what must be longer than something else still is.
    short, full = config.load(scaled, {}, {}), config.load(file, {}, {})
    pairs = [
        (
            short.circuit,
            full.circuit,
            "window slow_call open open_max level_decay retry_after_max abandoned_after",
        ),
        (short.timeouts, full.timeouts, "dns connect tls head"),
        (short.limits, full.limits, "circuit_idle"),
    ]
    for section, before, names in pairs:
        for name in names.split():
            assert getattr(section, name) == pytest.approx(getattr(before, name) / 6, abs=0.001), name
    assert short.circuit.consecutive_failures == full.circuit.consecutive_failures
    assert short.limits.max_circuits == full.limits.max_circuits


def test_squid_has_whole_seconds() -> None:
    assert "\nread_timeout 5 seconds\n" in squid.configuration(Scenario(), 1)
    assert "\nread_timeout 1 seconds\n" in squid.configuration(Scenario().scaled(1 / 6), 1)


def test_envoy_has_our_numbers() -> None:
    settings = yaml.safe_load(envoy.configuration(Scenario()))
    (cluster,) = settings["static_resources"]["clusters"]
    ejection = cluster["outlier_detection"]
    assert cluster["connect_timeout"] == "2.000s"
    assert (ejection["base_ejection_time"], ejection["max_ejection_time"]) == ("30.000s", "300.000s")
    assert (ejection["consecutive_5xx"], ejection["interval"]) == (5, "10.000s")
    assert "timeout: 5.000s}" in envoy.configuration(Scenario())


def children() -> set[tuple[str, str]]:
    """The processes that this one has, with their names; zombies too."""
    own = Path("/proc/self/task")
    pids = [pid for task in own.iterdir() for pid in told(task / "children").split()]
    return {(pid, told(Path(f"/proc/{pid}/comm")).strip()) for pid in pids}


def told(of: Path) -> str:
    """What the kernel tells of a thread or a process; nothing of one that has just ended."""
    try:
        return of.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
