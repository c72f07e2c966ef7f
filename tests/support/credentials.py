"""A token of a client, its line in the file, and the field by which it is given."""

from base64 import b64encode
from hashlib import sha256

TOKEN = "token-_-token-_-token-_-token-_-token-_-012"
OTHER = TOKEN[:-1] + "3"


def line(name: str = "ci", token: str = TOKEN) -> str:
    """The line of a token, written here once more so that the product's is held against it."""
    return f"{name}:{sha256(token.encode()).hexdigest()}\n"


def field(name: str = "ci", token: str = TOKEN) -> str:
    """The field line that gives a token."""
    return "Proxy-Authorization: Basic " + b64encode(f"{name}:{token}".encode()).decode()
