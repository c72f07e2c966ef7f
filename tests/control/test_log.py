"""The lines on standard output: what they hold, and that they never hurt; exchanges: test_access_log.py."""

import gc
import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from aiohttp.http import HttpProcessingError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.circuits import BY_PATH, HOST, Rig
from support.circuits import policy as circuit_policy
from support.lines import Lines, without_timestamps

from proxy import __version__
from proxy.control import log
from proxy.core import policy
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress, SniRules
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept
from proxy.core.outcome import FailureKind, failed
from proxy.core.overlay import Overlay
from proxy.core.overrides import Force
from proxy.core.ports import Ports
from proxy.core.registry import Circuits
from proxy.core.route import Route, UpstreamUrl
from proxy.core.states import Transition

ALL = policy.Log(level=policy.LogLevel.DEBUG, access=policy.AccessLog.ALL)
RESET = failed(FailureKind.RESET)


def test_each_transition_has_a_line(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(access=policy.AccessLog.OFF), stream)
    rig = Rig(
        circuit_policy(consecutive_failures=1, open=10, recovery_threshold=1),
        listeners=(log.circuit_changed,),
    )
    rig.call(RESET, 0.0)
    assert rig.refusal(1.0) == ("circuit_open", 9)
    rig.succeed(1, 10.0)
    common = {"event": "circuit changed", "circuit": HOST, "scope": "host", "note": None}
    assert without_timestamps(lines()) == [
        common
        | {"level": "warning", "from_state": "closed", "to_state": "open", "reason": "consecutive_failures"}
        | {"cause": "failure(reset)", "open_s": 10.0, "open_level": 1},
        common
        | {"level": "info", "from_state": "open", "to_state": "half_open", "reason": "open_elapsed"}
        | {"cause": None, "open_s": 0.0, "open_level": 1},
        common
        | {"level": "info", "from_state": "half_open", "to_state": "closed", "reason": "recovered"}
        | {"cause": "success", "open_s": 0.0, "open_level": 1},
    ]


def test_the_line_of_an_endpoint(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    rig = Rig(circuit_policy(consecutive_failures=1, key=BY_PATH), listeners=(log.circuit_changed,))
    endpoint = BY_PATH.endpoint(HOST, "/s3cret", ())
    rig.answer(500, 0.0, HOST, endpoint)
    (line,) = lines()
    assert (line["circuit"], line["scope"], line["to_state"]) == (endpoint, "endpoint", "open")
    assert "s3cret" not in json.dumps(line)


def test_the_line_of_an_override_has_its_note(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    rig = Rig(listeners=(log.circuit_changed,))
    note = 'maintenance "\n\x1b[31m'
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=60.0, note=note)
    rig.circuits.clear_override(HOST, 1.0)
    forced, cleared = lines()
    assert (forced["level"], forced["reason"], forced["note"]) == ("warning", "forced_open", note)
    assert (forced["open_s"], forced["open_level"]) == (60.0, 0)
    assert (cleared["level"], cleared["reason"], cleared["note"]) == ("info", "override_ended", None)


def test_a_listener_that_raises_has_a_line(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)

    def faulty(_transition: Transition) -> None:
        raise ValueError("why")

    circuits = Circuits(
        draw=lambda: 0.5,
        listeners=(faulty, partial(faulty), log.circuit_changed),
        on_fault=log.listener_failed,
    )
    circuits.force(HOST, policy.CircuitPolicy(), Force.CLOSED, 0.0)
    first, second, changed = lines()
    assert (first["level"], first["event"]) == ("error", "listener failed")
    assert first["listener"].endswith("faulty")
    assert first["exception"].endswith("ValueError: why")
    assert second["listener"] == "partial"
    assert changed["event"] == "circuit changed"


EGRESS = Egress(
    addresses=AllowedAddresses.NO_METADATA,
    allow=(Network.parse("10.0.0.0/8"),),
    connect_ports=Ports.parse([443]),
    sni=SniRules.ENFORCE,
)
WITH_RULES = policy.Upstream(match=HostPattern("a"), egress=Overlay({"addresses": AllowedAddresses.ANY}))
MODES = [HttpsMode.INTERCEPT, HttpsMode.TUNNEL, HttpsMode.ORIGINATE, HttpsMode.INTERCEPT]
INTERNAL = Route(upstream=UpstreamUrl.parse("http://10.0.0.7"), internal=True)


def test_the_life_of_the_process(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    log.started(
        "breaker-proxy-1",
        {"proxy": policy.Endpoint("127.0.0.1", 40001), "reverse": policy.Endpoint("::1", 2)},
    )
    settings_ = policy.Settings(
        egress=EGRESS,
        intercept=Intercept(exclude=(HostPattern("a"), HostPattern("*.b", 8443))),
        upstreams=(WITH_RULES, *(policy.Upstream(match=HostPattern("b"), https=mode) for mode in MODES)),
        routes=(INTERNAL,),
    )
    log.egress(settings_)
    log.https(settings_)
    log.draining(20.0)
    log.stopped()
    started, egress, https, draining, stopped = lines()
    assert (started["event"], started["level"]) == ("started", "info")
    assert (started["version"], started["name"]) == (__version__, "breaker-proxy-1")
    assert (started["proxy"], started["reverse"]) == ("127.0.0.1:40001", "[::1]:2")
    assert (egress["event"], egress["level"], egress["addresses"]) == ("egress", "info", "no-metadata")
    assert (egress["allow"], egress["deny"]) == (["10.0.0.0/8"], [])
    assert (egress["hosts_allow"], egress["hosts_deny"], egress["hosts_mode"]) == (["*"], [], "enforce")
    assert (egress["connect_ports"], egress["sni"]) == ("443", "enforce")
    assert (egress["upstreams_with_rules"], egress["internal_routes"]) == (1, 1)
    assert (https["event"], https["level"]) == ("https", "info")
    assert (https["upstreams_intercepted"], https["upstreams_originated"]) == (2, 1)
    assert https["exclude"] == ["a", "*.b:8443"]
    assert (draining["event"], draining["timeout_s"]) == ("draining", 20.0)
    assert stopped["event"] == "stopped"


def intercepting(**facts: Any) -> None:
    """Everything is well, but for these facts."""
    usual: dict[str, Any] = {
        "fingerprint": "ab" * 32,
        "not_after": datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC),
        "origin": "made",
        "bundle": "/shared/ca-bundle.crt",
        "system_roots": 140,
        "extra_roots": 1,
    }
    log.intercepting(**usual | facts)


def test_the_authority_by_which_we_intercept(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    intercepting()
    (line,) = without_timestamps(lines())
    assert line == {
        "level": "info",
        "event": "intercepting",
        "fingerprint_sha256": "ab" * 32,
        "not_after": "2036-01-02T03:04:05+00:00",
        "origin": "made",
        "bundle": "/shared/ca-bundle.crt",
        "system_roots": 140,
        "extra_roots": 1,
        "hint": None,
    }


@pytest.mark.parametrize(
    ("facts", "level", "hints"),
    [
        ({}, "info", []),
        ({"origin": "loaded"}, "info", []),
        # No bundle is written: somebody else gives clients what they trust.
        ({"bundle": None, "system_roots": None, "extra_roots": None}, "info", []),
        ({"system_roots": 1, "extra_roots": 0}, "info", []),
        ({"system_roots": 0}, "warning", ["install ca-certificates"]),
        ({"is_expiring": True}, "warning", ["the CA ends soon"]),
        (
            {"system_roots": 0, "is_expiring": True},
            "warning",
            ["install ca-certificates", "the CA ends soon"],
        ),
    ],
)
def test_a_warning_where_clients_will_fail(
    facts: dict[str, Any], level: str, hints: list[str], stream: BinaryIO, lines: Lines
) -> None:
    log.configure(policy.Log(), stream)
    intercepting(**facts)
    (line,) = lines()
    assert line["level"] == level
    assert (line["hint"] is None) == (not hints)
    assert all(hint in line["hint"] for hint in hints)


def test_what_is_read_of_the_credentials(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    log.credentials_read("tokens", names=1, tokens=2)
    log.credentials_kept(["tokens:1: wrong"])
    read, kept = without_timestamps(lines())
    assert read == {
        "level": "info",
        "event": "credentials read",
        "path": "tokens",
        "names": 1,
        "tokens": 2,
    }
    assert kept == {
        "level": "warning",
        "event": "credentials not changed",
        "faults": ["tokens:1: wrong"],
    }


def test_configure_holds_for_what_is_made_afterwards(stream: BinaryIO, lines: Lines, tmp_path: Path) -> None:
    with (tmp_path / "other").open("wb") as other:
        log.configure(ALL, other)
        log.stopped()
        log.configure(ALL, stream)
        log.stopped()
        log.draining(1.0)
        logging.getLogger("aiohttp.server").error("once")
    assert [line["event"] for line in lines()] == ["stopped", "draining", "once"]


def test_another_level_holds_for_what_is_made_afterwards(pipe: tuple[int, BinaryIO]) -> None:
    """Also where the output is in the middle of a line: that has its end before anything else is written."""
    descriptor, stream = pipe
    log.configure(policy.Log(level=policy.LogLevel.INFO), stream)
    log.logger().info("long", text="x" * 1_000_000)
    log.set_level(policy.LogLevel.WARNING)
    assert logging.getLogger().level == logging.WARNING
    read = os.read(descriptor, 100_000)
    while not read.endswith(b"\n"):
        log.logger().info("not written")
        log.logger().warning("written")
        read += os.read(descriptor, 100_000)
    events = [json.loads(line)["event"] for line in read.splitlines()]
    assert events[0] == "long"
    assert set(events[1:]) <= {"written"}
    log.set_level(policy.LogLevel.ERROR)
    assert logging.getLogger().level == logging.ERROR


def test_the_loggers_of_the_standard_library_write_the_same_lines(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    logging.getLogger("aiohttp.access").info("not this")
    logging.getLogger("asyncio").warning("Executing %s took %d ms", "task\n{}", 300)
    try:
        int("why")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Unhandled")
    first, second = lines()
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert (first["level"], first["logger"]) == ("warning", "asyncio")
    assert first["event"] == "Executing task\n{} took 300 ms"
    assert (second["level"], second["logger"], second["event"]) == ("error", "aiohttp.server", "Unhandled")
    assert second["exception"].endswith("base 10: 'why'")


def test_what_aiohttp_quotes_of_a_malformed_request_is_left_out(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    error = HttpProcessingError(message="Bad status line 'GET /?token=s3cret'")
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "192.0.2.1", exc_info=error)
    (line,) = lines()
    assert line["event"] == "Error handling request from 192.0.2.1"
    assert "s3cret" not in json.dumps(line)


def test_a_faulty_record_does_not_raise_where_it_is_logged(
    stream: BinaryIO, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(policy.Log(), stream)
    root = logging.getLogger()
    # pytest's own handlers do raise.
    for handler in [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest")]:
        root.removeHandler(handler)
    logging.getLogger("asyncio").warning("%d", "no number")
    logging.getLogger("asyncio").warning("next")
    assert [line["event"] for line in lines()] == ["next"]
    assert "no number" in capsys.readouterr().err


@given(hostile=st.text(st.characters(exclude_categories=())))
@example(hostile="\ud800\udcff")
@example(hostile="\r\n\x00\x1b[31m\x7f\x9b\u2028")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_values_stay_within_their_line(hostile: str, stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    stream.truncate(0)
    os.lseek(stream.fileno(), 0, os.SEEK_SET)
    log.credentials_kept([hostile])
    logging.getLogger("aiohttp.server").error("%s", hostile)
    kept, _ = lines()
    assert kept["faults"] == json.loads(json.dumps([hostile]))


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    """The reading end of a pipe as a descriptor, the writing end as a stream."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        yield reader, stream
    os.close(reader)


def test_a_pipe_that_nobody_empties_does_not_stop_us(pipe: tuple[int, BinaryIO]) -> None:
    reader, stream = pipe
    output = log.Output(stream)
    written = 0
    while not output.dropped:
        output.msg(f"{written:01000}")
        written += 1
    # The line that found the pipe full is lost; so is the next.
    output.msg("lost as well")
    assert output.dropped == 2
    read = os.read(reader, 1 << 20).splitlines()
    assert read == [b"%01000d" % number for number in range(written - 1)]
    output.msg("through again")
    assert os.read(reader, 1 << 20) == b"through again\n"
    assert output.dropped == 0


def test_the_next_line_says_how_many_were_lost(pipe: tuple[int, BinaryIO]) -> None:
    reader, stream = pipe
    log.configure(ALL, stream)
    # More than any pipe holds.
    for number in range(5000):
        log.draining(number)
    got_through = os.read(reader, 1 << 21).splitlines()
    assert 0 < len(got_through) < 5000
    for number in range(2):
        log.draining(number)
    first, second = (json.loads(line) for line in os.read(reader, 1 << 20).splitlines())
    assert first["lines_dropped"] == 5000 - len(got_through)
    assert "lines_dropped" not in second


def test_a_line_longer_than_the_pipe_arrives_in_one_piece(pipe: tuple[int, BinaryIO]) -> None:
    reader, stream = pipe
    output = log.Output(stream)
    long = "x" * 1_000_000
    output.msg(long)
    received = b""
    lost = 0
    while not received.endswith(b"next\n"):
        output.msg("next")
        lost = max(lost, output.dropped)
        received += os.read(reader, 1 << 16)
    assert received == f"{long}\nnext\n".encode()
    assert lost


def test_a_reader_that_went_away_does_not_hurt() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        output = log.Output(stream)
        os.close(reader)
        output.msg("lost")
        assert output.dropped == 1


def test_a_closed_descriptor_does_not_hurt(tmp_path: Path) -> None:
    with (tmp_path / "stdout").open("wb") as stream:
        output = log.Output(stream)
    output.msg("lost")
    assert output.dropped == 1


def test_a_full_disk_does_not_hurt() -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream:
        output = log.Output(stream)
        output.msg("lost")
        assert output.dropped == 1


def test_no_standard_output_at_all_does_not_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    log.configure(ALL)
    log.stopped()
    logging.getLogger("asyncio").error("lost")


def test_a_destructor_that_logs_in_the_middle_of_a_line_does_not_hurt(
    stream: BinaryIO, tmp_path: Path
) -> None:
    output = log.Output(stream)

    class Line(str):
        """Where garbage is collected while a line is written, destructors run."""

        __slots__ = ()

        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            output.msg("inner")
            gc.collect()
            return super().encode(encoding, errors)

    output.msg(Line("outer"))
    output.msg("next")
    assert (tmp_path / "stdout").read_bytes() == b"outer\nnext\n"
