"""What forwarding one request costs in CPU time, as a ratio to a plain aiohttp proxy.

    python bench/forward/bench_forward.py [--rounds 7] [--requests 10000] [--connections 64]

POSTs of 1 KiB over kept-alive connections. The proxies run side by side, pinned to the first core; load and
upstream have the last one. The rounds alternate between the proxies, so that the noise of the machine falls
on all, and the first round counts for none. CPU time is the kernel's account of a proxy's process, user and
system together (/proc/PID/schedstat), divided by the requests. A ratio is that of the medians.
"""

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from load import CONTENT_BYTES, drive
from processes import cpu_s, process

_HERE = Path(__file__).parent
_OURS = "breaker-proxy"
_SETTINGS = """
version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
egress: {addresses: any}
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    wanted = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        settings = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".yaml"))
        settings.write(_SETTINGS)
        settings.flush()

        def start(*command: str, core: int = cores[0]) -> tuple[int, int]:
            return stack.enter_context(process(*command, core=core))

        os.sched_setaffinity(0, {cores[-1]})
        _, upstream = start(str(_HERE / "upstream.py"), str(CONTENT_BYTES), core=cores[-1])
        plain = str(_HERE / "plain_proxy.py")
        proxies = {
            _OURS: start("-m", "proxy", "run", "--config", settings.name),
            "plain": start(plain),
            "plain on uvloop": start(plain, "--uvloop"),
        }
        spent: dict[str, list[float]] = {name: [] for name in proxies}
        for number in range(wanted.rounds + 1):
            for name, (pid, port) in proxies.items():
                before = cpu_s(pid)
                drive(port, upstream, wanted.requests, wanted.connections)
                if number:
                    spent[name].append((cpu_s(pid) - before) / wanted.requests * 1e6)
    medians = {name: statistics.median(each) for name, each in spent.items()}
    for name, each in spent.items():
        told = f"{name:16} {medians[name]:6.1f} us a request (from {min(each):.1f} to {max(each):.1f})"
        if name != _OURS:
            told += f"; {_OURS} costs {medians[_OURS] / medians[name]:.2f} of it"
        sys.stdout.write(told + "\n")


if __name__ == "__main__":
    main()
