"""Debian's Chromium before the live page, and all that goes wrong in it."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, WebError, expect, sync_playwright
from support.process import RunningProxy
from system.page.live_page import LivePage

EXECUTABLE = Path("/usr/bin/chromium")
# For what has no bound of its own: far more than it takes on a busy machine.
PATIENCE_MS = 10_000
_TELLS_OF_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI || event.sourceFile}`);
});
"""


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """The browser, without a window.

    While it lasts, no other event loop can run in this thread: Playwright's own does.

    Args:
        arguments: further ones of its command line.
    """
    # Chromium's sandbox does not start as root, nor where users may make no namespaces, and no page but ours
    # is ever opened. Whatever the environment names as a proxy is not for loopback.
    options = ["--no-sandbox", "--no-proxy-server", *arguments]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=options)
        expect.set_options(timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """Somebody with a browser of his own, in which nothing may go wrong but what he expects to.

    Leaving the `with` proves that the page had no error and no warning, broke no policy, called nobody but
    the proxy it is of, and that each of its calls was answered.

    Args:
        browser: to be used.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._resources = ExitStack()
        self._pages: list[Page] = []
        self._expected: list[re.Pattern[str]] = []
        self.complaints: list[str] = []
        self.requested: list[str] = []

    def visit(self, proxy: RunningProxy, **options: Any) -> LivePage:
        """Opens the page of a proxy in a new context, which shares nothing with earlier ones.

        Args:
            proxy: whose page.
            options: of the context, such as viewport and color_scheme.
        """
        own = f"http://127.0.0.1:{proxy.admin_port}"
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self._resources.callback(context.close)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_TELLS_OF_VIOLATIONS)
        context.on("console", self._hear)
        context.on("weberror", self._catch)
        context.on("requestfailed", self._miss)

        def see(request: Request) -> None:
            self.requested.append(request.url)
            if not request.url.startswith((f"{own}/", "data:")):
                self.complaints.append(f"asks another origin: {request.url}")

        context.on("request", see)
        page = context.new_page()
        self._pages.append(page)
        page.goto(own)
        return LivePage(page)

    def expects(self, pattern: str) -> None:
        """Some complaint will match this, and all that do are well."""
        self._expected.append(re.compile(pattern))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._resources:
            if kind is None:
                for page in self._pages:
                    # What the page has said before this has been heard after it.
                    page.evaluate("0")
                unexpected = [c for c in self.complaints if not any(e.search(c) for e in self._expected)]
                assert unexpected == []
                missing = [e.pattern for e in self._expected if not any(map(e.search, self.complaints))]
                assert missing == [], "what was expected did not go wrong"

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _catch(self, error: WebError) -> None:
        self.complaints.append(f"uncaught: {error.error}")

    def _miss(self, request: Request) -> None:
        # The page itself, or the end of a visit, has given it up.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.method} {request.url} {request.failure}")
