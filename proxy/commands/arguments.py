"""Arguments that several commands take, read strictly."""

from argparse import ArgumentTypeError

from proxy.commands.vocabulary import MOST_OF_A_NOTE, is_note

_MOST_LISTED = 1_000_000


def note(text: str) -> str:
    """An argument that is a note.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not is_note(text):
        raise ArgumentTypeError(f"expected one line of at most {MOST_OF_A_NOTE} printable characters")
    return text


def count(text: str) -> int:
    """An argument that says how many.

    Raises:
        ArgumentTypeError: it does not.
    """
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:8]) <= _MOST_LISTED:
        raise ArgumentTypeError(f"expected a whole number from 1 to {_MOST_LISTED}")
    return int(text)
