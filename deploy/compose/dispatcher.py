"""A dispatcher for compose.yaml: sends events to URLs, and tells every few seconds how that went.

It knows nothing of the proxy but `http_proxy`, like most dispatchers. It needs nothing but Python, so it
runs in the image of the proxy.
"""

import argparse
import http.client
import signal
import sys
import urllib.error
import urllib.request
from collections import Counter
from threading import Event, Thread
from types import FrameType
from urllib.parse import urlsplit

# Between two calls of the same upstream.
_PAUSE_S = 0.2
_EVENT = b'{"type": "order.created"}'


def main() -> None:
    """Sends until SIGTERM."""
    parser = argparse.ArgumentParser(description="Sends events to each URL through the proxy of http_proxy.")
    parser.add_argument("url", nargs="+")
    parser.add_argument(
        "--patience", type=float, default=2.0, metavar="SECONDS", help="gives up after so long"
    )
    parser.add_argument("--tell-every", type=float, default=5.0, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    answers: dict[str, Counter[str]] = {url: Counter() for url in options.url}
    for url, counts in answers.items():
        Thread(target=_send, args=(url, options.patience, counts), daemon=True).start()
    pause = Event()
    while True:
        pause.wait(options.tell_every)
        for url, counts in answers.items():
            told = ", ".join(f"{count} x {answer}" for answer, count in sorted(counts.copy().items()))
            sys.stdout.write(f"{urlsplit(url).netloc}: {told or 'nothing yet'}\n")
            counts.clear()
        sys.stdout.flush()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _send(url: str, patience_s: float, counts: Counter[str]) -> None:
    pause = Event()
    while True:
        counts[_answer(url, patience_s)] += 1
        pause.wait(_PAUSE_S)


def _answer(url: str, patience_s: float) -> str:
    request = urllib.request.Request(url, _EVENT, {"Content-Type": "application/json"})  # noqa: S310 -- ours
    try:
        with urllib.request.urlopen(request, timeout=patience_s) as response:  # noqa: S310 -- ours
            response.read()
            return str(response.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            reason = refusal.headers.get("X-Breaker-Reason")
            return f"{refusal.code} {reason}" if reason else str(refusal.code)
    except TimeoutError:
        return "no answer"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


if __name__ == "__main__":
    main()
