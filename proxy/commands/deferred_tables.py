"""Requests that are kept for later, as a table on a terminal; an id is folded and never cut."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from proxy.commands.text import local
from proxy.commands.views import DeferredRequest

# From so many characters on there is room for what has become of it, and of which request it is.
_MEDIUM, _WIDE = 100, 140
_LONGEST_ID = 32


def requests(found: list[DeferredRequest], width: int, now: datetime) -> Table:
    """A list of requests.

    Args:
        found: in their order.
        width: of the terminal, in characters.
        now: with the time zone of whoever looks.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    table.add_column("id", overflow="fold", min_width=min(_LONGEST_ID, width // 3))
    table.add_column("state", no_wrap=True)
    table.add_column("queue", overflow="fold")
    if width >= _MEDIUM:
        table.add_column("stored", no_wrap=True)
        table.add_column("tried", justify="right")
    if width >= _WIDE:
        table.add_column("last result", overflow="fold")
        table.add_column("method")
        table.add_column("bytes", justify="right")
    for each in found:
        cells = [Text(each.id), state(each), Text(each.queue)]
        if width >= _MEDIUM:
            cells += [Text(local(each.stored_at, now)), Text(f"{each.attempts}x")]
        if width >= _WIDE:
            cells += [Text(each.result or ""), Text(each.method), Text(str(each.content_bytes))]
        table.add_row(*cells)
    return table


def state(request: DeferredRequest) -> Text:
    """Whether it waits, or why it is dead."""
    if request.state == "dead":
        return Text(f"✗ {(request.died_of or 'dead').replace('_', ' ')}", "bold red")
    return Text("… waiting", "yellow")
