"""What a client is told of a request that aiohttp could not parse: never anything that it has sent."""

import pytest
from aiohttp.http_exceptions import (
    BadHttpMessage,
    BadHttpMethod,
    BadStatusLine,
    ContentEncodingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
    TransferEncodingError,
)

from proxy.wire.unparsed import unparsed

SECRET = "s3cr3t"
MAX_LINE = 1024


@pytest.mark.parametrize(
    ("fault", "status", "reason", "details"),
    [
        (
            LineTooLong(SECRET.encode(), MAX_LINE),
            414,
            "target_too_long",
            "the request-target exceeds limits.max_head",
        ),
        (
            LineTooLong(SECRET.encode(), MAX_LINE + 1),
            431,
            "head_too_large",
            "a field of the request exceeds limits.max_head",
        ),
        (
            BadHttpMessage("Too many headers received"),
            431,
            "head_too_large",
            "the request exceeds limits.max_fields",
        ),
        *(
            (fault, 400, "bad_request", "the request is not HTTP/1.1")
            for fault in (
                BadHttpMessage(SECRET),
                BadHttpMethod(SECRET),
                BadStatusLine(SECRET),
                InvalidHeader(SECRET),
                InvalidURLError(SECRET),
                ContentEncodingError(SECRET),
                TransferEncodingError(SECRET),
            )
        ),
    ],
    ids=lambda column: type(column).__name__ if isinstance(column, Exception) else None,
)
def test_a_fault_of_the_request(fault: Exception, status: int, reason: str, details: str) -> None:
    error = unparsed(fault, MAX_LINE)
    assert error is not None
    assert (error.status, error.reason, error.details) == (status, reason, details)
    assert SECRET not in str(error)
    assert str(error.outcome) == "neutral"


@pytest.mark.parametrize(
    "fault", [None, ValueError(SECRET), ConnectionResetError(), RuntimeError()], ids=repr
)
def test_a_fault_of_ours_or_of_nobody_is_no_fault_of_the_request(fault: Exception | None) -> None:
    assert unparsed(fault, MAX_LINE) is None
