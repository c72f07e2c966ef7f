"""Exchanges as they look at their end."""

from typing import Any

from proxy.core.exchange import Entry, Exchange


def ended(entry: Entry, method: str, started: float = 0.0, **facts: Any) -> Exchange:
    """An exchange of which these facts have become known."""
    exchange = Exchange(entry, method, started)
    for name, fact in facts.items():
        assert hasattr(exchange, name), name
        setattr(exchange, name, fact)
    return exchange
