"""Where the head of a request and its chunks end, as nobody else tells it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.request_bytes import ChunkedEnd, RequestBytes

HEAD = b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"

# Content that looks like the framing around it.
CONTENT = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\n0\n\n", b"5;a\r\nhello\r\n", b"\r\n\r\n", b"A: b\r\n\r\n"]),
)
EXTENSION = st.one_of(
    st.just(b""), st.sampled_from([b";a", b';a="0"', b";a=b;c", b";" + b"x" * 63, b";" + b"x" * 500])
)
LEADING_ZEROS = st.integers(0, 20)
CASES = st.sampled_from(["x", "X"])


@st.composite
def chunk(draw: st.DrawFn) -> bytes:
    content = draw(CONTENT)
    size = b"0" * draw(LEADING_ZEROS) + format(len(content), draw(CASES)).encode()
    return size + draw(EXTENSION) + b"\r\n" + content + b"\r\n"


@st.composite
def last_chunk(draw: st.DrawFn) -> bytes:
    return b"0" * (1 + draw(LEADING_ZEROS)) + draw(EXTENSION) + b"\r\n"


TRAILERS = st.sampled_from(
    [b"A: b\r\n", b"A: b\r\nC: 0\r\n", b"0\r\n", b"0: 0\r\n", b"A:" + b"x" * 500 + b"\r\n"]
)


def pieces(drawn: st.DataObject, text: bytes) -> list[bytes]:
    """The text cut wherever hypothesis likes, at times into single bytes."""
    if drawn.draw(st.booleans()):
        return [text[at : at + 1] for at in range(len(text))]
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


@given(st.data())
def test_chunks_are_clean_exactly_at_their_end(drawn: st.DataObject) -> None:
    text = b"".join(drawn.draw(st.lists(chunk(), max_size=6))) + drawn.draw(last_chunk()) + b"\r\n"
    end = ChunkedEnd()
    fed = 0
    for piece in pieces(drawn, text):
        end.feed(piece)
        fed += len(piece)
        assert end.is_clean == (fed == len(text)), (fed, len(text))


@given(st.data())
def test_chunks_with_trailers_or_bytes_behind_are_clean_at_no_later_time(drawn: st.DataObject) -> None:
    content = b"".join(drawn.draw(st.lists(chunk(), max_size=3))) + drawn.draw(last_chunk())
    trailers = drawn.draw(st.one_of(st.just(b""), TRAILERS))
    whole = content + trailers + b"\r\n"
    least = 0 if trailers else 1
    behind = drawn.draw(st.one_of(st.binary(min_size=least, max_size=50), st.just(b"\r\n"), st.just(LAST)))
    # Without trailers the end is clean until the next byte comes.
    clean_at = len(whole) if not trailers else -1
    end = ChunkedEnd()
    fed = 0
    for piece in pieces(drawn, whole + behind):
        end.feed(piece)
        fed += len(piece)
        assert end.is_clean == (fed == clean_at), (fed, clean_at)


@pytest.mark.parametrize(
    "text",
    [b"x\r\n\r\n", b"\r\n", b"-1\r\n\r\n\r\n" + LAST, b"\r\n" + LAST, b";a\r\n\r\n", b"1 2\r\n\r\n"],
    ids=repr,
)
def test_what_is_no_chunk_is_never_clean(text: bytes) -> None:
    end = ChunkedEnd()
    for piece in (text, LAST, b"\r\n", LAST):
        end.feed(piece)
        assert not end.is_clean


def test_nothing_is_clean_before_it_begins_and_nothing_changes_it() -> None:
    end = ChunkedEnd()
    assert not end.is_clean
    end.feed(b"")
    assert not end.is_clean
    end.feed(LAST)
    end.feed(b"")
    assert end.is_clean


@pytest.mark.parametrize("zeros", [64, 100, 100_000])
@pytest.mark.parametrize("size", [b"0", b"2"])
def test_a_size_that_is_longer_than_is_kept_is_not_clean_too_early(zeros: int, size: bytes) -> None:
    """What is dropped of it may be its only digit; then it is taken for a last chunk."""
    end = ChunkedEnd()
    end.feed(b"0" * zeros + size + b"\r\n" + (b"\r\n\r\n" if size == b"2" else b""))
    for piece in (LAST[:3], b"A: b\r\n", b"\r\n"):
        end.feed(piece)
        assert not end.is_clean


# The head.


def begun(max_bytes: int = 100, *, is_all: bool = True) -> RequestBytes:
    beginning = RequestBytes(max_bytes)
    beginning.begin(is_all=is_all)
    return beginning


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_head_without_an_end_is_bounded_as_a_whole(step: int) -> None:
    beginning = begun(100)
    text = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 14
    assert len(text) == 100
    assert [beginning.add(text[at : at + step]) for at in range(0, 100, step)] == [False] * -(-100 // step)
    assert beginning.add(b"A"), "one byte more"


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_head_that_has_ended_is_too_much_for_nobody(step: int) -> None:
    beginning = begun(len(HEAD))
    text = HEAD + b"x" * 1000
    assert not any(beginning.add(text[at : at + step]) for at in range(0, len(text), step))


def test_an_end_of_a_head_that_came_too_late_does_not_count() -> None:
    beginning = begun(100)
    assert beginning.add(b"x" * 101)
    assert not beginning.add(b"\r\n\r\n"), "it is whole after all"


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n\r\n\n", b"\r\n" * 20], ids=repr)
def test_empty_lines_before_a_head_do_not_end_it(before: bytes) -> None:
    beginning = begun(100)
    assert not beginning.add(before)
    assert not beginning.add(b"x" * (100 - len(before)))
    assert beginning.add(b"x")


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n", b"\r\n" * 20], ids=repr)
@given(st.data())
def test_chunks_are_found_behind_their_head_however_it_was_cut(before: bytes, drawn: st.DataObject) -> None:
    beginning = begun(1000)
    behind = drawn.draw(st.sampled_from([b"", b"0", b"3\r\n\r\n\r\r\n", LAST[:-1]]))
    for piece in pieces(drawn, before + HEAD + behind):
        assert not beginning.add(piece)
    end = beginning.chunked_end()
    assert end is not None
    assert not end.is_clean
    rest = {b"0": LAST[1:], LAST[:-1]: b"\n"}.get(behind, LAST)
    is_clean = []
    for piece in (rest, b"\r"):
        end.feed(piece)
        is_clean.append(end.is_clean)
    assert is_clean == [True, False]


@pytest.mark.parametrize(
    ("behind", "is_clean"),
    [
        (b"", False),
        (LAST, True),
        (b"1\r\nx\r\n" + LAST, True),
        (b"0\r\nA: b\r\n\r\n", False),
        (LAST + b"G", False),
    ],
)
def test_what_came_with_the_head_is_followed(behind: bytes, *, is_clean: bool) -> None:
    beginning = begun(1000)
    beginning.add(HEAD + behind)
    end = beginning.chunked_end()
    assert end is not None
    assert end.is_clean is is_clean


def test_nobody_tells_where_chunks_end_whose_head_began_in_the_middle_of_a_piece() -> None:
    assert RequestBytes(100).chunked_end() is None, "nothing has begun"
    beginning = begun(is_all=False)
    beginning.add(HEAD + LAST)
    assert beginning.chunked_end() is None


def test_what_begins_anew_knows_nothing_of_what_was() -> None:
    beginning = begun(100)
    assert not beginning.add(HEAD + b"5\r\n")
    beginning.begin(is_all=True)
    assert not beginning.add(b"\r\n" + HEAD)
    end = beginning.chunked_end()
    assert end is not None
    end.feed(LAST)
    assert end.is_clean
    beginning.begin(is_all=True)
    assert not beginning.add(b"x" * 100)
    assert beginning.add(b"x")
