"""The process: it reads the configuration, runs one `Sidecar`, and ends it when it is told to."""

import asyncio
import gc
import signal

from proxy.app import Sidecar
from proxy.control import log
from proxy.control.reload import Reloading, Sources
from proxy.wire.descriptors import raise_limit

# The signals that end the process.
ENDINGS = (signal.SIGTERM, signal.SIGINT)
# An exchange leaves no cyclic garbage behind, so there is little to find; by default it would be looked for
# with every tenth request, among all that 64 clients have under way.
_GC_THRESHOLDS = (10_000, 20, 50)


async def run(sources: Sources) -> None:
    """Runs until SIGTERM or SIGINT; a second one ends it at once. SIGHUP reloads the configuration.

    Raises:
        ConfigError: the configuration cannot be used, or a file that it names.
        ListenError: an address is in use or is not ours.
    """
    reloading = Reloading(sources)
    stopping = asyncio.Event()
    at_once = asyncio.Event()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    settings = reloading.load()
    # Not before: the loop does not turn while that reads, and what it reads may never come.
    for number in ENDINGS:
        loop.add_signal_handler(number, stop)
    log.configure(settings.log)
    sidecar = Sidecar(settings, reloading=reloading, available=raise_limit())
    await sidecar.start()
    # What has been built so far stays for ever: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    log.started(sidecar.name, sidecar.addresses)
    log.egress(settings)
    log.https(settings)
    await stopping.wait()
    log.draining(sidecar.settings.drain.timeout)
    draining = asyncio.create_task(sidecar.drain())
    forced = asyncio.create_task(at_once.wait())
    await asyncio.wait((draining, forced), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, forced):
        task.cancel()
    await sidecar.stop()
    for number in ENDINGS:
        # It has ended: one more must not make its exit code that of a process which was killed.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    log.stopped()
