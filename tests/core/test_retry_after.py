"""Retry-After as a time on our own clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.retry_after import retry_after_at

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "date", "at"),
    [
        (b"120", None, 1120.0),
        (b" 120 ", DATE, 1120.0),
        (b"000120", None, 1120.0),
        (b"0", None, None),
        (b"00", None, None),
        (b"9" * 5000, None, 1000.0 + 1e9),
        (b"-5", None, None),
        (b"1.5", None, None),
        (b"", None, None),
        (b"soon", DATE, None),
        (b"\xff\xfe", DATE, None),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", DATE, 1060.0),
        # The upstream's clock may be wrong: only the difference counts. Without its Date there is none.
        (b"Sun, 06 Nov 1994 08:50:37 GMT", None, None),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", b"garbage", None),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", DATE, None),
        (b"Sun, 06 Nov 1994 08:48:37 GMT", DATE, None),
        (b"Sunday, 06-Nov-94 08:50:37 GMT", DATE, 1060.0),
        (b"Sun, 06 Nov 1994 09:50:37 +0100", DATE, 1060.0),
        (b"Sun, 99 Nov 1994 08:50:37 GMT", DATE, None),
        (b"Sun, 06 Nov 99999999999 08:50:37 GMT", DATE, None),
        (b"Sun, 06 Nov 1994 08:50:37 GMT" + b" " * 10 + b"x" * 50, DATE, None),
    ],
)
def test_seconds_or_a_date(value: bytes, date: bytes | None, at: float | None) -> None:
    assert retry_after_at(value, date, 1000.0) == at


@given(value=st.binary(max_size=80), date=st.none() | st.binary(max_size=80))
def test_nothing_that_an_upstream_sends_breaks_it(value: bytes, date: bytes | None) -> None:
    at = retry_after_at(value, date, 1000.0)
    assert at is None or at > 1000.0
