"""Circuits by what somebody types: a key, or a host whose only circuit is meant."""

import re
from typing import Any
from urllib.parse import quote

from proxy.commands.admin import Admin
from proxy.commands.failure import Failed, Refused
from proxy.commands.text import clean
from proxy.commands.vocabulary import LONGEST_SEARCH, MOST_AT_ONCE

_KEY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:#]*):[0-9]+(?P<rest>.*)", re.DOTALL)
# Of a full table the search for what is alike takes about a second.
_MOST_COMPARED = 10_000
_NEAR = 3


def pages(admin: Admin, query: list[tuple[str, str]], most: int) -> dict[str, Any]:
    """The list of circuits that a query asks for, whole: the first answer, with the circuits of all.

    The table may change from one page to the next: no circuit is listed twice, but one may be missed.

    Args:
        admin: whom to ask.
        query: without limit and offset.
        most: how many circuits at most.

    Raises:
        Failed, Refused: as `Admin.get`.
    """
    whole: dict[str, Any] = {}
    found: dict[str, Any] = {}
    offset = 0
    while offset < most:
        limit = min(MOST_AT_ONCE, most - offset)
        page = admin.get("/circuits", [*query, ("limit", str(limit)), ("offset", str(offset))])
        circuits = page.get("circuits") if isinstance(page, dict) else None
        if not isinstance(circuits, list) or not all(
            isinstance(each, dict) and isinstance(each.get("key"), str) for each in circuits
        ):
            raise Failed(f"{admin.place} answers with something that is not a list of circuits")
        whole = whole or page
        for circuit in circuits[:limit]:
            found.setdefault(circuit["key"], circuit)
        offset += limit
        if len(circuits) < limit:
            break
    return {**whole, "circuits": list(found.values())}


def keys(admin: Admin, text: str = "", most: int = _MOST_COMPARED) -> list[str]:
    """The keys that have a text in them, in their order.

    Raises:
        Failed, Refused: as `Admin.get`.
    """
    query = [("sort", "key")] + ([("q", text)] if text else [])
    return [circuit["key"] for circuit in pages(admin, query, most)["circuits"]]


def path(key: str) -> str:
    """Where the API has the circuit of a key."""
    # A segment of dots would be taken away on the way. What is no Unicode is no key either, and is not found.
    return f"/circuits/{quote(key, safe='', errors='replace').replace('.', '%2E')}"


def resolved(admin: Admin, typed: str) -> str:
    """The key that somebody means: as it is, or of the only circuit of a host that came without a port.

    Raises:
        Failed: there is no such host, or several circuits.
        Refused: as `Admin.get`.
    """
    if _KEY.fullmatch(typed) or len(typed) > LONGEST_SEARCH:
        return typed
    host = typed.lower().strip("[]").removesuffix(".")
    parts = ((key, _KEY.fullmatch(key)) for key in keys(admin, host))
    of_host = [key for key, part in parts if part and part["host"].strip("[]") == host and "#" not in key]
    if len(of_host) == 1:
        return of_host[0]
    if of_host:
        raise Failed(f"{clean(typed)} has several circuits: {listed(of_host)}")
    raise Failed(f"there is no circuit for {clean(typed)}{alike(admin, typed)}; a key is HOST:PORT")


def alike(admin: Admin, typed: str) -> str:
    """Which keys somebody may have meant, as a part of a sentence; nothing if that cannot be said."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only where something was mistyped

    try:
        known = keys(admin)
    except Refused:
        return ""
    near = get_close_matches(typed.lower()[:LONGEST_SEARCH], known, n=_NEAR)
    return f" (is it {listed(near)}?)" if near else ""


def listed(found: list[str]) -> str:
    """Some keys for people."""
    *first, last = [clean(key) for key in found]
    return f"{', '.join(first)} or {last}" if first else last
