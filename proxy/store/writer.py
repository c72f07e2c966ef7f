"""The one thread that works on the file, with one commit for all who wait: one sync of the disk serves them.

Whoever asks gets a future of the event loop, and the file is never touched from there: a disk that is slow,
or does not answer at all, delays nobody but those who store. What fails, fails for all of one transaction.
Then the file is closed and opened anew, about once in a second, until that works; whoever asks meanwhile is
told at once.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from proxy.core.deferred import UNAVAILABLE, NotStoredError
from proxy.store.damage import is_damage, put_aside, rescue
from proxy.store.file import DeferredFile

Result = TypeVar("Result")

# So many asked for in one transaction; the next one begins as soon as it is durable.
_MOST_AT_ONCE = 512
# So many wait at most: a disk that does not answer must not fill the memory.
MOST_WAITING = 4096
_AGAIN_S = 1.0
# So much is tried at most when it is opened again.
_MOST_TRIED = 1024 * 1024


class _Job(NamedTuple):
    work: Callable[[DeferredFile], Any]
    future: "asyncio.Future[Any]"


class Writer:
    """Works on the file; make it inside a running loop.

    Args:
        path: of the file.
        opened: told on the loop when the file is open: with what `look` found in it, and what has happened to
            a damaged one, for people, or None.
        look: asked once the file is open, in the thread.
        failed: told on the loop, for people, why nothing can be stored; once until it is open again.
    """

    def __init__(
        self,
        path: Path,
        *,
        look: Callable[[DeferredFile], Result],
        opened: Callable[[Result, str | None], None],
        failed: Callable[[str], None],
    ) -> None:
        self._path = path
        self._look = look
        self._opened = opened
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_ending = False
        self._file: DeferredFile | None = None
        self._fault: str | None = None
        # For how many bytes there was no room when it was closed.
        self._needed = 0
        self._tried = asyncio.Event()
        # A daemon: a disk that does not answer must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="deferred requests", daemon=True)

    async def start(self) -> None:
        """Opens the file, or finds that it cannot be; the thread goes on trying then."""
        self._thread.start()
        await self._tried.wait()

    async def stop(self, patience_s: float) -> None:
        """Does what was asked for so far, and closes the file.

        Args:
            patience_s: for how long it waits for a disk that does not answer.
        """
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, patience_s)

    def ask(self, work: Callable[[DeferredFile], Result]) -> "asyncio.Future[Result]":
        """Has something done with the file; the future is done when that is durable.

        Raises:
            NotStoredError: too many wait already.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        with self._changed:
            if self._is_ending:
                raise NotStoredError(UNAVAILABLE, "it is closed")
            if len(self._jobs) >= MOST_WAITING:
                raise NotStoredError(UNAVAILABLE, "the disk is too slow: too many requests wait for it")
            self._jobs.append(_Job(work, future))
            self._changed.notify()
        return future

    # In the thread.

    def _run(self) -> None:
        while True:
            if self._file is None:
                self._open()
            with self._changed:
                while not self._jobs and not self._is_ending:
                    if not self._changed.wait(None if self._file is not None else _AGAIN_S):
                        break
                jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MOST_AT_ONCE))]
                is_over = self._is_ending and not jobs
            if is_over:
                break
            if jobs:
                self._do(jobs)
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        told = None
        try:
            try:
                file = DeferredFile(self._path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                aside = put_aside(self._path)
                file = DeferredFile(self._path)
                rescued = rescue(aside, file)
                told = f"{self._path} was damaged ({error}); it is {aside.name} now, {rescued} rescued"
            found = self._found(file)
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            return
        self._file, self._fault = file, None
        self._call(self._opened, found, told or file.lost)
        self._call(self._tried.set)

    def _found(self, file: DeferredFile) -> Any:
        try:
            if self._needed:
                file.ensure_room(self._needed)
            self._needed = 0
            return self._look(file)
        except sqlite3.Error:
            file.close()
            raise

    def _fail(self, error: Exception) -> None:
        fault = f"{self._path}: {_why(error)}"
        if fault != self._fault:
            self._fault = fault
            self._call(self._failed, fault)
        self._call(self._tried.set)

    def _do(self, jobs: list[_Job]) -> None:
        file = self._file
        if file is None:
            self._refuse(jobs)
            return
        try:
            file.begin()
            results = [job.work(file) for job in jobs]
            file.commit()
        except sqlite3.Error as error:
            # What the transaction had done so far is undone as the file is closed.
            self._file = None
            self._needed = min(file.added_bytes, _MOST_TRIED)
            file.close()
            self._fail(error)
            self._refuse(jobs)
            return
        self._call(_settle, jobs, results)

    def _refuse(self, jobs: list[_Job]) -> None:
        self._call(_refuse, jobs, self._fault or "the file is closed")

    def _call(self, told: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(told, *values)
        except RuntimeError:
            # The loop is gone, and with it everybody who could be told.
            self._is_ending = True


def _settle(jobs: list[_Job], results: list[object]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if not job.future.done():
            job.future.set_result(result)


def _refuse(jobs: list[_Job], why: str) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(NotStoredError(UNAVAILABLE, why))


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return "another process has it"
    return str(error)
