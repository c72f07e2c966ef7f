"""How the admin port says no: problem documents (RFC 9457), all of one shape.

None repeats what the caller has sent, and neither does the log of a fault of ours.
"""

from collections.abc import Mapping
from http import HTTPStatus
from traceback import format_tb

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.control.log import logger

# What aiohttp itself refuses, by its status.
_REASONS = {
    404: ("not_found", "there is nothing by this path"),
    405: ("method_not_allowed", "this path knows other methods (see Allow)"),
    413: ("content_too_large", "the content of a request is a few hundred bytes"),
}
_NOT_UNDERSTOOD = ("bad_request", "the request cannot be understood")
_INTERNAL_ERROR = ("internal_error", "a fault of the proxy itself: see its log")


class ProblemView(msgspec.Struct, kw_only=True, frozen=True):
    """Why a request was refused.

    Attributes:
        title: the phrase of the status.
        status: as in the status line.
        detail: for people.
        reason: for programs; the same word for the same cause.
    """

    title: str
    status: int
    detail: str
    reason: str


class Problem(Exception):
    """A refusal.

    Args:
        status: 400-599.
        reason: a word for programs.
        detail: what is wrong, for people, without anything that the caller has sent.
        headers: fields of the answer.
    """

    def __init__(
        self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """The refusal as a response."""
        view = ProblemView(
            title=HTTPStatus(self.status).phrase, status=self.status, detail=str(self), reason=self.reason
        )
        headers = {**self.headers, "Content-Type": "application/problem+json"}
        return web.Response(status=self.status, body=msgspec.json.encode(view) + b"\n", headers=headers)


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """What is said of a status for which nothing more is known."""
    known = _INTERNAL_ERROR if status == HTTPStatus.INTERNAL_SERVER_ERROR else _NOT_UNDERSTOOD
    return Problem(status, *_REASONS.get(status, known), headers)


@web.middleware
async def as_documents(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Makes a problem document of every refusal, aiohttp's own included, and of every fault of ours."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.answer()
    except web.HTTPException as error:
        allowed = error.headers.get("Allow")
        return of_status(error.status, {"Allow": allowed} if allowed else None).answer()
    except ConnectionError:
        # The caller has left before all of its request was here: nobody is there to be answered.
        return of_status(400).answer()
    except Exception as error:  # noqa: BLE001 -- the one place where a bug of ours becomes an answer
        _tell(request, error)
        if request.writer.output_size and request.transport is not None:
            # An answer has begun, and can only be cut.
            request.transport.abort()
        return of_status(500).answer()


def _tell(request: web.Request, error: Exception) -> None:
    """Writes where a fault arose, but not its message: that may quote what the caller has sent."""
    resource = request.match_info.route.resource
    where = "".join(format_tb(error.__traceback__)) + type(error).__qualname__
    path = None if resource is None else resource.canonical
    logger().error("fault in the admin port", path=path, exception=where)
