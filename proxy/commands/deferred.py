"""`breaker-proxy deferred ...`: what is kept for later, and what an operator does to it."""

import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime
from http.client import HTTPException
from typing import Any

from proxy.commands import output, views
from proxy.commands.admin import Admin
from proxy.commands.failure import Failed, Misused
from proxy.commands.text import duration

_ROOT = "/deferred"
_REQUESTS = f"{_ROOT}/requests"
# That of a page of the API.
_AT_ONCE = 500
# More than anybody reads, less than an answer that never ends.
_ALL = 1_000_000
# What a terminal gets unless it asks for more.
_AT_A_GLANCE = 50
_CHUNK = 64 * 1024


def run(arguments: Namespace, admin: Admin) -> int:
    """Does what is asked for.

    Raises:
        Failed, Refused: as `Admin.get`.
        Misused: it is not said which requests are meant.
    """
    _ACTIONS[arguments.action](arguments, admin)
    return 0


def _status(arguments: Namespace, admin: Admin) -> None:
    found = admin.get(_ROOT)
    if _is_json(arguments):
        output.write_document(found)
        return
    for line in told(views.read(found, views.Deferred)):
        output.write_text(line)


def told(kept: views.Deferred) -> list[str]:
    """What is kept, in lines for people."""
    age = "" if kept.oldest_age_s is None else f", the oldest for {duration(kept.oldest_age_s)}"
    count = kept.waiting + kept.dead_letters
    lines = [
        f"{kept.waiting} waiting{age}; {kept.dead_letters} dead letters",
        f"{count} of {kept.max_events} requests, {kept.stored_bytes} of {kept.max_bytes} bytes",
    ]
    if kept.is_paused:
        lines.append("paused: nothing is delivered until `breaker-proxy deferred resume`")
    if kept.fault is not None:
        lines.append(f"nothing can be stored: {kept.fault}")
    lines += [
        f"  {each.queue}  {each.waiting}, the oldest for {duration(each.oldest_age_s)}"
        for each in kept.queues
    ]
    left = kept.queues_total - len(kept.queues)
    return lines + ([f"  and {left} more"] if left else [])


def _list(arguments: Namespace, admin: Admin) -> None:
    console = output.terminal(is_json=arguments.json)
    most = arguments.limit or (_AT_A_GLANCE if console else _ALL)
    requests, has_more = _pages(admin, _query(arguments), most)
    if console is None:
        output.write_document({"requests": requests, "has_more": has_more})
        return
    from proxy.commands import deferred_tables  # noqa: PLC0415 -- rich, which JSON does without

    found = views.read(requests, list[views.DeferredRequest])
    console.print(deferred_tables.requests(found, console.width, datetime.now().astimezone()))
    if has_more:
        console.print("and more: --limit, --state, --queue", style="dim")


def _pages(admin: Admin, query: list[tuple[str, str]], most: int) -> tuple[list[Any], bool]:
    """So many requests at most, however many pages that takes, and whether there are more."""
    requests: list[Any] = []
    after: int | None = 0
    while after is not None and len(requests) < most:
        limit = min(_AT_ONCE, most - len(requests))
        page = views.read(
            admin.get(_REQUESTS, [*query, ("after", str(after)), ("limit", str(limit))]), views.DeferredPage
        )
        requests += page.requests
        # One that goes nowhere would be asked for again and again.
        after = page.next_after if page.requests and (page.next_after or 0) > after else None
    return requests, after is not None


def _show(arguments: Namespace, admin: Admin) -> None:
    (request_id,) = arguments.ids
    found = admin.get(f"{_REQUESTS}/{request_id}")
    if _is_json(arguments):
        output.write_document(found)
        return
    request = views.read(found, views.DeferredRequest)
    for name, value in vars_of(request).items():
        output.write_text(f"{name.replace('_', ' '):<14}{value}")


def vars_of(request: views.DeferredRequest) -> dict[str, object]:
    """What is known of a request, by name."""
    known = {name: getattr(request, name) for name in request.__struct_fields__}
    return {name: value for name, value in known.items() if value is not None}


def _put_back(arguments: Namespace, admin: Admin) -> None:
    note = {"note": arguments.note} if arguments.note else {}
    if not arguments.ids:
        if not arguments.all and arguments.queue is None:
            raise Misused("breaker-proxy: say which: IDs, --queue or --all")
        _change(arguments, "put back", lambda: admin.post(f"{_ROOT}/put-back", note | _queue(arguments)))
        return
    for request_id in arguments.ids:
        done = admin.post(f"{_REQUESTS}/{request_id}/put-back", note)
        _say(arguments, done, f"{request_id} waits again, behind all others")


def _delete(arguments: Namespace, admin: Admin) -> None:
    if not arguments.ids:
        if arguments.state is None:
            raise Misused("breaker-proxy: say which: IDs, or --state dead or waiting, also with --queue")
        note = {"note": arguments.note} if arguments.note else {}
        wish = {"state": arguments.state} | note | _queue(arguments)
        _change(arguments, "deleted", lambda: admin.post(f"{_ROOT}/delete", wish))
        return
    for request_id in arguments.ids:
        _say(arguments, admin.delete(f"{_REQUESTS}/{request_id}"), f"{request_id} is deleted")


def _change(arguments: Namespace, done: str, ask: Callable[[], Any]) -> None:
    """Asks for a change until nothing is left to be changed."""
    count, has_more = 0, True
    while has_more:
        changed = views.read(ask(), views.Changed)
        count += changed.changed
        # Where others are as fast, nothing is changed, and there is still more.
        has_more = changed.has_more and changed.changed > 0
    _say(arguments, {"changed": count}, f"{count} {done}")


def _export(arguments: Namespace, admin: Admin) -> None:
    with admin.stream(f"{_ROOT}/export", "application/jsonl", _query(arguments)) as response:
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, HTTPException):
                raise Failed("the export has broken off: what was written is not all") from None
            if not chunk:
                break
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _pause(arguments: Namespace, admin: Admin) -> None:
    note = {"note": arguments.note} if arguments.note else {}
    done = admin.post(f"{_ROOT}/{arguments.action}", note)
    is_paused = views.read(done, views.Paused).is_paused
    _say(arguments, done, "nothing is delivered until `resume`" if is_paused else "deliveries go on")


def _say(arguments: Namespace, done: Any, text: str) -> None:
    if arguments.json:
        output.write_document(done)
    else:
        output.write_text(text)


def _is_json(arguments: Namespace) -> bool:
    return arguments.json or not sys.stdout.isatty()


def _queue(arguments: Namespace) -> dict[str, str]:
    return {} if arguments.queue is None else {"queue": arguments.queue}


def _query(arguments: Namespace) -> list[tuple[str, str]]:
    state = [] if arguments.state is None else [("state", arguments.state)]
    return [*state, *_queue(arguments).items()]


_ACTIONS: dict[str, Callable[[Namespace, Admin], None]] = {
    "status": _status,
    "list": _list,
    "show": _show,
    "put-back": _put_back,
    "delete": _delete,
    "export": _export,
    "pause": _pause,
    "resume": _pause,
}
