"""Mutated requests, and what of them reaches an upstream that reads strictly.

Of each conversation is asserted:

 1. What arrives at the upstream is valid as h11 reads it, and is what the client asked for: the requests
    that a strict reader finds in the client's bytes, in their order, each at most once, with their fields and
    content. So nothing of a refused request arrives, and never more messages go out than came in. Requests
    inside of a CONNECT arrive where that leads to, and what else is inside arrives there as it is.
 2. What the client gets is valid as h11 reads it: for each request one final answer at most, and its own.
 3. Each exchange is reported once.
 4. However the host is spelled, nobody but the test's own upstreams is connected to.
 5. Nothing hangs, nothing is left (see `Stage`), and another client is served afterwards.
"""

import re

import pytest
from fuzz.batches import Fuzz
from fuzz.conversation import Stage
from fuzz.messages import REQUESTS
from fuzz.reading import Answer, Fields, Malformed, Request, answer_of, inside_of, options, requests_of
from fuzz.strategies import MUTATED_REQUESTS, Ending, Sent

_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"te",
    b"transfer-encoding",
    b"upgrade",
}
# What the proxy makes anew, by rules that have tests of their own.
_REMADE = {b"host", b"via", b"max-forwards"}


def _origin_form(request: Request) -> bytes:
    rest = re.sub(rb"^[A-Za-z]+://[^/?]*", b"", request.target)
    if not rest and request.method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


def end_to_end(fields: Fields) -> Fields:
    """What a proxy passes on as it is."""
    named = options(fields) - {b"host", b"content-length", b"authorization"}
    dropped = named | _HOP_BY_HOP | _REMADE
    return [one for one in fields if one[0].lower() not in dropped]


def _is(arrived: Request, sent: Request) -> bool:
    """Whether this is what became of that; of content that was cut or turned out malformed, the beginning."""
    if arrived.complete:
        is_content = sent.complete and arrived.content == sent.content
    else:
        is_content = sent.content.startswith(arrived.content)
    return (
        is_content
        and (arrived.method, arrived.target) == (sent.method, _origin_form(sent))
        and end_to_end(arrived.fields) == end_to_end(sent.fields)
    )


def check_arrived(stage: Stage, text: bytes, sent: list[Request], inside: list[Request] | None) -> None:
    """Holds what the upstreams got against what the client sent."""
    _check_requests(text, stage.upstreams.requests(), sent)
    tunnelled = stage.upstreams.tunnelled
    if inside is not None:
        assert len(tunnelled) <= 1 + len(inside), "nobody has asked for that"
        _check_requests(text, stage.upstreams.requests_inside(), inside)
        return
    is_connect = bool(sent) and sent[-1].method == b"CONNECT"
    behind = text[sent[-1].end :] if is_connect else b""
    assert len(tunnelled) <= is_connect
    for peer in tunnelled:
        assert behind.startswith(peer.received), "other bytes than the client's in a tunnel"


def _check_requests(text: bytes, found: list[tuple[Request, bytes]], sent: list[Request]) -> None:
    left = iter(sent)
    for arrived, raw in found:
        request = next((request for request in left if _is(arrived, request)), None)
        assert request is not None, f"nobody has asked for {arrived}, or not now"
        assert text[request.end :].startswith(raw), "other bytes than the client's behind an upgrade"


def answers_of(
    text: bytes, received: bytes, sent: list[Request], inside: list[Request] | None, *, ended: bool
) -> list[Answer]:
    """The answers that the client got, those inside of a CONNECT behind that to it.

    Raises:
        Malformed: it got something else.
    """
    answers: list[Answer] = []
    at = 0
    for request in sent:
        if at == len(received):
            return answers
        if request.method == b"HEAD" and (refusal := _closing_refusal(received[at:], ended=ended)):
            return [*answers, refusal]
        upgrade = bool(request.values(b"upgrade"))
        answer = answer_of(received[at:], request.method, ended=ended, upgrade=upgrade)
        answers.append(answer)
        at += answer.end
        switched = request.method == b"CONNECT" and 200 <= answer.status < 300
        if switched and inside is not None:
            return answers + answers_of(text, received[at:], inside, None, ended=ended)
        if switched or answer.status == 101:
            assert text[request.end :].startswith(received[at:]), "other bytes than the upstream's"
            return answers
    if at < len(received):
        # What no strict reader takes for a request is refused once.
        assert text[sent[-1].end if sent else 0 :].strip(b"\r\n"), "more answers than requests"
        answer = _closing_refusal(received[at:], ended=ended) or answer_of(
            received[at:], b"HEAD", ended=ended
        )
        assert at + answer.end == len(received), "bytes behind the last answer"
        answers.append(answer)
    return answers


def _closing_refusal(received: bytes, *, ended: bool) -> Answer | None:
    """The refusal that is the last thing said, if that is what has come.

    What aiohttp cannot parse has no method for it, so that a malformed HEAD may be answered with content; and
    if it came in one piece with requests before it, it is refused in their place.
    """
    try:
        answer = answer_of(received, b"GET", ended=ended)
    except Malformed:
        return None
    is_refusal = answer.status >= 400 and answer.values(b"connection") == [b"close"]
    return answer if is_refusal and answer.content and answer.end == len(received) else None


def _stops_here(request: Request) -> bool:
    """Whether it may not be forwarded any more, and no fault is in that (RFC 9110 section 7.6.2)."""
    left = request.values(b"max-forwards")
    return request.method in {b"OPTIONS", b"TRACE"} and any(one and not one.strip(b"0") for one in left)


def check_answers(answers: list[Answer], sent: list[Request]) -> None:
    """Each answer is for its own request."""
    for number, answer in enumerate(answers):
        if answer.status == 0:
            continue
        if number < len(sent) and sent[number].method == b"CONNECT" and answer.status < 300:
            assert all(one.method != b"CONNECT" for one in sent[:number]), "a CONNECT inside of a CONNECT"
        for_it = answer.values(b"x-asked")
        if for_it:
            request = sent[number]
            assert for_it == [request.method + b" " + _origin_form(request)], "an answer for another request"
            if answer.complete and answer.status == 200 and request.method != b"HEAD":
                assert answer.content == for_it[0]
        elif number < len(sent) and _stops_here(sent[number]) and answer.status in {200, 405}:
            assert answer.values(b"x-breaker-reason")
        elif answer.values(b"x-breaker-reason"):
            assert answer.status >= 400
            is_at_fault = answer.status < 500 or answer.status in {501, 505}
            if is_at_fault or (number < len(sent) and sent[number].method == b"CONNECT"):
                assert answer is answers[-1], "what stands behind a refused request is executed"
                assert answer.values(b"connection") == [b"close"]
        else:
            assert sent[number].method in {b"CONNECT", b"OPTIONS", b"TRACE"}, "an answer from nowhere"


async def converse(stage: Stage, sent: Sent, last: bytes = b"") -> list[Answer]:
    """One conversation, and what must be so in and after it; with `last` the client waits for that."""
    await stage.begin()
    text = stage.upstreams.addressed(sent.text)
    async with stage.client() as client:
        await stage.speak(client, sent.pieces(text))
        await stage.soon(lambda: last in client.received, "no answer")
        await stage.end(client, sent.ending)
        ended = client.ended
    requests = requests_of(text)
    inside = inside_of(text, requests)
    check_arrived(stage, text, requests, inside)
    answers = answers_of(text, bytes(client.received), requests, inside, ended=ended)
    requests += inside or []
    check_answers(answers, requests)
    reports = stage.reports
    more = bool(text[requests[-1].end if requests else 0 :].strip(b"\r\n"))
    assert sum(answer.status > 0 for answer in answers) <= reports <= len(requests) + more, "one report each"
    await stage.canary()
    await stage.leaves_nothing()
    return answers


@pytest.mark.parametrize("name", sorted(REQUESTS))
async def test_a_valid_request_is_carried(stage: Stage, name: str) -> None:
    """What is not mutated arrives and is answered: the readers here do not just find nothing."""
    request = requests_of(stage.upstreams.addressed(REQUESTS[name]))[-1]
    assert request.complete
    last = b"GET /i" if name == "inside" else b"HTTP/1.1 "
    *before, answer = await converse(stage, Sent(REQUESTS[name], (), Ending.CLOCK), last)
    assert len(before) == (name == "inside")
    assert answer.complete
    assert answer.status == (101 if name == "upgrade" else 200)


async def test_valid_requests_one_behind_the_other(stage: Stage) -> None:
    # Behind chunked content in one piece with the next request the proxy closes: aiohttp hides trailers.
    last = {
        "chunked",
        "close",
        "connect",
        "extensions",
        "inside",
        "old",
        "smuggled in a chunk",
        "trailers",
        "upgrade",
    }
    names = [name for name in sorted(REQUESTS) if name not in last]
    text = b"".join(REQUESTS[name] for name in [*names, "connect"])
    through = b"through the tunnel"
    answers = await converse(stage, Sent(text + through, (), Ending.FIN), through)
    assert [answer.status for answer in answers] == [200] * len(names) + [200]


async def test_mutated_requests(stage: Stage, fuzz: Fuzz) -> None:
    async def one(sent: Sent) -> None:
        await converse(stage, sent)

    await fuzz(MUTATED_REQUESTS, one)
