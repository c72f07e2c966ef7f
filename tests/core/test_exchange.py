from typing import NamedTuple

import pytest

from proxy.core import errors
from proxy.core.exchange import FOREVER, Awaited, Entry, Exchange, Source
from proxy.core.headers import NO_BODY
from proxy.core.outcome import NEUTRAL, FailureKind, Outcome, Verdict, failed
from proxy.core.target import from_absolute_form


class Row(NamedTuple):
    """Who owes what is awaited, and what it is called when it does not come."""

    awaited: Awaited
    owed_by: str
    error: type[errors.ProxyError]
    details: str
    outcome: Outcome


ROWS = [
    Row(Awaited.NOTHING, "us", errors.ProxyInternalError, "", NEUTRAL),
    Row(Awaited.ADDRESS, "us", errors.DnsTimeout, "the resolver did not answer in time", NEUTRAL),
    Row(
        Awaited.CONNECTION,
        "upstream",
        errors.ConnectionTimeout,
        "the upstream did not accept a connection in time",
        failed(FailureKind.CONNECT_TIMEOUT),
    ),
    Row(
        Awaited.TLS,
        "upstream",
        errors.ConnectionTimeout,
        "the upstream did not finish the TLS handshake in time",
        failed(FailureKind.TLS),
    ),
    Row(
        Awaited.CLIENT_TLS,
        "client",
        errors.ClientTimeout,
        "the client did not finish the TLS handshake in time",
        NEUTRAL,
    ),
    Row(
        Awaited.REQUEST_CONTENT,
        "client",
        errors.ClientTimeout,
        "the content of the request did not arrive in time",
        NEUTRAL,
    ),
    Row(
        Awaited.UPSTREAM_WINDOW,
        "upstream",
        errors.ConnectionWriteTimeout,
        "the upstream stopped reading the request",
        failed(FailureKind.RESPONSE_TIMEOUT),
    ),
    Row(
        Awaited.RESPONSE_HEAD,
        "upstream",
        errors.HttpResponseTimeout,
        "the upstream sent no response head in time",
        failed(FailureKind.RESPONSE_TIMEOUT),
    ),
    Row(
        Awaited.RESPONSE_CONTENT,
        "upstream",
        errors.ConnectionReadTimeout,
        "the upstream stopped sending its response",
        failed(FailureKind.TRUNCATED),
    ),
    Row(
        Awaited.CLIENT_WINDOW,
        "client",
        errors.ClientTimeout,
        "the client stopped reading the response",
        NEUTRAL,
    ),
    Row(
        Awaited.TUNNEL_FIRST_BYTES,
        "upstream",
        errors.ConnectionReadTimeout,
        "the upstream said nothing through the tunnel",
        failed(FailureKind.TUNNEL),
    ),
    Row(Awaited.TUNNEL_BYTES, "client", errors.ConnectionReadTimeout, "the tunnel was idle", NEUTRAL),
]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.awaited.name.lower())


def begun() -> Exchange:
    return Exchange(Entry.FORWARD, "POST", started=100.0)


def test_the_table_is_complete() -> None:
    assert [row.awaited for row in ROWS] == list(Awaited)


@each_row
def test_who_owes(row: Row) -> None:
    exchange = begun()
    exchange.wait_for(row.awaited, 30.0, now=101.0)
    assert exchange.upstream_owed_s(101.0) == 0.0
    assert exchange.upstream_owed_s(105.5) == (4.5 if row.owed_by == "upstream" else 0.0)
    assert exchange.client_owed_s(101.0) == 0.0
    assert exchange.client_owed_s(105.5) == (4.5 if row.owed_by == "client" else 0.0)


@each_row
def test_what_a_passed_deadline_is_called(row: Row) -> None:
    exchange = begun()
    exchange.wait_for(row.awaited, 30.0, now=101.0)
    error = exchange.timed_out()
    assert type(error) is row.error
    assert (error.details, error.outcome) == (row.details, row.outcome)


@pytest.mark.parametrize("awaited", Awaited, ids=lambda awaited: awaited.name.lower())
def test_only_the_upstream_is_blamed_and_only_for_what_it_owes(awaited: Awaited) -> None:
    exchange = begun()
    exchange.wait_for(awaited, 30.0, now=101.0)
    is_upstream_blamed = exchange.timed_out().outcome.verdict is Verdict.FAILURE
    assert is_upstream_blamed == (exchange.upstream_owed_s(105.5) > 0)


def test_a_new_exchange_waits_for_nothing() -> None:
    exchange = begun()
    assert repr(exchange) == "<Exchange forward POST nowhere awaits nothing>"
    exchange.target = from_absolute_form("http://a/secret", "GET")
    assert repr(exchange) == "<Exchange forward POST a:80 awaits nothing>"
    assert exchange.awaited is Awaited.NOTHING
    assert exchange.deadline == FOREVER
    assert exchange.upstream_owed_s(1e9) == 0.0


def test_a_new_exchange_knows_nothing() -> None:
    exchange = begun()
    assert (exchange.target, exchange.address, exchange.status, exchange.error) == (None, None, None, None)
    phases = (exchange.dns_s, exchange.connect_s, exchange.tls_s, exchange.head_s)
    assert phases == (None, None, None, None)
    assert (exchange.server_name, exchange.tunnelled_because) == (None, None)
    assert (exchange.request_bytes, exchange.response_bytes) == (0, 0)
    assert (exchange.source, exchange.outcome, exchange.body) == (Source.PROXY, NEUTRAL, NO_BODY)
    assert (exchange.client_left, exchange.begun, exchange.reused) == (False, False, False)
    assert exchange.ends_by_close is False
    assert (exchange.upstream_s, exchange.upstream_took_at) == (0.0, -FOREVER)
    assert (exchange.lease_at, exchange.at_lease) == (FOREVER, None)
    assert exchange.ends_at == FOREVER


def test_while_nobody_is_waited_for_the_time_is_our_own() -> None:
    exchange = begun()
    assert exchange.total_own_s(100.5) == 0.5
    exchange.wait_for(Awaited.ADDRESS, 5.0, now=101.0)
    assert exchange.total_own_s(103.0) == 1.0
    exchange.wait_for(Awaited.CONNECTION, 5.0, now=103.0)
    exchange.wait_over(104.0)
    assert exchange.total_own_s(104.25) == 1.25
    exchange.wait_for(Awaited.CLIENT_WINDOW, 5.0, now=104.5)
    exchange.wait_over(110.0)
    exchange.wait_over(111.0)
    assert exchange.total_own_s(111.0) == 2.5


def test_each_wait_has_a_deadline_of_its_own() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.CONNECTION, 5.0, now=101.0)
    assert exchange.deadline == 106.0
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, now=102.0)
    assert exchange.deadline == 132.0
    assert exchange.upstream_owed_s(103.0) == 1.0


def test_nobody_owes_after_a_wait() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, now=101.0)
    exchange.wait_over(110.0)
    assert exchange.awaited is Awaited.NOTHING
    assert exchange.deadline == FOREVER
    assert exchange.upstream_owed_s(120.0) == 0.0
    assert exchange.client_owed_s(120.0) == 0.0


def test_what_a_client_owes_begins_anew_with_each_wait() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.REQUEST_CONTENT, 60.0, now=101.0)
    exchange.wait_for(Awaited.REQUEST_CONTENT, 60.0, now=103.0)
    assert exchange.client_owed_s(104.5) == 1.5
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, now=105.0)
    assert exchange.client_owed_s(110.0) == 0.0


def test_a_client_that_reads_has_as_much_time_again() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.CLIENT_WINDOW, 60.0, now=101.0)
    exchange.client_took(110.0)
    assert (exchange.deadline, exchange.client_owed_s(115.0)) == (170.0, 9.0)
    exchange.client_took(150.0)
    assert exchange.deadline == 210.0
    # What it has read nothing of for longest is remembered, since the upstream was not read meanwhile either.
    exchange.wait_for(Awaited.RESPONSE_CONTENT, 60.0, now=151.0)
    assert exchange.client_owed_s(155.0) == 40.0


def test_where_nobody_waits_for_the_client_its_reading_changes_nothing() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.RESPONSE_CONTENT, 60.0, now=101.0)
    exchange.client_took(110.0)
    assert exchange.deadline == 161.0


def test_a_wait_may_be_for_ever() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.TUNNEL_BYTES, FOREVER, now=101.0)
    assert exchange.deadline == FOREVER


@pytest.mark.parametrize(
    ("waits", "upstream_s"),
    [
        ([], 0.0),
        ([(101.0, Awaited.RESPONSE_HEAD)], 0.0),
        ([(101.0, Awaited.RESPONSE_HEAD), (105.0, Awaited.NOTHING)], 4.0),
        ([(101.0, Awaited.ADDRESS), (105.0, Awaited.NOTHING)], 0.0),
        ([(101.0, Awaited.CONNECTION), (102.0, Awaited.RESPONSE_HEAD), (105.0, Awaited.NOTHING)], 4.0),
        ([(101.0, Awaited.CONNECTION), (102.0, Awaited.TLS), (105.0, Awaited.NOTHING)], 4.0),
        ([(101.0, Awaited.CLIENT_TLS), (102.0, Awaited.TLS), (105.0, Awaited.NOTHING)], 3.0),
        ([(101.0, Awaited.CONNECTION), (102.0, Awaited.REQUEST_CONTENT), (105.0, Awaited.NOTHING)], 1.0),
        ([(101.0, Awaited.CLIENT_WINDOW), (102.0, Awaited.RESPONSE_CONTENT), (105.0, Awaited.NOTHING)], 3.0),
        # A tunnel begins anew: connecting is not what its far end owed.
        ([(101.0, Awaited.CONNECTION), (102.0, Awaited.TUNNEL_BYTES), (105.0, Awaited.NOTHING)], 0.0),
        ([(101.0, Awaited.TUNNEL_BYTES), (102.0, Awaited.TUNNEL_FIRST_BYTES), (105.0, Awaited.NOTHING)], 3.0),
    ],
)
def test_what_the_upstream_owed_adds_up(waits: list[tuple[float, Awaited]], upstream_s: float) -> None:
    exchange = begun()
    for now, awaited in waits:
        if awaited is Awaited.NOTHING:
            exchange.wait_over(now)
        else:
            exchange.wait_for(awaited, 30.0, now)
    assert exchange.upstream_s == upstream_s


def test_the_total_has_the_wait_that_goes_on() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.CONNECTION, 30.0, 101.0)
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 103.0)
    assert exchange.total_upstream_s(107.5) == 6.5
    exchange.wait_for(Awaited.CLIENT_WINDOW, 30.0, 108.0)
    assert exchange.total_upstream_s(200.0) == 7.0


# The end of a lease at 150.


def leased(awaited: Awaited) -> Exchange:
    exchange = begun()
    exchange.lease_at = 150.0
    exchange.wait_for(awaited, 30.0, now=101.0)
    return exchange


@each_row
def test_what_the_end_of_a_lease_says(row: Row) -> None:
    assert leased(row.awaited).verdict_at_lease() == row.outcome


@pytest.mark.parametrize("took_at", [-FOREVER, 144.9, 145.0, 149.9, 150.0])
@each_row
def test_an_upstream_that_took_content_lately_is_not_blamed(row: Row, took_at: float) -> None:
    exchange = leased(row.awaited)
    exchange.upstream_took(took_at)
    assert exchange.upstream_took_at == took_at
    assert exchange.verdict_at_lease() == (NEUTRAL if 145.0 <= took_at < 150.0 else row.outcome)


@pytest.mark.parametrize("change", ["wait_for", "wait_over", "upstream_took"])
@pytest.mark.parametrize(("now", "is_kept"), [(149.9, False), (150.0, True), (1e6, True)])
def test_what_changes_after_the_end_leaves_what_it_said(change: str, now: float, *, is_kept: bool) -> None:
    exchange = leased(Awaited.RESPONSE_HEAD)
    match change:
        case "wait_for":
            exchange.wait_for(Awaited.CLIENT_WINDOW, 30.0, now)
        case "wait_over":
            exchange.wait_over(now)
        case _:
            exchange.upstream_took(now)
    silent = failed(FailureKind.RESPONSE_TIMEOUT)
    assert (exchange.at_lease, exchange.lease_at) == ((silent, FOREVER) if is_kept else (None, 150.0))
    assert exchange.verdict_at_lease() == (silent if is_kept else NEUTRAL)
    if is_kept:
        assert exchange.upstream_s_at_lease() == 49.0


def test_what_was_kept_is_not_judged_again() -> None:
    exchange = leased(Awaited.RESPONSE_HEAD)
    exchange.wait_for(Awaited.CLIENT_WINDOW, 30.0, 151.0)
    exchange.wait_for(Awaited.RESPONSE_CONTENT, 30.0, 152.0)
    exchange.upstream_took(153.0)
    exchange.wait_over(154.0)
    assert exchange.verdict_at_lease() == failed(FailureKind.RESPONSE_TIMEOUT)
    assert exchange.upstream_s_at_lease() == 49.0


def test_what_the_upstream_owed_by_the_end_has_all_waits_before() -> None:
    exchange = leased(Awaited.CONNECTION)
    exchange.wait_for(Awaited.REQUEST_CONTENT, 30.0, 103.0)
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 140.0)
    assert exchange.upstream_s_at_lease() == 12.0


# The whole exchange may take until 150 (`timeouts.total`).


@each_row
def test_no_wait_outlasts_the_exchange(row: Row) -> None:
    exchange = begun()
    exchange.ends_at = 150.0
    exchange.wait_for(row.awaited, 30.0, now=120.5)
    assert exchange.deadline == 150.0
    error = exchange.timed_out()
    assert type(error) is errors.HttpResponseTimeout
    assert (error.status, error.outcome) == (504, row.outcome)
    assert error.details == "the exchange took longer than timeouts.total"


@each_row
def test_a_wait_that_ends_before_the_exchange_is_judged_by_itself(row: Row) -> None:
    exchange = begun()
    exchange.ends_at = 150.0
    exchange.wait_for(row.awaited, 30.0, now=119.5)
    assert exchange.deadline == 149.5
    error = exchange.timed_out()
    assert (type(error), error.outcome) == (row.error, row.outcome)


def test_without_a_lease_nothing_is_kept() -> None:
    exchange = begun()
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 101.0)
    exchange.upstream_took(1e9)
    exchange.wait_over(1e9)
    assert exchange.at_lease is None


def test_what_was_learnt_of_the_first_upstream_is_forgotten_when_it_falls_back() -> None:
    exchange = Exchange(Entry.FORWARD, "POST", 0.0)
    first = from_absolute_form("http://a.test/", "POST")
    exchange.target = first
    exchange.status, exchange.address, exchange.reused = 500, "192.0.2.1", True
    exchange.dns_s = exchange.connect_s = exchange.tls_s = exchange.head_s = 1.0
    exchange.source, exchange.outcome = Source.UPSTREAM, failed(FailureKind.STATUS)
    exchange.ends_at = exchange.lease_at = 90.0
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, 1.0)
    exchange.fall_back("failing_status", 4.0)
    assert (exchange.fell_back_for, exchange.original) == ("failing_status", first)
    facts = vars(exchange)
    assert [facts[name] for name in ("status", "address", "reused")] == [None, None, False]
    assert facts["source"] is Source.PROXY
    assert [facts[f"{phase}_s"] for phase in ("dns", "connect", "tls", "head")] == [None] * 4
    assert (exchange.outcome, exchange.ends_at, exchange.lease_at) == (NEUTRAL, FOREVER, FOREVER)
    assert exchange.total_upstream_s(4.0) == 0
    assert exchange.owed_since == 4.0
    assert exchange.deadline == FOREVER
