"""Our own answers, rendered (design section 5): each says truthfully that it is ours, and why.

Nothing here holds a path, a query string or a credential.
"""

import json

from proxy.core.errors import ProxyError

# RFC 9110 section 15: phrases for the statuses we give, in the `title` of the problem document (RFC 9457).
_TITLES = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    414: "URI Too Long",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

# RFC 7617 sections 2 and 2.1. The realm is the same everywhere: a name of its own for each process would have
# clients ask anew after each restart.
_CHALLENGE = 'Basic realm="breaker-proxy", charset="UTF-8"'

CONNECT_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def render(error: ProxyError, *, name: str, method: str, next_hop: str | None, keep_alive: bool) -> bytes:
    """The whole answer to a request that ended with this error.

    Args:
        error: what the client is told.
        name: of this proxy, a token, for `Proxy-Status` (RFC 9209).
        method: of the request; HEAD gets no content, CONNECT may get another status.
        next_hop: `host:port` of the upstream, if the request named one.
        keep_alive: whether the connection stays open behind it.
    """
    status = error.connect_status if method == "CONNECT" else error.status
    problem: dict[str, str | int] = {
        "title": _TITLES[status],
        "status": status,
        "detail": error.details,
        "error": error.error_type,
        "reason": error.reason,
    }
    if next_hop is not None:
        problem["upstream"] = next_hop
    is_problem = status >= 400  # noqa: PLR2004 -- RFC 9110 section 15.5
    content = json.dumps(problem).encode("ascii") + b"\n" if is_problem else b""
    proxy_status = f'{name}; error={error.error_type}; details="{_quoted(error.details)}"'
    if next_hop is not None:
        proxy_status += f'; next-hop="{_quoted(next_hop)}"'
    lines = [
        f"HTTP/1.1 {status} {error.phrase}",
        f"Proxy-Status: {proxy_status}",
        f"X-Breaker-Reason: {error.reason}",
        "Cache-Control: no-store",
        *(["Content-Type: application/problem+json"] if is_problem else []),
        f"Content-Length: {len(content)}",
    ]
    if status == 405:  # noqa: PLR2004 -- RFC 9110 section 15.5.6: it MUST say what is allowed
        lines.append("Allow: OPTIONS")
    if status == 407:  # noqa: PLR2004 -- section 15.5.8: it MUST say how
        lines.append(f"Proxy-Authenticate: {_CHALLENGE}")
    if error.retry_after_s is not None:
        lines.append(f"Retry-After: {error.retry_after_s}")
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if method == "HEAD" else head + content


def _quoted(text: str) -> str:
    """The inside of a string of Structured Fields (RFC 9651 section 3.3.3)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
