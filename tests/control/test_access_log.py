"""The lines of exchanges: which are written, what they hold, and what is said once for each host."""

import json
import logging
import os
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.circuits import BY_PATH
from support.exchanges import ended
from support.lines import Lines, without_timestamps

from proxy.control import log
from proxy.control.access_log import MAX_HOSTS, AccessLog
from proxy.core import errors, policy
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.outcome import SUCCESS, FailureKind, Outcome, failed
from proxy.core.policy import PathLog
from proxy.core.target import Target, from_absolute_form, from_authority_form

ALL = policy.Log(level=policy.LogLevel.DEBUG, access=policy.AccessLog.ALL)
OFF = policy.Log(access=policy.AccessLog.OFF)
RESET = failed(FailureKind.RESET)
WEBHOOK = from_absolute_form("http://hooks.example.com/services/T0/s3cret?token=s3cret", "POST")
HASH = blake2b(b"/services/T0/s3cret", digest_size=8).hexdigest()


def idle_at_the_end() -> errors.Draining:
    error = errors.Draining("idle")
    error.was_idle = True
    return error


def access_log(settings: policy.Log, bundle_directory: str | None = None) -> AccessLog:
    access = AccessLog(bundle_directory)
    access.configure(settings)
    return access


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
        server_name="other.example.com",
        request_bytes=12,
        response_bytes=34,
        dns_s=0.0012345678,
        connect_s=0.1,
        tls_s=0.25,
        head_s=30.0000004,
    )
    before = datetime.now(UTC)
    access_log(ALL).exchange_ended(exchange, 130.5)
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
        "server_name": "other.example.com",
        "address": "192.0.2.7",
        "unenforced": None,
        "fell_back_for": None,
        "original": None,
        "status": 504,
        "source": "proxy",
        "outcome": "failure(response_timeout)",
        "error": "http_response_timeout",
        "reason": "http_response_timeout",
        "details": "the upstream sent no response head in time",
        "client_left": True,
        "dns_s": 0.001235,
        "connect_s": 0.1,
        "tls_s": 0.25,
        "head_s": 30.0,
        "total_s": 30.5,
        "request_bytes": 12,
        "response_bytes": 34,
        "reused": True,
    }


def test_every_line_of_an_exchange_has_the_same_fields(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access = access_log(ALL)
    access.exchange_ended(exchange(status=200, source=Source.UPSTREAM), 1.0)
    access.exchange_ended(exchange(target=None, error=errors.HttpRequestError("bad")), 1.0)
    first, second = lines()
    assert list(first) == list(second)
    assert first["error"] is first["reason"] is first["details"] is first["dns_s"] is None
    assert first["client_name"] is first["server_name"] is first["tls_s"] is None
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
        (exchange(status=200, error=errors.Draining("cut")), (True, True)),
        (exchange(status=200, error=idle_at_the_end()), (True, False)),
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
        access_log(policy.Log(access=mode)).exchange_ended(told, 1.0)
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
    access_log(ALL).exchange_ended(told, 1.0)
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
    access = access_log(settings_)
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
    access_log(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(
        exchange(target=target), 1.0
    )
    assert lines()[0]["upstream"] == upstream


def test_equal_paths_have_equal_hashes_whatever_the_query(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access = access_log(ALL)
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
    access_log(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(
        exchange(target=target, error=error), 1.0
    )
    assert "s3cret" not in json.dumps(lines())


def test_an_exchange_is_named_as_its_endpoint_is(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access_log(ALL).exchange_ended(exchange(), 1.0)
    endpoint = BY_PATH.endpoint(WEBHOOK.host_port, WEBHOOK.origin_form, ())
    assert [line["upstream"] for line in lines()] == [endpoint]


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
    told.method = told.address = told.server_name = hostile
    for path in PathLog:
        access_log(policy.Log(access=policy.AccessLog.ALL, path=path)).exchange_ended(told, 1.0)
    logging.getLogger("aiohttp.server").error("%s", hostile)
    written = lines()
    assert len(written) == 3
    assert written[0]["method"] == json.loads(json.dumps(hostile))


# What is said once for each host.

ALERT = "the client ended the TLS handshake with the alert unknown_ca"
NO_HTTP = "the client's ALPN has no http/1.1"


def connect(authority: str = "api.example.com:443", **facts: Any) -> Exchange:
    return ended(Entry.INTERCEPTED, "CONNECT", target=from_authority_form(authority), **facts)


def untrusting(authority: str = "api.example.com:443", **facts: Any) -> Exchange:
    return connect(authority, error=errors.CaNotTrusted(ALERT), **facts)


def closing(authority: str = "api.example.com:443", **facts: Any) -> Exchange:
    return connect(authority, error=errors.ClientTlsClosed("closed"), **facts)


def tunnelled(authority: str = "api.example.com:443", **facts: Any) -> Exchange:
    return connect(authority, tunnelled_because=NO_HTTP, **facts)


NOT_TRUSTED, IN_SPITE = "client does not trust the CA", "tunnelled in spite of https: intercept"
PERHAPS = "client may not trust the CA"
each_kind = pytest.mark.parametrize(
    ("made", "event"),
    [(untrusting, NOT_TRUSTED), (closing, PERHAPS), (tunnelled, IN_SPITE)],
    ids=["untrusting", "closing", "tunnelled"],
)


def said(lines: list[dict[str, Any]], event: str) -> list[str | None]:
    """Of which upstreams it was said."""
    return [line["upstream"] for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("directory", "how"),
    [
        ("/shared/", "make the client trust /shared/ca-bundle.crt"),
        (".", "make the client trust ca-bundle.crt"),
        (None, "set intercept.directory, and make the client trust the ca-bundle.crt that is written there"),
    ],
)
def test_a_client_that_does_not_trust_the_ca_has_a_line_with_a_hint(
    directory: str | None, how: str, stream: BinaryIO, lines: Lines
) -> None:
    log.configure(OFF, stream)
    access = access_log(OFF, directory)
    access.exchange_ended(untrusting(server_name="api.example.com", client_name="ci"), 1.0)
    (line,) = without_timestamps(lines())
    assert line == {
        "level": "warning",
        "event": NOT_TRUSTED,
        "upstream": "api.example.com:443",
        "server_name": "api.example.com",
        "client_name": "ci",
        "details": ALERT,
        "hint": f"{how} (see docs/https.md); a client that trusts only its own list needs intercept.exclude",
    }


def test_a_tunnel_that_was_to_be_intercepted_has_a_line(stream: BinaryIO, lines: Lines) -> None:
    log.configure(OFF, stream)
    access_log(OFF).exchange_ended(tunnelled(), 1.0)
    (line,) = without_timestamps(lines())
    assert line == {
        "level": "info",
        "event": IN_SPITE,
        "upstream": "api.example.com:443",
        "server_name": None,
        "client_name": None,
        "because": NO_HTTP,
    }


@pytest.mark.parametrize(
    "told",
    [
        connect(),
        # Other garbage in place of TLS is no matter of trust.
        connect(error=errors.ClientTlsFailed("no TLS")),
        connect(error=errors.TlsAlertReceived("the upstream's")),
        connect(error=errors.TlsCertificateError("expired")),
    ],
)
def test_nothing_is_said_of_other_ends(told: Exchange, stream: BinaryIO, lines: Lines) -> None:
    log.configure(OFF, stream)
    access_log(OFF).exchange_ended(told, 1.0)
    assert not lines()


@each_kind
def test_it_is_said_once_for_a_host(made: Any, event: str, stream: BinaryIO, lines: Lines) -> None:
    log.configure(OFF, stream)
    access = access_log(OFF)
    for authority in ("a:443", "b:443", "a:443", "A.:443", "a:8443", "b:443"):
        access.exchange_ended(made(authority), 1.0)
    assert said(lines(), event) == ["a:443", "b:443"]


def test_one_is_said_whether_or_not_the_other_was(stream: BinaryIO, lines: Lines) -> None:
    log.configure(OFF, stream)
    access = access_log(OFF)
    access.exchange_ended(tunnelled(), 1.0)
    access.exchange_ended(untrusting(), 2.0)
    assert [line["event"] for line in lines()] == [IN_SPITE, NOT_TRUSTED]


@each_kind
@pytest.mark.parametrize("mode", list(policy.AccessLog))
def test_it_is_said_beside_the_line_of_the_exchange(
    mode: policy.AccessLog, made: Any, event: str, stream: BinaryIO, lines: Lines
) -> None:
    settings_ = policy.Log(access=mode)
    log.configure(settings_, stream)
    access = access_log(settings_)
    error = errors.CaNotTrusted(ALERT)
    for _ in range(2):
        access.exchange_ended(made(error=error) if made is tunnelled else made(), 1.0)
    written = lines()
    assert len(said(written, event)) == 1
    expected = 0 if mode is policy.AccessLog.OFF else 2
    assert len([line for line in written if line["event"] == "exchange ended"]) == expected


def test_a_refused_call_was_tunnelled_all_the_same(stream: BinaryIO, lines: Lines) -> None:
    log.configure(ALL, stream)
    access_log(ALL).exchange_ended(tunnelled(error=REFUSED), 1.0)
    assert [line["event"] for line in lines()] == [IN_SPITE]


@each_kind
def test_clients_cannot_make_it_remember_hosts_or_write_lines_for_ever(
    made: Any, event: str, stream: BinaryIO, lines: Lines
) -> None:
    log.configure(OFF, stream)
    access = access_log(OFF)
    for _ in range(2):
        for number in range(MAX_HOSTS + 10):
            access.exchange_ended(made(f"host{number}:443"), 1.0)
    assert said(lines(), event) == [f"host{number}:443" for number in range(MAX_HOSTS)]


def test_a_level_above_it_leaves_it_out(stream: BinaryIO, lines: Lines) -> None:
    settings_ = policy.Log(level=policy.LogLevel.WARNING, access=policy.AccessLog.OFF)
    log.configure(settings_, stream)
    access = access_log(settings_)
    access.exchange_ended(tunnelled(), 1.0)
    access.exchange_ended(untrusting(), 1.0)
    assert [line["event"] for line in lines()] == [NOT_TRUSTED]


def test_without_a_target_it_is_said_as_well(stream: BinaryIO, lines: Lines) -> None:
    log.configure(OFF, stream)
    access = access_log(OFF)
    for _ in range(2):
        access.exchange_ended(ended(Entry.TUNNEL, "CONNECT", error=errors.CaNotTrusted(ALERT)), 1.0)
    assert said(lines(), NOT_TRUSTED) == [None]
