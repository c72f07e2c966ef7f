"""Where a redirected request goes: a URL into whose path and query the original target may be put.

    http://dead-letters.internal/{host}/{path}?at={port}&{query}

What stands in a target is written by clients, so a placeholder can reach no further than its place: in the
path everything but `{path}` is percent-encoded, in the query everything but `{query}`; and a path that could
climb out of its place by dot segments is not redirected at all.
"""

import re
from collections.abc import Callable

from proxy.core.fallback import BRACED, RedirectUrl
from proxy.core.target import Target

# RFC 3986 section 2.3: what means the same, encoded or not.
_RESERVED = re.compile(r"[^A-Za-z0-9._~-]")
# RFC 3986 section 5.2.4, and what lenient servers take for it.
_SLASH = r"[/\\;]|%2f|%5c|%3b"
_DOT_SEGMENT = re.compile(rf"(?:^|{_SLASH})(?:\.|%2e){{1,2}}(?=$|{_SLASH})", re.IGNORECASE)

_PLACES: dict[str, Callable[[Target], str]] = {
    "scheme": lambda target: target.scheme,
    "host": lambda target: target.host,
    "port": lambda target: str(target.port),
    "path": lambda target: target.origin_form.partition("?")[0].removeprefix("/"),
    "query": lambda target: target.origin_form.partition("?")[2],
}


def redirected(url: RedirectUrl, original: Target, *, is_internal: bool) -> Target | None:
    """Where a request goes instead; None if its path cannot be put into the URL safely.

    Args:
        url: as the settings write it.
        original: what the request was for; no tunnel's.
        is_internal: whether the new upstream may be called whatever the class of its address.
    """
    if "{path}" in url.path and _DOT_SEGMENT.search(_PLACES["path"](original)):
        return None
    origin_form = _filled(url.path, original, raw="path")
    if url.query is not None:
        origin_form += f"?{_filled(url.query, original, raw='query')}"
    origin = url.origin
    return Target(origin.scheme, origin.host, origin.port, origin_form, origin.authority, is_internal)


def _filled(template: str, original: Target, *, raw: str) -> str:
    """The template with the parts of the target in their places; only `raw` goes in as it is."""

    def part(braced: re.Match[str]) -> str:
        name = braced["name"]
        text = _PLACES[name](original)
        return text if name == raw else _RESERVED.sub(_encoded, text)

    return BRACED.sub(part, template)


def _encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
