"""curl, which makes its calls one after another over one connection if one command names them all."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.process import PATIENCE_S, Reply
from system.adapters import Answerless, Ask, Client

# Its exit codes.
TIMED_OUT = 28
TUNNEL_REFUSED = 56


@contextmanager
def curl(folder: Path, environ: Mapping[str, str], *options: str) -> Iterator[Client]:
    """A `Client` that runs curl with these options."""

    def run(*asks: Ask) -> list[Reply]:
        command = ["curl", "-q"]
        for number, ask in enumerate(asks):
            (folder / f"content-{number}").write_bytes(ask.content)
            (folder / f"answer-{number}").write_bytes(b"")
            command += ["--next"] if number else []
            command += ["-sS", *options, *_arguments(ask, folder, number)]
        done = subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * (1 + len(asks)),
            check=False,
        )
        if done.returncode == TIMED_OUT:
            raise TimeoutError
        # The head that refuses a tunnel is kept as any other.
        if done.returncode not in (0, TUNNEL_REFUSED):
            raise Answerless(done.stderr)
        return [_reply(ask, folder, number) for number, ask in enumerate(asks)]

    yield run


def _arguments(ask: Ask, folder: Path, number: int) -> list[str]:
    kept = ["-D", str(folder / f"heads-{number}"), "-o", str(folder / f"answer-{number}")]
    method = ["-I"] if ask.method == "HEAD" else ["-X", ask.method]
    content = ["--data-binary", f"@{folder}/content-{number}"] if ask.content else []
    # Of itself it expects "100 Continue" before it sends much.
    framing = {"whole": ["-H", "Expect:"], "chunked": ["-H", "Transfer-Encoding: chunked"], "expected": []}
    return [*kept, *method, *content, *framing[ask.framing], "-m", str(ask.timeout_s), ask.url]


def _reply(ask: Ask, folder: Path, number: int) -> Reply:
    # The last head is the answer's. Interim ones, or the tunnel's, may stand before it, trailers behind it.
    blocks = (folder / f"heads-{number}").read_text().split("\n\n")
    *others, head = (block for block in blocks if block.startswith("HTTP/"))
    status, *fields = head.splitlines()
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    interim = tuple(code for code in (int(other.split()[1]) for other in others) if code < 200)
    # What -I shows is the head once more.
    content = b"" if ask.method == "HEAD" else (folder / f"answer-{number}").read_bytes()
    return Reply(int(status.split()[1]), headers, content, interim)
