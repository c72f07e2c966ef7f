"""A real Prometheus on loopback, and what is asked of it."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from support.process import get
from support.servers import serving

_LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')


class Prometheus:
    """One that runs.

    Attributes:
        at: the moment that questions are about, seconds since 1970; None: that in which they are asked.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.at: float | None = None

    def ask(self, path: str, **parameters: str) -> Any:
        """Asks its API, and takes the answer out of its envelope."""
        reply = get(self._port, f"/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(reply.content)
        assert answer["status"] == "success", (path, parameters, answer)
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an expression, each as its labels and its value."""
        when = {} if self.at is None else {"time": str(self.at)}
        found: list[dict[str, Any]] = self.ask("query", query=expr, **when)["result"]
        return found

    def values(self, expr: str) -> list[float]:
        """The values of an expression."""
        return [float(series["value"][1]) for series in self.query(expr)]

    def labels(self, label: str, selector: str) -> list[str]:
        """The values of a label in what a selector finds."""
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": selector})
        return found


@contextmanager
def prometheus(config: Mapping[str, Any], folder: Path) -> Iterator[Prometheus]:
    """Runs one with this configuration, which keeps its data in the folder and listens on loopback only."""
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(dict(config)))
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with serving(command, log) as server:
        # What it says first is whole once it says what comes behind.
        server.until(lambda: "Server is ready" in server.said)
        listening = _LISTENING.search(server.said)
        assert listening is not None, server.said
        yield Prometheus(int(listening[1]))
