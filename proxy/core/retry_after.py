"""When an upstream wants to be called again: its Retry-After as a time on our own clock.

The header is seconds, or a date (RFC 9110 section 10.2.3). A date is of the upstream's clock, which may be
wrong by years; so it is read against the upstream's own Date, and not against ours. What has passed or makes
no sense is no wish.
"""

from datetime import UTC, datetime
from email.utils import parsedate_tz

# No date is longer; what is, is not worth reading.
_MAX_LENGTH = 64
# More digits than these are more than 30 years.
_MAX_DIGITS = 9
_LONG_S = 1e9


def retry_after_at(value: bytes, date: bytes | None, now: float) -> float | None:
    """Reads the field.

    Args:
        value: of Retry-After.
        date: of the response's Date, if it has one.
        now: when the response was received, in monotonic seconds.

    Returns:
        A time in monotonic seconds, later than `now`; None for no wish.
    """
    value = value.strip()
    if value.isdigit():
        digits = value.lstrip(b"0")
        wait_s = _LONG_S if len(digits) > _MAX_DIGITS else float(digits or 0)
    else:
        until_s, since_s = _timestamp(value), _timestamp(date or b"")
        if until_s is None or since_s is None:
            return None
        wait_s = until_s - since_s
    return now + wait_s if wait_s > 0 else None


def _timestamp(date: bytes) -> float | None:
    parts = parsedate_tz(date.decode("ascii", "replace")) if len(date) <= _MAX_LENGTH else None
    if parts is None:
        return None
    try:
        # The parser takes any number for a day; a date that is none says nothing.
        return datetime(*parts[:6], tzinfo=UTC).timestamp() - (parts[9] or 0)
    except (ValueError, OverflowError):
        return None
