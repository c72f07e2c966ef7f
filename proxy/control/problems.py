"""How the admin port says no: problem documents (RFC 9457), all of one shape.

None repeats what the caller has sent.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

# What aiohttp itself refuses, by its status.
_REASONS = {
    404: ("not_found", "there is nothing by this path"),
    405: ("method_not_allowed", "this path knows other methods (see Allow)"),
    413: ("content_too_large", "the content of a request is a few hundred bytes"),
}


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


@web.middleware
async def as_documents(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Makes a problem document of every refusal, aiohttp's own included."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.answer()
    except web.HTTPException as error:
        reason, detail = _REASONS.get(error.status, ("bad_request", "the request cannot be understood"))
        allowed = error.headers.get("Allow")
        return Problem(error.status, reason, detail, {"Allow": allowed} if allowed else None).answer()
