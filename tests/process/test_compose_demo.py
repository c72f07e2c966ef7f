"""What compose.yaml plays: its dispatcher and its upstreams, with the proxy by its file, as processes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import pytest
import yaml
from support.process import CLOSED, HALF_OPEN, OPEN, ROOT, RunningProxy, environment, until

DEMO = ROOT / "deploy" / "compose"
# compose.yaml does all of this as slowly as people look.
FLAP_S, PATIENCE_S, TELL_EVERY_S = 1.0, 0.5, 0.2
# A line for each upstream each time: twenty seconds of them.
MANY_LINES = 300
QUICK = {"open": "500ms", "open_max": "500ms", "abandoned_after": "200ms"}


@contextmanager
def script(name: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A script of the demo, which has to end in order when it is told to."""
    process = subprocess.Popen(
        [sys.executable, DEMO / name, *arguments],
        env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
            process.terminate()
            _, errors = process.communicate()
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningProxy]:
    sections = yaml.safe_load((DEMO / "config.yaml").read_text(encoding="utf-8"))
    with RunningProxy(**sections | {"circuit": sections["circuit"] | QUICK}) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, str]]:
    """Their addresses, by what they do."""
    with ExitStack() as running:
        found = {}
        for kind in ("healthy", "flapping", "dead"):
            options = ("--host", "127.0.0.1", "--port", "0", "--flap", str(FLAP_S))
            process = running.enter_context(script("upstream.py", kind, *options))
            assert process.stdout is not None
            said = re.fullmatch(rf"{kind} upstream on port ([0-9]+)\n", process.stdout.readline())
            assert said is not None
            found[kind] = f"127.0.0.1:{said[1]}"
        yield found


@pytest.fixture(scope="module")
def dispatcher(proxy: RunningProxy, upstreams: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    urls = [f"http://{address}/" for address in upstreams.values()]
    without = {name: "" for name in os.environ if name.lower() in ("no_proxy", "all_proxy")}
    options = ("--patience", str(PATIENCE_S), "--tell-every", str(TELL_EVERY_S))
    with script("dispatcher.py", *urls, *options, http_proxy=proxy.url, **without) as process:
        yield process


def test_the_circuits_of_the_sick_open_and_that_of_the_healthy_does_not(
    proxy: RunningProxy, upstreams: dict[str, str], dispatcher: subprocess.Popen[str]
) -> None:
    until(lambda: proxy.state(upstreams["dead"]) == OPEN, "the dead one's circuit does not open")
    until(lambda: proxy.state(upstreams["flapping"]) == OPEN, "the flapping one's circuit does not open")
    until(lambda: proxy.state(upstreams["flapping"]) in (HALF_OPEN, CLOSED), "it is never tried again")
    assert proxy.state(upstreams["healthy"]) == CLOSED
    assert dispatcher.poll() is None


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("healthy", r"[0-9]+ x 200"),
        ("flapping", r".*[0-9]+ x 500"),
        ("dead", r".*[0-9]+ x no answer"),
        ("dead", r".*[0-9]+ x 503 circuit_open"),
    ],
)
def test_the_dispatcher_tells_what_it_is_answered(
    upstreams: dict[str, str], dispatcher: subprocess.Popen[str], kind: str, answer: str
) -> None:
    assert dispatcher.stdout is not None
    wanted = re.compile(rf"{re.escape(upstreams[kind])}: {answer}(,.*)?\n")
    assert any(wanted.fullmatch(line) for line in islice(dispatcher.stdout, MANY_LINES))
