"""`breaker-proxy events`: transitions as they happen, on and on.

A break, such as a restart of the proxy, is bridged: the proxy is asked for what came after the last event
that was heard, and says what is missing.
"""

import json
import re
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any

from proxy.commands import output
from proxy.commands.admin import Admin
from proxy.commands.failure import Failed
from proxy.commands.text import clean

if TYPE_CHECKING:
    from rich.console import Console

_AGAIN_S = 2.0
_LONGEST_LINE = 64 * 1024
# As the proxy's own are, and far longer. It goes into a field of a request.
_ID = re.compile(r"[0-9A-Za-z-]{1,100}")


class _Broken(Exception):
    """The stream is over; the text says why."""


@dataclass(slots=True)
class _Heard:
    """What came last."""

    last_id: str


def events(arguments: Namespace, admin: Admin) -> int:
    """Writes transitions until Ctrl-C.

    Raises:
        Failed, Refused: as `Admin.events`, at the first attempt.
    """
    console = output.terminal(is_json=arguments.json)
    # Without an id to begin with, nobody could say later what came in between.
    heard = _Heard(_newest_id(admin.get("/circuits", [("limit", "1")])))
    # Ctrl-C is how it ends.
    with suppress(KeyboardInterrupt):
        _follow(admin, heard, console)
        told = ""
        while True:
            time.sleep(_AGAIN_S)
            try:
                _follow(admin, heard, console, is_again=True)
                told = ""
            except Failed as failure:
                if str(failure) != told:
                    output.remark(f"{failure}; trying again each {_AGAIN_S:.0f} s")
                told = str(failure)
    return 0


def _follow(admin: Admin, heard: _Heard, console: "Console | None", *, is_again: bool = False) -> None:
    """Writes what one connection tells, until it ends.

    Raises:
        Failed: there is none.
    """
    with admin.events(heard.last_id) as response:
        if is_again:
            output.remark("connected again")
        try:
            for name, content in _told(response, heard):
                _write(name, content, console)
        except _Broken as broken:
            output.remark(f"{admin.place} has broken off ({broken})")


def _told(response: HTTPResponse, heard: _Heard) -> Iterator[tuple[str, Any]]:
    """The events of a stream (HTML Living Standard, section 9.2.6), each with its data.

    Raises:
        _Broken: the connection has ended, or what comes are not events.
    """
    name, data, id_ = "", "", heard.last_id
    while line := _line(response):
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif field == "id" and _ID.fullmatch(value):
            id_ = value
        elif not field and not value:
            # Not before the event is whole: one that is cut off is to come again.
            heard.last_id = id_
            if data:
                yield name, _decoded(data)
            name, data = "", ""
    raise _Broken("it has ended")


def _line(response: HTTPResponse) -> bytes:
    try:
        line = response.readline(_LONGEST_LINE)
    except TimeoutError:
        raise _Broken("it has fallen silent") from None
    except (OSError, HTTPException, ValueError) as error:
        raise _Broken(clean(str(error)) or type(error).__name__) from None
    if len(line) == _LONGEST_LINE:
        raise _Broken("a line has no end")
    return line


def _decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise _Broken("an event is not JSON") from None


def _newest_id(page: Any) -> str:
    found = page.get("last_event_id") if isinstance(page, dict) else None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise Failed("the proxy does not say which event was the last")
    return found


def _write(name: str, content: Any, console: "Console | None") -> None:
    if console is None:
        output.write_line(content)
        return
    from proxy.commands import tables, views  # noqa: PLC0415 -- rich and msgspec, which JSON does without

    if name == "missed":
        count = content.get("missed") if isinstance(content, dict) else None
        told = f"{count} transitions" if isinstance(count, int) else "it cannot be said how many transitions"
        console.print(f"missed: {told}", style="bold yellow")
    elif name == "transition":
        console.print(tables.event(views.read(content, views.Event), datetime.now().astimezone()))
