"""What an operator wants done, to a circuit above all: the content of a POST, JSON of a known shape only."""

from enum import Enum
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from proxy.control.convert import parse_seconds
from proxy.control.problems import Problem

# No control characters, no ends of lines, nothing that turns text around or cannot be seen.
_UNPRINTABLE = (
    "\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb"
)
_NOTE = f"^[^{_UNPRINTABLE}]*$"
_TTL = r"^([1-9][0-9]{0,4}(\.[0-9]{1,3})?(ms|s|m)|[1-9][0-9]{0,2}(\.[0-9]{1,3})?h)$"
MOST_OF_A_NOTE = 200


class Action(Enum):
    """What an operator may do to a circuit."""

    OPEN = "open"
    CLOSE = "close"
    RESET = "reset"
    AUTO = "auto"

    @property
    def kind(self) -> "type[Wish]":
        """What is said with it."""
        return ForcingWish if self in {Action.OPEN, Action.CLOSE} else Wish


class Wish(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What an operator says.

    Attributes:
        note: why, for the log and the events.
    """

    note: Annotated[str, msgspec.Meta(max_length=MOST_OF_A_NOTE, pattern=_NOTE)] = ""

    def __post_init__(self) -> None:
        # Python's $ lets an end of line pass, that of JSON Schema does not.
        if "\n" in self.note:
            raise ValueError("Expected one line of text")

    @property
    def ttl_s(self) -> float | None:
        """For how long it is to be so, in seconds, more than 0; None is until somebody ends it."""
        return None


class ForcingWish(Wish, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What an operator says who forces a circuit.

    Attributes:
        ttl: for how long, such as 10m; null is until somebody ends it.
    """

    ttl: Annotated[str, msgspec.Meta(pattern=_TTL)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ttl is not None and self.ttl.endswith("\n"):
            raise ValueError("Expected one line of text")

    @property
    def ttl_s(self) -> float | None:
        """For how long it is to be so, in seconds, more than 0; None is until somebody ends it."""
        return None if self.ttl is None else float(parse_seconds(self.ttl))


Kind = TypeVar("Kind", bound=Wish)


async def read(request: web.Request, kind: type[Kind]) -> Kind:
    """The content of a request, read after its head has said that it is JSON as it stands.

    A form of some page can send neither that type nor, without being asked about before, any other field.

    Raises:
        Problem: 400, 415.
    """
    is_json = request.content_type.lower() == "application/json" and (request.charset or "utf-8") == "utf-8"
    if not is_json:
        raise Problem(
            415, "not_json", "Content-Type must be application/json", {"Accept": "application/json"}
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(
            415, "encoded_content", "Content-Encoding is not supported", {"Accept-Encoding": "identity"}
        )
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.ValidationError as error:
        # It names the place and what was expected; what has come it does not repeat.
        raise Problem(400, "bad_request", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(400, "bad_request", "the content is not JSON") from None
