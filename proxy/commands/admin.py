"""The admin port from outside: one question, one answer, both bounded; or the stream of events.

The standard library's client is enough: it follows no redirects and reads no proxy from the environment, so
that nobody but the address that was named is asked, or shown the token. The token is shown only when it is
asked for, since where none is needed a wrong one is refused.
"""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from ipaddress import ip_address
from socket import socket
from types import FrameType
from typing import Any
from urllib.parse import urlencode

from proxy.commands.failure import Failed, Refused
from proxy.commands.place import Place, tokens
from proxy.commands.text import clean

ROOT = "/api/v1"
# For the whole of an answer, however slowly it comes.
_PATIENCE_S = 10.0
# A page of 1000 circuits takes about 1 MiB.
_MOST_OF_AN_ANSWER = 32 * 1024 * 1024
# The proxy says something each 15 s.
_SILENCE_S = 40.0
_CHALLENGE = 'Bearer realm="breaker-proxy"'


class Admin:
    """Asks the admin port of one proxy.

    Args:
        place: where it is.
        environ: where a token may be named.
        patience_s: how long an answer may take.
    """

    def __init__(self, place: Place, environ: Mapping[str, str], patience_s: float = _PATIENCE_S) -> None:
        self.place = place
        self._environ = environ
        self._patience_s = patience_s
        self._token: str | None = None
        self._is_made_here = False

    def get(self, path: str, query: list[tuple[str, str]] | None = None) -> Any:
        """What it answers to a question.

        Args:
            path: below the root of the API, percent-encoded.
            query: names and values.

        Raises:
            Failed: it cannot be reached, or something else answers there.
            Refused: it says no.
        """
        return self._asked("GET", f"{path}?{urlencode(query, errors='replace')}" if query else path)

    def post(self, path: str, wish: dict[str, str]) -> Any:
        """What it answers to a wish.

        Raises:
            Failed, Refused: as `get`.
        """
        return self._asked("POST", path, json.dumps(wish).encode("ascii"))

    def delete(self, path: str) -> Any:
        """What it answers when something is to be removed.

        Raises:
            Failed, Refused: as `get`.
        """
        return self._asked("DELETE", path)

    @contextmanager
    def events(self, last_id: str | None) -> Iterator[HTTPResponse]:
        """The stream of events after one of them, or from now on; read from it as from `stream`.

        Raises:
            Failed, Refused: as `get`.
        """
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        with self.stream("/events", "text/event-stream", headers=headers) as response:
            yield response

    @contextmanager
    def stream(
        self,
        path: str,
        media_type: str,
        query: list[tuple[str, str]] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        """An answer that is read bit by bit.

        Reading from it raises OSError or HTTPException when it breaks off, or is silent for too long.

        Raises:
            Failed, Refused: as `get`.
        """
        asked = f"{path}?{urlencode(query, errors='replace')}" if query else path
        with ExitStack() as opened:
            with self._alone(), _within(self._patience_s):
                sock, response = opened.enter_context(self._answer("GET", asked, None, headers or {}))
            found = response.headers.get_content_type()
            if found != media_type:
                raise self._odd(f"{clean(found)} in place of {media_type}")
            sock.settimeout(_SILENCE_S)
            yield response

    def _asked(self, method: str, path: str, content: bytes | None = None) -> Any:
        asked = self._answer(method, path, content, {})
        with self._alone(), _within(self._patience_s), asked as (_, response):
            return self._json(response)

    @contextmanager
    def _answer(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> Iterator[tuple[socket, HTTPResponse]]:
        """An answer that says yes, and its socket; a token is shown to whoever asks for it."""
        was_shown_one = self._token is not None
        refused: list[str] = []
        failure: Failed | None = None
        while True:
            fields = {**headers, "Connection": "close"}
            if content is not None:
                fields["Content-Type"] = "application/json"
            connection = HTTPConnection(self.place.host, self.place.port, timeout=self._patience_s)
            with closing(connection):
                connection.connect()
                sock = connection.sock
                is_near = is_here(sock.getsockname()[0], sock.getpeername()[0])
                # A name may lead elsewhere by now.
                if self._token is not None and (is_near or not self._is_made_here):
                    fields["Authorization"] = f"Bearer {self._token}"
                connection.request(method, ROOT + path, content, fields)
                with connection.getresponse() as response:
                    if response.status == HTTPStatus.OK:
                        yield sock, response
                        return
                    challenge = response.headers.get("WWW-Authenticate", "")
                    if response.status != HTTPStatus.UNAUTHORIZED or not challenge.startswith(_CHALLENGE):
                        raise self._refusal(response)
            if failure is not None:
                raise failure
            if self._token is not None:
                refused.append(self._token)
            try:
                self._token = self._found_token(refused, is_near=is_near)
            except Failed as none_left:
                self._token = None
                if not was_shown_one:
                    raise
                # The one that was right until now is not any more: perhaps none is needed.
                failure = none_left

    def _found_token(self, refused: list[str], *, is_near: bool) -> str:
        looked = []
        for file, token, why in tokens(self.place, self._environ, is_here=is_near):
            if token is not None and token not in refused:
                self._is_made_here = file not in self.place.token_files
                return token
            looked.append(f"\n  {file}: {why or 'refused'}")
        if not self.place.token_files:
            looked.append("\n  no --token-file, and no --config with admin.token_file")
        if not is_near:
            looked.append("\n  it is not on this machine, so none that it has made is looked for here")
        raise Failed(f"{self.place} ({self.place.origin}) wants its token:{''.join(looked)}")

    def _json(self, response: HTTPResponse) -> Any:
        content = response.read(_MOST_OF_AN_ANSWER + 1)
        if len(content) > _MOST_OF_AN_ANSWER:
            raise self._odd("its answer has no end")
        if response.length:
            raise IncompleteRead(content, response.length)
        try:
            return json.loads(content, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise self._odd("its answer is not JSON") from None

    def _refusal(self, response: HTTPResponse) -> Failed:
        if response.headers.get("X-Breaker-Reason") == "not_a_proxy_request":
            return Failed(
                f"{self.place} ({self.place.origin}) is the port for clients: "
                "ask the admin port (listen.admin, 3129 by default)"
            )
        problem: Any = None
        if response.headers.get_content_type() == "application/problem+json":
            problem = self._json(response)
        if not isinstance(problem, dict) or not isinstance(problem.get("reason"), str):
            return self._odd(f"status {response.status}")
        detail, reason = clean(str(problem.get("detail"))), clean(problem["reason"])
        advice = f"; say its name with --admin, or add {self.place.host} to admin.hosts there"
        text = (
            f"{self.place}: {detail} ({response.status} {reason}){advice if reason == 'unknown_host' else ''}"
        )
        return Refused(text, detail, response.status, reason)

    def _odd(self, what: str) -> Failed:
        return Failed(
            f"what answers on {self.place} ({self.place.origin}) "
            f"is not the admin port of a breaker-proxy: {what}"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Tells what may go wrong on the way there."""
        where = f"{self.place} ({self.place.origin})"
        try:
            yield
        except ConnectionRefusedError:
            advice = "is breaker-proxy running? Elsewhere: --admin HOST:PORT"
            raise Failed(f"nothing listens on {where}: {advice}") from None
        except TimeoutError:
            raise Failed(f"{where} has not answered within {self._patience_s:g} s") from None
        except HTTPException as error:
            raise self._odd(f"no HTTP ({type(error).__name__})") from None
        except OSError as error:
            raise Failed(f"{where} cannot be reached: {error.strerror or error}") from None
        except UnicodeError:
            # The one that the resolver's encoding of names raises, as for an empty label.
            raise Failed(f"{where} cannot be reached: that is no name of a host") from None


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError when the time is over, whatever it is spent on: names, a head, content."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    former = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def is_here(own: str, other: str) -> bool:
    """Whether the other side of a connection is on this machine, by the addresses of both."""
    return own == other or ip_address(other.partition("%")[0]).is_loopback


def _no_number(_word: str) -> float:
    raise ValueError
