"""Mutated responses, and what of them reaches a client that reads strictly.

Of each conversation is asserted:

 1. What the client gets is valid as h11 reads it, or visibly cut.
 2. What it takes for complete is what the upstream said: as h11 reads that, or where h11 does not, a reader
    that allows what sloppy upstreams do without moving a boundary.
 3. What h11 reads as valid and complete in the upstream's bytes is what the client gets.
 4. The next request on the same connection gets its own answer, not what was left of this one.
 5. Nothing hangs: it ends when the upstream does, or else with the deadlines. Nothing is left (see `Stage`),
    and another client is served afterwards.
"""

import re

import pytest
from fuzz.batches import Fuzz
from fuzz.conversation import Peer, Stage
from fuzz.messages import ASKING, FAULTY, RESPONSES, UPSTREAM
from fuzz.reading import Answer, Fields, Malformed, answer_of, sloppy_answer_of
from fuzz.strategies import MUTATED_RESPONSES, Ending, Sent
from fuzz.test_fuzzed_requests import end_to_end
from hypothesis import strategies as st

# What a proxy may strip, and llhttp does not: it takes that for another coding.
_TAB_AT_CODING = re.compile(
    rb"transfer-encoding:(?:[ \t]*\t[ \t]*chunked|[ \t]*chunked[ \t]*\t)", re.IGNORECASE
)
_NEXT = b"GET http://" + UPSTREAM + b"/next HTTP/1.1\r\nHost: " + UPSTREAM + b"\r\n\r\n"


def _fields(answer: Answer) -> Fields:
    fields = end_to_end(answer.fields)
    if answer.status == 204:
        # RFC 9110 section 8.6: the upstream must not have said it.
        return [one for one in fields if one[0].lower() != b"content-length"]
    return fields


def _strictly(text: bytes, method: bytes, *, ended: bool) -> Answer | None:
    try:
        return answer_of(text, method, ended=ended)
    except Malformed:
        return None


def _sloppily(text: bytes, method: bytes, *, ended: bool) -> Answer | None:
    try:
        return sloppy_answer_of(text, method, ended=ended)
    except Malformed:
        return None


def check(got: Answer, asking: str, text: bytes, ending: Ending) -> None:
    """Holds what the client got against what the upstream said."""
    method = ASKING[asking].partition(b" ")[0]
    ended = ending is Ending.FIN
    said = _strictly(text, method, ended=ended)
    is_valid = said is not None and said.complete
    if reason := got.values(b"x-breaker-reason"):
        assert got.status in {502, 504}
        is_limit = reason == [b"http_response_transfer_coding"] and _TAB_AT_CODING.search(text)
        assert not is_valid or is_limit or ending is Ending.RESET, "a valid response is refused"
        return
    if is_valid and ending is not Ending.RESET:
        assert got.complete, "a valid response is cut"
    said = (_strictly if is_valid else _sloppily)(text, method, ended=ended)
    assert said is not None, "an answer where the upstream gave none"
    # RFC 9110 section 15.2: an HTTP/1.0 client gets no interim responses.
    interim = () if asking == "old" else said.interim
    if got.status == 0:
        assert got.interim == interim[: len(got.interim)]
        return
    assert got.interim == interim
    assert (got.status, got.reason) == (said.status, said.reason)
    assert _fields(got) == _fields(said)
    if got.complete:
        assert said.complete, "a cut response seems to be complete"
        assert got.content == said.content
        assert all(trailer in said.trailers for trailer in end_to_end(got.trailers))
    else:
        assert said.content.startswith(got.content)


async def converse(stage: Stage, asking: str, sent: Sent) -> Answer:
    """One request, its mutated answer, and what must be so in and after it."""
    await stage.begin()
    upstreams = stage.upstreams
    request = upstreams.addressed(ASKING[asking])
    method = request.partition(b" ")[0]
    upstreams.leave_the_next()
    async with stage.client() as client:
        client.write(request)
        await stage.soon(lambda: upstreams.scripted, "the request does not arrive")
        upstream = upstreams.scripted
        assert upstream is not None
        await stage.speak(upstream, sent.pieces(sent.text))
        upstream.end(sent.ending)
        if sent.ending in {Ending.FIN, Ending.RESET}:
            await stage.over()
        else:
            await stage.quiet(client)
            await stage.pass_deadlines()
        await stage.quiet(client)
        received = bytes(client.received)
        got = answer_of(received, method, ended=client.ended)
        check(got, asking, sent.text, sent.ending)
        assert got.end == len(received), "bytes behind the answer"
        assert stage.reports == 1, "one report"
        if not got.complete or got.values(b"x-breaker-reason"):
            await stage.soon(lambda: upstream.lost, "an upstream that has failed is kept")
        upstreams.serve_on()
        if got.complete and got.values(b"connection") != [b"close"]:
            await _ask_again(stage, client)
        else:
            await stage.soon(lambda: client.ended or client.lost, "a cut response does not end")
    await stage.canary()
    await stage.leaves_nothing()
    return got


async def _ask_again(stage: Stage, client: Peer) -> None:
    """The next request on the same connection gets its own answer."""
    begin = len(client.received)
    client.write(stage.upstreams.addressed(_NEXT))
    answer = await stage.answered(client, begin)
    assert answer.values(b"x-asked") == [b"GET /next"], "an answer for another request"
    assert answer.content == b"GET /next"


@pytest.mark.parametrize("name", sorted(FAULTY))
async def test_a_faulty_response_is_refused_or_cut(stage: Stage, name: str) -> None:
    got = await converse(stage, "get", Sent(FAULTY[name], (), Ending.FIN))
    assert not got.complete or got.values(b"x-breaker-reason")


@pytest.mark.parametrize("asking", sorted(ASKING))
async def test_valid_responses_are_passed_on(stage: Stage, asking: str) -> None:
    """What is not mutated arrives whole: the readers here do not just find nothing."""
    for text in RESPONSES.values():
        got = await converse(stage, asking, Sent(text, (), Ending.FIN))
        assert got.complete
        assert not got.values(b"x-breaker-reason")


async def test_mutated_responses(stage: Stage, fuzz: Fuzz) -> None:
    async def one(drawn: tuple[str, Sent]) -> None:
        await converse(stage, *drawn)

    await fuzz(st.tuples(st.sampled_from(sorted(ASKING)), MUTATED_RESPONSES), one)
