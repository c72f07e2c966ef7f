"""What a client sends of a request, followed beside aiohttp's parser where that does not tell enough.

It bounds the fields of a head and their number, but not their sum, and reads on for as long as that takes. It
parses chunks, hides the trailers behind them, and takes the last of those for the first field of the next
request on the connection: so that no request gets another one's fields, it must be known here where chunks
end.
"""

_LINE_ENDS = b"\r\n"
_END_OF_HEAD = b"\r\n\r\n"
# More of a line than this tells nothing: a size, and what may stand behind it.
_LONGEST_LINE = 64


class RequestBytes:
    """The beginning of a request: its head, and what has come behind that so far.

    Args:
        max_bytes: of a head that is not whole yet.
    """

    __slots__ = ("_is_all", "_left", "_max_bytes", "_sent")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.begin(is_all=False)

    def begin(self, *, is_all: bool) -> None:
        """Begins anew.

        Args:
            is_all: whether the head begins with the next piece, and not in the middle of an earlier one.
        """
        # One run of bytes: as objects of their own, pieces of a few bytes would take far more than they hold.
        self._sent: bytes | bytearray = b""
        # How much more there may be of it. Empty lines before it count, but are not kept.
        self._left = self._max_bytes
        self._is_all = is_all

    def add(self, piece: bytes) -> bool:
        """Takes what has come; returns whether that is too much for a head that is not whole."""
        self._left -= len(piece)
        if not self._sent:
            # RFC 9112 section 2.2: empty lines before a request are ignored.
            self._sent = piece.lstrip(_LINE_ENDS)
        else:
            if isinstance(self._sent, bytes):
                self._sent = bytearray(self._sent)
            self._sent += piece
        return self._left < 0 and _END_OF_HEAD not in self._sent

    @property
    def is_one_line(self) -> bool:
        """Whether not even the request line is whole."""
        return b"\n" not in self._sent

    def chunked_end(self) -> "ChunkedEnd | None":
        """Follows the chunks behind the head; None if nobody can tell where they began."""
        if not self._is_all:
            return None
        end = ChunkedEnd()
        end.feed(bytes(self._sent.partition(_END_OF_HEAD)[2]))
        return end


class ChunkedEnd:
    """Follows chunked content (RFC 9112 section 7.1), while aiohttp's parser reads it.

    Attributes:
        is_clean: whether all that was fed is the whole content, without trailers, without a byte behind it.
    """

    __slots__ = ("_is_last", "_left", "_line", "is_clean")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._is_last = False
        self.is_clean = False

    def feed(self, sent: bytes) -> None:
        """Takes what the client has sent."""
        at = 0
        while at < len(sent):
            if self.is_clean or self._left < 0:
                # Behind the end, or past what can be understood: it will not be clean any more.
                self.is_clean = False
                self._left = -1
                return
            if self._left:
                step = min(self._left, len(sent) - at)
                self._left -= step
                at += step
                continue
            end = sent.find(b"\n", at)
            if len(self._line) < _LONGEST_LINE:
                self._line += sent[at : end if end >= 0 else len(sent)][:_LONGEST_LINE]
            if end < 0:
                return
            at = end + 1
            line, self._line = self._line, b""
            self._end_line(line.rstrip(b"\r"))

    def _end_line(self, line: bytes) -> None:
        if self._is_last:
            self.is_clean = not line
            self._left = 0 if self.is_clean else -1
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            self._left = -1
            return
        self._is_last = size == 0
        # The chunk and the end of the line behind it.
        self._left = size + 2 if size else 0
