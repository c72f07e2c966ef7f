"""`breaker-proxy circuit ACTION KEY`: show a circuit, or do something to it."""

from argparse import Namespace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from proxy.commands import output, views
from proxy.commands.admin import Admin
from proxy.commands.failure import Failed, Refused
from proxy.commands.keys import alike, path, resolved
from proxy.commands.text import clean, duration, words


def show(arguments: Namespace, admin: Admin) -> int:
    """Shows one circuit.

    Raises:
        Failed, Refused: as `Admin.get`; a key that is not there comes with those that are like it.
    """
    key = resolved(admin, arguments.key)
    try:
        found = admin.get(path(key))
    except Refused as refusal:
        raise _with_advice(refusal, admin, key) from None
    console = output.terminal(is_json=arguments.json)
    if console is None:
        output.write_document(found)
        return 0
    from proxy.commands import tables  # noqa: PLC0415 -- rich, which JSON does without

    console.print(tables.circuit(views.read(found, views.Detail), datetime.now().astimezone()))
    return 0


def steer(arguments: Namespace, admin: Admin) -> int:
    """Does something to a circuit, and says what has become of it in one line.

    Raises:
        Failed, Refused: as `Admin.post`; a key that is not there comes with those that are like it.
    """
    key = resolved(admin, arguments.key)
    said = {"note": arguments.note, "ttl": getattr(arguments, "ttl", None)}
    wish = {name: value for name, value in said.items() if value}
    try:
        done: Any = admin.post(f"{path(key)}/{arguments.action}", wish)
    except Refused as refusal:
        raise _with_advice(refusal, admin, key) from None
    if arguments.json:
        output.write_document(done)
        return 0
    detail = views.read(done, views.Detail)
    output.write_text(outcome(detail, arguments.action, datetime.now().astimezone()))
    return 0


def outcome(detail: views.Detail, action: str, now: datetime) -> str:
    """What has become of a circuit, in one line.

    Args:
        detail: as it is now.
        action: what was done to it.
        now: with a time zone, in which the end of a force is told.
    """
    state = words(detail.state)
    if detail.override is None:
        done = {"reset": ", beginning anew", "auto": ", not forced"}[action]
        return f"{detail.key} is {state}{done}"
    left_s = detail.override.ttl_left_s
    if left_s is None:
        until = f"until `breaker-proxy circuit auto {detail.key}`"
    else:
        end = now + timedelta(seconds=left_s)
        day = "" if end.date() == now.date() else f"{end:%d %b} "
        until = f"until {day}{end:%H:%M:%S} ({duration(left_s)})"
    # Whoever mistypes a host makes a circuit of that name.
    is_known = detail.in_flight or any(detail.outcomes.values()) or detail.rejections
    new = "" if is_known else "; no call has come to it so far"
    return f"{detail.key} is {state} {until}{new}"


def _with_advice(refusal: Refused, admin: Admin, key: str) -> Failed:
    if refusal.status != HTTPStatus.NOT_FOUND:
        return refusal
    return Failed(f"{clean(key)}: {refusal.detail}{alike(admin, key)}")
