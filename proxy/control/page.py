"""The live page: its files, read once at the start, and the answers that carry them.

There is no data in them, so everybody may have them; what the page shows it asks the API for, which asks who
is asking. Each file has its own exact path in the router: no path of a request ever becomes a path of a file.

Nothing of the page is of another origin, nothing is inline, and it says so (Content Security Policy Level 3):
should some text of an upstream ever reach the page as markup, it would still not run.
"""

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

ROOT = "/static/"
_INDEX = "index.html"
# What has none of these endings, such as a licence, lies beside the page and is not served.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = MappingProxyType(
    {
        # Asked for anew each time, and not sent again if it is still the same.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "no-referrer",
        # For browsers that do not know frame-ancestors.
        "X-Frame-Options": "DENY",
    }
)


class StaticFile(NamedTuple):
    """A file of the page.

    Attributes:
        etag: of its content, without quotes.
    """

    content: bytes
    content_type: str
    etag: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or 304 for a browser that has it (RFC 9110 section 13.1.2)."""
        # Also with the 304: a browser takes over the fields of it (RFC 9111 section 3.2).
        headers = {**_HEADERS, "Content-Type": self.content_type, "ETag": f'"{self.etag}"'}
        if any(shown.value in {self.etag, "*"} for shown in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.content, headers=headers)


@cache
def static_files() -> MappingProxyType[str, StaticFile]:
    """All that is served, by its path below `static/`."""
    return MappingProxyType(dict(_found(files("proxy.control") / "static")))


def handlers() -> dict[str, Handler]:
    """What answers each path below `ROOT`."""
    return {f"{ROOT}{name}": _serving(file) for name, file in static_files().items() if name != _INDEX}


def index(request: web.Request) -> web.Response:
    """The page itself."""
    return static_files()[_INDEX].answer(request)


def is_wanted(headers: CIMultiDictProxy[str]) -> bool:
    """Whether who asks for `/` is a browser, that is, names HTML among what it accepts; curl does not."""
    accepted = ",".join(headers.getall("Accept", ())).lower().split(",")
    return any(each.partition(";")[0].strip() == "text/html" for each in accepted)


def _found(folder: Traversable, below: str = "") -> Iterator[tuple[str, StaticFile]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _found(entry, f"{below}{entry.name}/")
            continue
        content_type = _TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if content_type is not None:
            content = entry.read_bytes()
            etag = sha256(content).hexdigest()[:16]
            yield f"{below}{entry.name}", StaticFile(content, content_type, etag)


def _serving(file: StaticFile) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        return file.answer(request)

    return serve
