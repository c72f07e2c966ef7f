"""The OpenAPI document of the API, made of what the handlers really take and give.

An `Operation` stands beside its handler in `api.py` and says what the handler answers; the schemas are those
of the classes that are encoded and decoded. So there is one description, and the router is made of it as
well.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from proxy import __version__
from proxy.control.problems import ProblemView

_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = """\
Who may call: on loopback whoever calls from this machine and names it in Host; elsewhere whoever shows the
token (Authorization: Bearer). Content of requests is application/json. Refusals are problem documents
(RFC 9457) with a `reason` for programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a path or a query.

    Attributes:
        schema: JSON Schema of its value.
        place: `query` or `path`.
    """

    name: str
    description: str
    schema: dict[str, Any]
    place: str = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that the API does.

    Attributes:
        path: with its parameters in braces.
        answers: the type of the answer's content; None for a media type without a schema.
        takes: the type of the request's content, if it has any.
        media_type: of the answer.
        refusals: the statuses of what may be wrong beside the caller.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    answers: Any = None
    takes: Any = None
    parameters: tuple[Parameter, ...] = ()
    media_type: str = "application/json"
    refusals: tuple[int, ...] = ()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Has a router lead to its handler; whoever may GET may HEAD."""
        if self.method == "GET":
            router.add_get(self.path, self.handler)
        else:
            router.add_route(self.method, self.path, self.handler)


def document(operations: Iterable[Operation]) -> bytes:
    """The document of these operations, as JSON."""
    described = list(operations)
    types = [each for one in described for each in (one.answers, one.takes) if each is not None]
    schemas, components = msgspec.json.schema_components([*types, ProblemView], ref_template=_TEMPLATE)
    by_type = dict(zip(map(id, types), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for one in described:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "breaker-proxy", "version": __version__, "description": _DESCRIPTION},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"token": []}],
        }
    )


def _described(one: Operation, by_type: dict[int, dict[str, Any]]) -> dict[str, Any]:
    schema = {} if one.answers is None else {"schema": by_type[id(one.answers)]}
    problem = {"application/problem+json": {"schema": {"$ref": _TEMPLATE.format(name="ProblemView")}}}
    # What any request may be refused for: its caller, its page, its Host, a fault of ours.
    statuses = sorted({400, 401, 403, 421, 500, *one.refusals})
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "responses": {
            "200": {"description": "Done.", "content": {one.media_type: schema}},
            **{str(status): {"description": "Refused.", "content": problem} for status in statuses},
        },
    }
    if one.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "description": parameter.description,
                "required": parameter.place == "path",
                "schema": parameter.schema,
            }
            for parameter in one.parameters
        ]
    if one.takes is not None:
        content = {"application/json": {"schema": by_type[id(one.takes)]}}
        described["requestBody"] = {"required": True, "content": content}
    return described
