"""`breaker-proxy circuits`: the list, once or again and again."""

import signal
import time
from argparse import Namespace
from contextlib import suppress
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from proxy.commands import output
from proxy.commands.admin import Admin
from proxy.commands.failure import Failed
from proxy.commands.keys import pages
from proxy.commands.vocabulary import MOST_AT_ONCE, SORTS

if TYPE_CHECKING:
    from rich.console import Console

# More than anybody has, less than an answer that never ends.
_ALL = 1_000_000
# What a terminal gets unless it asks for more.
_AT_A_GLANCE = 100
_EVERY_S = 1.0


def circuits(arguments: Namespace, admin: Admin) -> int:
    """Shows the circuits that are asked for.

    Raises:
        Failed, Refused: as `Admin.get`.
    """
    console = output.terminal(is_json=arguments.json)
    if arguments.watch:
        _watch(arguments, admin, console)
        return 0
    most = arguments.limit or (_AT_A_GLANCE if console else _ALL)
    found = pages(admin, _query(arguments), most)
    if console is None:
        output.write_document(found)
        return 0
    from proxy.commands import tables, views  # noqa: PLC0415 -- rich and msgspec, which JSON does without

    page = views.read(found, views.Circuits)
    console.print(tables.summary(page, str(admin.place)))
    if page.circuits:
        console.print(tables.circuits(page.circuits, console.width, datetime.now().astimezone()))
    if page.total > len(page.circuits):
        left = page.total - len(page.circuits)
        console.print(f"{left} more: --limit {page.total}, or --state, --search", style="dim")
    return 0


def _query(arguments: Namespace) -> list[tuple[str, str]]:
    descending = SORTS[arguments.sort] != arguments.reverse
    query = [("state", state) for state in arguments.state or ()]
    query.append(("sort", f"-{arguments.sort}" if descending else arguments.sort))
    return query + ([("q", arguments.search)] if arguments.search else [])


def _watch(arguments: Namespace, admin: Admin, console: "Console | None") -> None:
    # Ctrl-C is how it ends.
    with suppress(KeyboardInterrupt):
        if console is None:
            _follow(arguments, admin)
        else:
            _redraw(arguments, admin, console)


def _follow(arguments: Namespace, admin: Admin) -> None:
    """Writes the whole list as a line whenever it has changed."""
    before: Any = None
    while True:
        found = pages(admin, _query(arguments), arguments.limit or _ALL)
        told = {name: value for name, value in found.items() if name != "at"}
        if told != before:
            output.write_line(found)
            before = told
        time.sleep(_EVERY_S)


def _redraw(arguments: Namespace, admin: Admin, console: "Console") -> None:
    """Draws the list each second on a screen of its own, as much of it as fits."""
    from rich.live import Live  # noqa: PLC0415 -- an extra, imported only where it is used

    from proxy.commands import tables, views  # noqa: PLC0415 -- as above

    def end(_number: int, _frame: FrameType | None) -> None:
        # The terminal gets its own screen back first.
        raise SystemExit(128 + signal.SIGTERM)

    def seen(most: int) -> views.Circuits:
        return views.read(pages(admin, _query(arguments), most), views.Circuits)

    page = seen(MOST_AT_ONCE)
    signal.signal(signal.SIGTERM, end)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        trouble = ""
        while True:
            now = datetime.now().astimezone()
            most = min(arguments.limit or MOST_AT_ONCE, tables.rows(console.height))
            live.update(
                tables.screen(page, most, console, place=str(admin.place), now=now, trouble=trouble),
                refresh=True,
            )
            time.sleep(_EVERY_S)
            try:
                page, trouble = seen(max(1, most)), ""
            except Failed as failure:
                trouble = trouble or f"as of {now:%H:%M:%S}: {failure}"
