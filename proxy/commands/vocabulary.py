"""The words of the API that the command line knows before it asks, so that its help and its faults name them.

They stand here once more because importing them from the server would import the server; a test holds them
against the API's own document.
"""

import re

STATES = ("open", "forced_open", "half_open", "forced_closed", "disabled", "closed")
# By what a list may be sorted, and whether its largest come first.
SORTS = {
    "state": False,
    "since": True,
    "key": False,
    "calls": True,
    "failed": True,
    "failure_ratio": True,
    "in_flight": True,
    "rejected": True,
    "level": True,
    "latency_s": True,
    "spared_s": True,
}
# How many circuits an answer has at most.
MOST_AT_ONCE = 1000
LONGEST_SEARCH = 200
MOST_OF_A_NOTE = 200

_TTL = re.compile(r"([1-9][0-9]{0,4}(\.[0-9]{1,3})?(ms|s|m)|[1-9][0-9]{0,2}(\.[0-9]{1,3})?h)")
_UNPRINTABLE = re.compile(
    "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]"
)


def is_ttl(text: str) -> bool:
    """Whether the API takes it for how long something is to last."""
    return _TTL.fullmatch(text) is not None


def is_note(text: str) -> bool:
    """Whether the API takes it for a note."""
    return len(text) <= MOST_OF_A_NOTE and _UNPRINTABLE.search(text) is None
