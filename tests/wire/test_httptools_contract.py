"""What httptools does, where the response parser (`wire/parser.py`) rests on it; an upgrade fails here first.

Each test names one fact. Where a fact is a weakness, the parser makes up for it; where it is a strength, the
parser leaves the work to llhttp.
"""

import httptools
import pytest
from support.heard import Heard, heard_of, made, refused

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
LENGTH, CODING = b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"
HUGE = 4 * 1024 * 1024


def test_the_parser_has_no_call_for_the_end_and_none_to_signal_head() -> None:
    _, parser = made()
    assert {name for name in dir(parser) if not name.startswith("_")} == {
        "feed_data",
        "get_http_version",
        "get_status_code",
        "set_dangerous_leniencies",
        "should_keep_alive",
        "should_upgrade",
    }


def test_an_answer_to_head_swallows_the_next_response_as_its_content() -> None:
    text = OK + b"Content-Length: 17\r\n\r\n"
    assert heard_of(text, OK).after_head() == [("content", OK), "end"]


def test_a_head_alone_never_completes_if_it_announces_content() -> None:
    assert heard_of(OK + b"Content-Length: 9\r\n\r\n").after_head() == []
    assert heard_of(CHUNKED).after_head() == []


def test_a_response_without_framing_goes_on_for_ever() -> None:
    heard = heard_of(OK + b"\r\n", b"a", b"0\r\n\r\n", OK)
    assert heard.content == b"a0\r\n\r\n" + OK
    assert "end" not in heard.calls


def test_feeding_nothing_is_no_end() -> None:
    assert heard_of(OK + b"\r\na", b"").after_head() == [("content", b"a"), ("content", b"")]


@pytest.mark.parametrize("behind", [b"x", b"\x15\x03\x03", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_an_error_behind_a_message_comes_after_its_completion(behind: bytes, close: bytes) -> None:
    heard = refused(OK + close + TWO + behind)
    assert heard.after_head()[:2] == [("content", b"ok"), "end"]


def test_a_second_message_behind_a_complete_one_is_parsed_by_the_same_parser() -> None:
    heard = heard_of(OK + TWO + b"HTTP/1.1 201 OK\r\n" + TWO)
    assert heard.calls.count("begin") == heard.calls.count("end") == 2
    assert heard.content == b"okok"


def test_a_field_value_is_unbounded_and_held_back_until_it_ends() -> None:
    heard, parser = made()
    parser.feed_data(OK + b"X: " + b"y" * HUGE)
    assert heard.fields == []
    parser.feed_data(b"\r\n" + TWO)
    assert heard.fields[0] == (b"X", b"y" * HUGE)


def test_the_number_of_fields_is_unbounded() -> None:
    assert len(heard_of(OK + b"X: y\r\n" * 10_000 + TWO).fields) == 10_001


@pytest.mark.parametrize(
    "before", [b"2;" + b"e" * HUGE, b"0" * HUGE + b"2"], ids=["a chunk extension", "zeros of a chunk size"]
)
def test_what_stands_before_a_chunk_is_unbounded_and_not_heard_of(before: bytes) -> None:
    heard, parser = made()
    parser.feed_data(CHUNKED + before)
    assert heard.after_head() == []
    parser.feed_data(b"\r\nok\r\n")
    assert heard.after_head() == ["chunk", ("content", b"ok")]


def test_empty_lines_before_a_response_are_unbounded_and_not_heard_of() -> None:
    assert heard_of(b"\r\n" * 100_000, b"\n\r" + OK + TWO).calls[0] == "begin"


@pytest.mark.parametrize("version", ["0.9", "1.0", "1.1", "2.0"])
def test_versions_that_it_accepts_and_tells(version: str) -> None:
    heard, parser = made()
    parser.feed_data(b"HTTP/%b 200 OK\r\n" % version.encode() + TWO)
    assert parser.get_http_version() == version
    assert heard.calls[-1] == "end"


@pytest.mark.parametrize("version", [b"1.2", b"3.0", b"1", b"11.1"])
def test_versions_that_it_refuses(version: bytes) -> None:
    assert "head" not in refused(b"HTTP/%b 200 OK\r\n" % version + TWO).calls


@pytest.mark.parametrize("protocol", [b"RTSP/1.0", b"ICE/1.0"])
def test_other_protocols_are_taken_for_http_1_0(protocol: bytes) -> None:
    heard, parser = made()
    parser.feed_data(protocol + b" 200 OK\r\n" + TWO)
    assert (parser.get_http_version(), heard.calls[-1]) == ("1.0", "end")


@pytest.mark.parametrize(("status", "says"), [(b"000", 0), (b"099", 99), (b"600", 600), (b"999", 999)])
def test_any_three_digits_are_a_status(status: bytes, says: int) -> None:
    heard, parser = made()
    parser.feed_data(b"HTTP/1.1 %b OK\r\n" % status + TWO)
    assert (parser.get_status_code(), heard.calls[-1]) == (says, "end")


@pytest.mark.parametrize("status", [b"99", b"2000", b"2x0", b"-20", b""])
def test_anything_else_is_no_status(status: bytes) -> None:
    assert "head" not in refused(b"HTTP/1.1 %b OK\r\n" % status + TWO).calls


@pytest.mark.parametrize("coding", [b"gzip", b"chunked, gzip", b"identity", b"xchunked", b"\x0bchunked"])
def test_a_coding_that_does_not_end_in_chunked_is_delimited_by_the_close(coding: bytes) -> None:
    heard = heard_of(OK + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding)
    assert heard.after_head() == [("content", b"0\r\n\r\n")]


@pytest.mark.parametrize("coding", [b"CHUNKED", b"gzip, chunked", b"chunked, chunked"])
def test_a_coding_that_ends_in_chunked_is_read_as_chunks(coding: bytes) -> None:
    heard = heard_of(OK + b"Transfer-Encoding: %b\r\n\r\n2\r\nok\r\n0\r\n\r\n" % coding)
    assert heard.after_head() == ["chunk", ("content", b"ok"), "chunk", "end"]


@pytest.mark.parametrize(
    "fields",
    [
        LENGTH + CODING,
        CODING + LENGTH,
        b"Transfer-Encoding: gzip\r\n" + LENGTH,
        LENGTH + LENGTH,
        LENGTH + b"content-length: 3\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: -2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: 2_0\r\n",
        b"Content-Length: 18446744073709551616\r\n",
    ],
)
def test_ambiguous_framing_is_refused_before_the_head_is_complete_even_with_leniencies(fields: bytes) -> None:
    assert "head" not in refused(OK + fields + b"\r\n").calls


def test_spaces_around_a_length_are_accepted_and_those_behind_it_kept() -> None:
    heard = heard_of(OK + b"Content-Length: \t 2 \t\r\n\r\nok")
    assert heard.fields == [(b"Content-Length", b"2 \t")]
    assert heard.after_head() == [("content", b"ok"), "end"]


def test_a_space_before_the_colon_is_refused_for_most_fields() -> None:
    for line in (b"X : 1\r\n", b"X Y: 1\r\n", b"X\t: 1\r\n"):
        assert "head" not in refused(OK + line + TWO).calls


@pytest.mark.parametrize(
    "field_line", [b"Content-Length : 2", b"Transfer-Encoding : chunked", b"Connection : close"]
)
def test_with_lenient_headers_a_space_before_the_colon_passes_in_the_fields_that_frame(
    field_line: bytes,
) -> None:
    heard = heard_of(OK + field_line + b"\r\n\r\n")
    name, _, value = field_line.partition(b": ")
    assert heard.fields == [(name, value)]
    assert name.endswith(b" ")
    assert "head" not in refused(OK + field_line + b"\r\n\r\n", lenient=False).calls


@pytest.mark.parametrize("line", [b": 1", b"X", b"\xe4: 1", b"X\0: 1"])
def test_malformed_field_names_are_refused(line: bytes) -> None:
    assert "head" not in refused(OK + line + b"\r\n" + TWO).calls


def test_lenient_headers_let_nul_and_controls_into_values() -> None:
    for byte in (b"\0", b"\x01", b"\x7f"):
        text = OK + b"X: a" + byte + b"b\r\n" + TWO
        assert heard_of(text).fields[0] == (b"X", b"a" + byte + b"b")
        assert "head" not in refused(text, lenient=False).calls


def test_bytes_beyond_ascii_pass_in_values_without_a_leniency() -> None:
    assert heard_of(OK + b"X: \xe4\xff\r\n" + TWO, lenient=False).fields[0] == (b"X", b"\xe4\xff")


def test_a_reason_phrase_holds_any_byte_but_cr_and_lf() -> None:
    heard = heard_of(b"HTTP/1.1 200 a\0\x01\xff\r\n" + TWO, lenient=False)
    assert heard.reason == b"a\0\x01\xff"
    assert "head" not in refused(b"HTTP/1.1 200 a\rb\r\n" + TWO).calls


def test_a_bare_cr_in_a_value_is_refused_even_with_leniencies() -> None:
    assert "head" not in refused(OK + b"X: a\rb\r\n" + TWO).calls


def test_a_bare_lf_ends_the_lines_of_a_head_with_a_leniency_only() -> None:
    text = b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"
    assert heard_of(text).after_head() == [("content", b"ok"), "end"]
    assert "head" not in refused(text, lenient=False).calls


def test_a_bare_lf_between_chunks_is_refused_even_with_leniencies() -> None:
    assert refused(CHUNKED + b"2\nok\n0\n\n").after_head() == []


def test_with_a_leniency_two_bare_lf_end_the_line_of_a_chunk_size() -> None:
    text = CHUNKED + b"2\n\nok\r\n0\r\n\r\n"
    assert heard_of(text).content == b"ok"
    assert refused(text, lenient=False).after_head() == []


def test_a_leniency_can_be_taken_back_with_the_head() -> None:
    class InHeads(Heard):
        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=False)

    heard = InHeads()
    parser = httptools.HttpResponseParser(heard)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(CHUNKED.replace(b"\r\n", b"\n") + b"2\n\nok\r\n0\r\n\r\n")
    assert heard.after_head() == []


def test_an_interim_response_that_says_close_is_the_last() -> None:
    assert refused(b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n" + OK + TWO).after_head() == ["end"]


@pytest.mark.parametrize("extension", [b"; a=b", b";a =b", b";a= b", b";a=b ", b";"])
def test_blanks_in_a_chunk_extension_are_refused(extension: bytes) -> None:
    assert refused(CHUNKED + b"2" + extension + b"\r\nok\r\n").content == b""


def test_a_length_among_trailers_is_refused() -> None:
    assert "end" not in refused(CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n").calls


def test_spaces_behind_a_chunk_size_pass_with_a_leniency_only() -> None:
    text = CHUNKED + b"2  \r\nok\r\n0\r\n\r\n"
    assert heard_of(text).content == b"ok"
    assert refused(text, lenient=False).after_head() == []


@pytest.mark.parametrize("size", [b"zz", b"-2", b"+2", b"0x2", b"", b"10000000000000000"])
def test_malformed_chunk_sizes_are_refused(size: bytes) -> None:
    assert refused(CHUNKED + size + b"\r\nok\r\n").after_head() == []


def test_a_folded_value_is_joined_with_its_spaces_with_a_leniency_only() -> None:
    text = OK + b"F: a\r\n  b\r\n" + TWO
    assert heard_of(text).fields[0] == (b"F", b"a  b")
    assert "head" not in refused(text, lenient=False).calls


def test_trailers_come_by_the_same_call_as_fields_behind_the_last_chunk() -> None:
    heard = heard_of(CHUNKED + b"2\r\nok\r\n0\r\nT: 1\r\nU: 2\r\n\r\n")
    assert heard.after_head() == ["chunk", ("content", b"ok"), "chunk", (b"T", b"1"), (b"U", b"2"), "end"]


def test_204_and_304_end_at_their_head_whatever_they_announce() -> None:
    for status in (b"204", b"304"):
        for framing in (LENGTH, CODING):
            heard = heard_of(b"HTTP/1.1 %b \r\n" % status + framing + b"\r\n")
            assert heard.after_head() == ["end"]


def test_an_interim_response_is_a_whole_message_before_the_final_one() -> None:
    heard = heard_of(b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" + OK + TWO)
    assert heard.calls[:5] == ["begin", ("reason", b"E"), (b"Link", b"a"), "head", "end"]
    assert heard.calls[5] == "begin"


@pytest.mark.parametrize("status", [b"100", b"102", b"103"])
def test_the_interims_that_it_knows_end_at_their_head_whatever_they_announce(status: bytes) -> None:
    for framing in (LENGTH, CODING):
        assert heard_of(b"HTTP/1.1 %b \r\n" % status + framing + b"\r\n").after_head() == ["end"]


@pytest.mark.parametrize("status", [b"104", b"110", b"199"])
def test_the_interims_that_it_does_not_know_get_the_content_they_announce(status: bytes) -> None:
    head = b"HTTP/1.1 %b \r\n" % status
    assert heard_of(head + TWO).after_head() == [("content", b"ok"), "end"]
    assert heard_of(head + CODING + b"\r\n2\r\nok\r\n0\r\n\r\n").content == b"ok"
    assert heard_of(head + b"\r\n").after_head() == ["end"]


@pytest.mark.parametrize("framing", [b"", LENGTH, CODING], ids=["none", "length", "chunked"])
def test_a_101_stops_the_parser_and_tells_where_the_raw_bytes_begin(framing: bytes) -> None:
    head = b"HTTP/1.1 101 S\r\n" + UPGRADE + framing + b"\r\n"
    for behind in (b"", b"raw"):
        heard, parser = made()
        with pytest.raises(httptools.HttpParserUpgrade) as raised:
            parser.feed_data(head + behind)
        assert raised.value.args == (len(head),)
        assert heard.after_head() == ["end"]


def test_the_upgrade_is_no_parser_error() -> None:
    assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)


def test_a_101_without_upgrade_fields_is_an_error_behind_its_completion() -> None:
    assert refused(b"HTTP/1.1 101 S\r\n\r\n").after_head() == ["end"]


@pytest.mark.parametrize("status", [b"200", b"426"])
def test_upgrade_fields_on_any_other_status_change_nothing(status: bytes) -> None:
    heard = heard_of(b"HTTP/1.1 %b OK\r\n" % status + UPGRADE + TWO)
    assert heard.after_head() == [("content", b"ok"), "end"]


def test_names_and_values_come_whole_but_the_phrase_and_content_in_pieces() -> None:
    text = b"HTTP/1.1 200 Ok\r\nAb: cd\r\n" + TWO
    heard = heard_of(*[bytes([byte]) for byte in text])
    assert heard.fields == [(b"Ab", b"cd"), (b"Content-Length", b"2")]
    assert heard.reason == b"Ok"
    assert [call for call in heard.calls if call[0] == "reason"][:2] == [("reason", b"O"), ("reason", b"k")]
    assert heard.after_head() == [("content", b"o"), ("content", b"k"), "end"]


def test_an_exception_in_a_call_becomes_a_parser_error() -> None:
    class Fails(Heard):
        def on_headers_complete(self) -> None:
            raise ValueError

    parser = httptools.HttpResponseParser(Fails())
    with pytest.raises(httptools.HttpParserCallbackError) as raised:
        parser.feed_data(OK + TWO)
    assert isinstance(raised.value, httptools.HttpParserError)
    assert isinstance(raised.value.__context__, ValueError)


def test_an_error_is_final() -> None:
    heard, parser = made()
    for text in (OK + b"X\r\n", OK + TWO, OK + TWO):
        with pytest.raises(httptools.HttpParserError):
            parser.feed_data(text)
    assert "head" not in heard.calls
