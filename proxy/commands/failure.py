"""Why a command cannot do what it was asked for."""


class Failed(Exception):
    """It could not be done; the text says why, and what to do about it. Exit code 1."""


class Misused(Exception):
    """It was asked for in a way that means nothing; the text says what was expected. Exit code 2."""


class Refused(Failed):
    """The proxy says no.

    Args:
        text: for people.
        detail: the proxy's own words in it.
        status: of its answer.
        reason: its word for programs (docs/api.md).
    """

    def __init__(self, text: str, detail: str, status: int, reason: str) -> None:
        super().__init__(text)
        self.detail = detail
        self.status = status
        self.reason = reason
