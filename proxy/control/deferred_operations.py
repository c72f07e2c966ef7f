"""What the API does with requests that are kept for later: where, what it takes, what it answers.

It is described with or without `defer.path`, so that one document is true of all proxies of a version.
"""

from functools import partial

from proxy.control import deferred_queries as asked
from proxy.control import steering
from proxy.control.deferred_api import Changed, DeferredApi, Paused
from proxy.control.deferred_views import DeferredPage, DeferredRequest, DeferredView
from proxy.control.openapi import Operation

ROOT = "/api/v1/deferred"
# Nothing is kept here, or not this one; the disk does not answer.
_REFUSALS = (404, 503)
_REFUSALS_OF_CHANGES = (*_REFUSALS, 413, 415)


def operations(api: DeferredApi) -> tuple[Operation, ...]:
    """Everything it does, for the router and for the document."""
    operation = partial(Operation, refusals=_REFUSALS)
    change = partial(Operation, method="POST", refusals=_REFUSALS_OF_CHANGES)
    one = f"{ROOT}/requests/{{id}}"
    return (
        operation(
            method="GET",
            path=ROOT,
            name="get_deferred",
            summary="What is kept for later, in numbers",
            handler=api.get_overview,
            answers=DeferredView,
        ),
        operation(
            method="GET",
            path=f"{ROOT}/requests",
            name="list_deferred_requests",
            summary="A page of the requests that are kept, in their order",
            handler=api.list_requests,
            answers=DeferredPage,
            parameters=asked.PAGE,
        ),
        operation(
            method="GET",
            path=one,
            name="get_deferred_request",
            summary="One of them",
            handler=api.get_request,
            answers=DeferredRequest,
            parameters=(asked.ONE,),
        ),
        operation(
            method="DELETE",
            path=one,
            name="delete_deferred_request",
            summary="Remove one, whether it waits or is a dead letter",
            handler=api.delete_request,
            answers=Changed,
            parameters=(asked.ONE,),
        ),
        change(
            path=f"{one}/put-back",
            name="put_back_deferred_request",
            summary="Have a dead letter wait again, behind all others",
            handler=api.put_back_request,
            answers=DeferredRequest,
            takes=steering.Wish,
            parameters=(asked.ONE,),
            refusals=(*_REFUSALS_OF_CHANGES, 409),
        ),
        change(
            path=f"{ROOT}/put-back",
            name="put_back_deferred",
            summary="Have dead letters wait again, 1000 at most",
            handler=api.put_back,
            answers=Changed,
            takes=asked.PutBackWish,
        ),
        change(
            path=f"{ROOT}/delete",
            name="delete_deferred",
            summary="Remove many, 1000 at most",
            handler=api.delete,
            answers=Changed,
            takes=asked.DeleteWish,
        ),
        operation(
            method="GET",
            path=f"{ROOT}/export",
            name="export_deferred",
            summary="All that is kept of each, with fields and content, as lines of JSON",
            handler=api.export,
            media_type="application/jsonl",
            parameters=asked.EXPORT,
        ),
        change(
            path=f"{ROOT}/pause",
            name="pause_deliveries",
            summary="Deliver nothing, over a restart as well",
            handler=api.pause,
            answers=Paused,
            takes=steering.Wish,
        ),
        change(
            path=f"{ROOT}/resume",
            name="resume_deliveries",
            summary="Deliver again",
            handler=api.resume,
            answers=Paused,
            takes=steering.Wish,
        ),
    )
