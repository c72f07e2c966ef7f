"""The lines on standard output: which are written, what they hold, and that they never hurt."""

import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from aiohttp.http import HttpProcessingError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.circuits import BY_PATH, HOST, Rig
from support.circuits import policy as circuit_policy
from support.exchanges import ended

from proxy import __version__
from proxy.control import log
from proxy.core import errors, policy
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.host_pattern import HostPattern
from proxy.core.outcome import SUCCESS, FailureKind, Outcome, failed
from proxy.core.overlay import Overlay
from proxy.core.overrides import Force
from proxy.core.policy import PathLog
from proxy.core.ports import Ports
from proxy.core.registry import Circuits
from proxy.core.route import Route, UpstreamUrl
from proxy.core.states import Transition
from proxy.core.target import Target, from_absolute_form, from_authority_form

Lines = Callable[[], list[dict[str, Any]]]

ALL = policy.Log(level=policy.LogLevel.DEBUG, access=policy.AccessLog.ALL)
RESET = failed(FailureKind.RESET)
WEBHOOK = from_absolute_form("http://hooks.example.com/services/T0/s3cret?token=s3cret", "POST")
HASH = blake2b(b"/services/T0/s3cret", digest_size=8).hexdigest()


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leaves the logging of this process as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "stdout").open("wb") as file:
        yield file


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    def read() -> list[dict[str, Any]]:
        content = (tmp_path / "stdout").read_bytes()
        assert content.isascii()
        assert content.endswith(b"\n") or not content
        return [json.loads(line) for line in content.decode().splitlines()]

    return read


def exchange(
    *,
    status: int | None = None,
    source: Source = Source.PROXY,
    error: errors.ProxyError | None = None,
    outcome: Outcome = SUCCESS,
    target: Target | None = WEBHOOK,
) -> Exchange:
    return ended(
        Entry.FORWARD, "POST", target=target, status=status, source=source, error=error, outcome=outcome
    )


def test_the_line_of_an_exchange(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    exchange = ended(
        entry=Entry.FORWARD,
        method="POST",
        started=100.0,
        client_name="ci",
        target=WEBHOOK,
        address="192.0.2.7",
        status=504,
        source=Source.PROXY,
        error=errors.HttpResponseTimeout("the upstream sent no response head in time"),
        outcome=failed(FailureKind.RESPONSE_TIMEOUT),
        client_left=True,
        reused=True,
        request_bytes=12,
        response_bytes=34,
        dns_s=0.0012345678,
        connect_s=0.1,
        head_s=30.0000004,
    )
    before = datetime.now(UTC)
    log.AccessLog(ALL).exchange_ended(exchange, 130.5)
    (line,) = lines()
    assert list(line)[:3] == ["timestamp", "level", "event"]
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert before <= datetime.fromisoformat(timestamp) <= datetime.now(UTC)
    assert line == {
        "level": "warning",
        "event": "exchange ended",
        "entry": "forward",
        "client_name": "ci",
        "method": "POST",
        "upstream": f"hooks.example.com:80#{HASH}",
        "address": "192.0.2.7",
        "unenforced": None,
        "status": 504,
        "source": "proxy",
        "outcome": "failure(response_timeout)",
        "error": "http_response_timeout",
        "reason": "http_response_timeout",
        "details": "the upstream sent no response head in time",
        "client_left": True,
        "dns_s": 0.001235,
        "connect_s": 0.1,
        "head_s": 30.0,
        "total_s": 30.5,
        "request_bytes": 12,
        "response_bytes": 34,
        "reused": True,
    }


def test_every_line_of_an_exchange_has_the_same_fields(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access = log.AccessLog(ALL)
    access.exchange_ended(exchange(status=200, source=Source.UPSTREAM), 1.0)
    access.exchange_ended(exchange(target=None, error=errors.HttpRequestError("bad")), 1.0)
    first, second = lines()
    assert list(first) == list(second)
    assert first["error"] is first["reason"] is first["details"] is first["dns_s"] is None
    assert first["client_name"] is None
    assert second["upstream"] is second["address"] is second["status"] is None


REFUSED = errors.DestinationUnavailable("open")


@pytest.mark.parametrize(
    ("told", "written"),
    [
        # (what ended, in which modes it has a line: all, errors)
        (exchange(status=200, source=Source.UPSTREAM), (True, False)),
        (exchange(status=404, source=Source.UPSTREAM), (True, False)),
        (exchange(status=501, source=Source.UPSTREAM), (True, True)),
        (exchange(status=500, source=Source.UPSTREAM), (True, True)),
        (exchange(status=200, source=Source.UPSTREAM, outcome=RESET), (True, True)),
        (exchange(outcome=failed(FailureKind.ABANDONED)), (True, True)),
        (exchange(status=502, error=errors.ConnectionTerminated("gone")), (True, True)),
        (exchange(status=400, error=errors.HttpRequestError("bad")), (True, True)),
        (exchange(status=503, error=REFUSED), (False, False)),
        (exchange(status=503, error=errors.ConnectionLimitReached("full")), (False, False)),
        (exchange(status=503, error=REFUSED, outcome=RESET, source=Source.UPSTREAM), (False, False)),
    ],
)
def test_which_exchanges_have_a_line(
    told: Exchange, written: tuple[bool, bool], stream: BinaryIO, lines: Lines
) -> None:
    log.configure(ALL, stream)
    for mode, expected in zip(
        (policy.AccessLog.ALL, policy.AccessLog.ERRORS, policy.AccessLog.OFF), (*written, False), strict=True
    ):
        before = len(lines())
        log.AccessLog(policy.Log(access=mode)).exchange_ended(told, 1.0)
        assert len(lines()) - before == expected, mode


@pytest.mark.parametrize(
    ("told", "level"),
    [
        (exchange(status=200, source=Source.UPSTREAM), "info"),
        (exchange(status=500, source=Source.UPSTREAM), "warning"),
        (exchange(status=502, error=errors.ConnectionTerminated("gone")), "warning"),
        (exchange(status=500, error=errors.ProxyInternalError("our fault")), "error"),
    ],
)
def test_a_line_has_the_level_of_what_went_wrong(
    told: Exchange, level: str, stream: BinaryIO, lines: Lines
) -> None:
    log.configure(ALL, stream)
    log.AccessLog(ALL).exchange_ended(told, 1.0)
    assert [line["level"] for line in lines()] == [level]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", ["info", "warning", "error"]), ("warning", ["warning", "error"]), ("error", ["error"])],
)
def test_less_severe_lines_are_left_out(
    level: str, expected: list[str], stream: BinaryIO, lines: Lines
) -> None:
    settings_ = policy.Log(level=policy.LogLevel(level), access=policy.AccessLog.ALL)
    log.configure(settings_, stream)
    access = log.AccessLog(settings_)
    access.exchange_ended(exchange(status=200, source=Source.UPSTREAM), 1.0)
    access.exchange_ended(exchange(status=500, source=Source.UPSTREAM), 1.0)
    access.exchange_ended(exchange(error=errors.ProxyInternalError("our fault")), 1.0)
    assert [line["level"] for line in lines()] == expected


@pytest.mark.parametrize(
    ("target", "path", "upstream"),
    [
        (WEBHOOK, PathLog.HASH, f"hooks.example.com:80#{HASH}"),
        (WEBHOOK, PathLog.FULL, "hooks.example.com:80/services/T0/s3cret"),
        (
            from_absolute_form("http://[2001:db8::1]:8080?q=s3cret", "GET"),
            PathLog.FULL,
            "[2001:db8::1]:8080/",
        ),
        (from_authority_form("api.example.com:443"), PathLog.HASH, "api.example.com:443"),
        (from_authority_form("api.example.com:443"), PathLog.FULL, "api.example.com:443"),
    ],
)
def test_the_name_of_the_upstream(
    target: Target, path: PathLog, upstream: str, stream: BinaryIO, lines: Lines
) -> None:
    log.configure(ALL, stream)
    log.AccessLog(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(
        exchange(target=target), 1.0
    )
    assert lines()[0]["upstream"] == upstream


def test_equal_paths_have_equal_hashes_whatever_the_query(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access = log.AccessLog(ALL)
    for path in ("/a?x=1", "/a?x=2", "/a", "/b"):
        target = from_absolute_form(f"http://api.example.com{path}", "GET")
        access.exchange_ended(exchange(target=target), 1.0)
    named = [line["upstream"] for line in lines()]
    assert named[0] == named[1] == named[2] != named[3]


@pytest.mark.parametrize("path", list(PathLog))
def test_no_query_and_no_cause_is_written(path: PathLog, stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    target = from_absolute_form("http://api.example.com/a?token=s3cret", "GET")
    error = errors.HttpProtocolError("the response has a malformed head")
    error.__cause__ = ValueError("s3cret")
    log.AccessLog(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(
        exchange(target=target, error=error), 1.0
    )
    assert "s3cret" not in json.dumps(lines())


def test_an_exchange_is_named_as_its_endpoint_is(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    log.AccessLog(ALL).exchange_ended(exchange(), 1.0)
    endpoint = BY_PATH.endpoint(WEBHOOK.host_port, WEBHOOK.origin_form, ())
    assert [line["upstream"] for line in lines()] == [endpoint]


def without_timestamps(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "timestamp"} for line in lines]


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
        policy.Limits(),
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
)
WITH_RULES = policy.Upstream(match=HostPattern("a"), egress=Overlay({"addresses": AllowedAddresses.ANY}))
INTERNAL = Route(upstream=UpstreamUrl.parse("http://10.0.0.7"), internal=True)


def test_the_life_of_the_process(stream: BinaryIO, lines: Lines) -> None:
    log.configure(policy.Log(), stream)
    log.started(
        "breaker-proxy-1",
        {"proxy": policy.Endpoint("127.0.0.1", 40001), "reverse": policy.Endpoint("::1", 2)},
    )
    log.egress(policy.Settings(egress=EGRESS, upstreams=(WITH_RULES,), routes=(INTERNAL,)))
    log.draining(20.0)
    log.stopped()
    started, egress, draining, stopped = lines()
    assert (started["event"], started["level"]) == ("started", "info")
    assert (started["version"], started["name"]) == (__version__, "breaker-proxy-1")
    assert (started["proxy"], started["reverse"]) == ("127.0.0.1:40001", "[::1]:2")
    assert (egress["event"], egress["level"], egress["addresses"]) == ("egress", "info", "no-metadata")
    assert (egress["allow"], egress["deny"]) == (["10.0.0.0/8"], [])
    assert (egress["hosts_allow"], egress["hosts_deny"], egress["hosts_mode"]) == (["*"], [], "enforce")
    assert egress["connect_ports"] == "443"
    assert (egress["upstreams_with_rules"], egress["internal_routes"]) == (1, 1)
    assert (draining["event"], draining["timeout_s"]) == ("draining", 20.0)
    assert stopped["event"] == "stopped"


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
        log.AccessLog(ALL).exchange_ended(exchange(), 1.0)
        logging.getLogger("aiohttp.server").error("once")
    assert [line["event"] for line in lines()] == ["stopped", "exchange ended", "once"]


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
@example(hostile='{"event": %s}' * 2)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_values_stay_within_their_line(hostile: str, stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    stream.truncate(0)
    os.lseek(stream.fileno(), 0, os.SEEK_SET)
    target = Target("http", hostile, 80, "/" + hostile, hostile)
    told = exchange(target=target, error=errors.HttpProtocolError(hostile, reason=hostile))
    told.method = told.address = hostile
    for path in PathLog:
        log.AccessLog(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(told, 1.0)
    logging.getLogger("aiohttp.server").error("%s", hostile)
    written = lines()
    assert len(written) == 3
    assert written[0]["method"] == json.loads(json.dumps(hostile))


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
    access = log.AccessLog(ALL)
    # More than any pipe holds.
    for _ in range(5000):
        access.exchange_ended(exchange(), 1.0)
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
    log.AccessLog(ALL).exchange_ended(exchange(), 1.0)
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
