"""What aiohttp says of a request that it could not parse, as the error that its client is told."""

from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong

from proxy.core.errors import HeadTooLarge, HttpRequestError, ProxyError, TargetTooLong


def unparsed(exc: BaseException | None, max_line_size: int) -> ProxyError | None:
    """Translates aiohttp's exception; None for one that is no fault of the request.

    Args:
        exc: quotes the request; nothing of it is passed on.
        max_line_size: the limit of the request line. aiohttp tells the lines that are too long apart by their
            limit alone; see `Listener`.
    """
    if isinstance(exc, LineTooLong):
        if exc.args[1] == max_line_size:
            return TargetTooLong("the request-target exceeds limits.max_head")
        return HeadTooLarge("a field of the request exceeds limits.max_head")
    if isinstance(exc, BadHttpMessage) and exc.message == "Too many headers received":
        return HeadTooLarge("the request exceeds limits.max_fields")
    return HttpRequestError("the request is not HTTP/1.1") if isinstance(exc, HttpProcessingError) else None
