"""Reading the configuration again while the process runs: when, in what order, and what stays as it was.

It is read again on demand (SIGHUP), and when one of its files says something else: the file itself, or one
that the settings name. One reload at a time: what is asked for meanwhile is done once more behind it. First
everything is read and checked; only then are the new settings handed on, whole. A reload that fails changes
nothing, and the log, the metric and `/readyz` say so until one succeeds.

What each part makes of other settings is in its `configure`, which `Sidecar.adopt` calls.
"""

import asyncio
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from proxy.control import log
from proxy.control.config import ConfigError, load
from proxy.control.sections import Fault
from proxy.control.watch import Watch
from proxy.core.conflicts import conflicts
from proxy.core.https import Tls
from proxy.core.policy import Listen, Settings

# What is made once: sockets that are bound, a name that peers have seen, a CA that clients trust.
NEEDS_RESTART = (
    "name",
    "state_file",
    "defer.path",
    *(f"listen.{setting.name}" for setting in fields(Listen)),
    "intercept.directory",
    "intercept.private_directory",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the configuration comes from, the same at the start and at each reload.

    Attributes:
        path: of the file; None is none.
        environ: the environment.
        overrides: what the command line sets, by dotted key.
    """

    path: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Settings:
        """Reads and checks the configuration; see `config.load`.

        Raises:
            ConfigError: with all faults.
        """
        return load(self.path, self.environ, self.overrides)

    def load_again(self) -> Settings:
        """As `load`, but not from a pipe: what it held is gone, and more of it may never come.

        Raises:
            ConfigError: with all faults.
        """
        is_other = False
        # What is missing is told by `load`.
        with suppress(OSError):
            is_other = self.path is not None and not stat.S_ISREG(self.path.stat().st_mode)
        if is_other:
            fault = Fault(str(self.path), None, "", "cannot be read again: it is not a regular file")
            raise ConfigError([fault])
        return self.load()


class Reloading:
    """Reads the configuration at the start, and again when it is asked to or when a file changes.

    Args:
        sources: of the configuration.

    Attributes:
        succeeded: whether the last reload did; True before the first.
    """

    def __init__(self, sources: Sources | None = None) -> None:
        self.succeeded = True
        self._sources = sources or Sources()
        # Before the file is read for the first time: what is written in between is a change.
        self._watch = Watch(self._files())
        self._in_force = Settings()
        self._adopt: Callable[[Settings], Awaitable[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False
        self._is_over = False
        self._told: list[Fault] = []

    @property
    def is_idle(self) -> bool:
        """Whether no reload is under way."""
        return self._task is None

    def load(self) -> Settings:
        """Reads the configuration for the first time.

        Raises:
            ConfigError: with all faults.
        """
        self._in_force = self._sources.load()
        # Before anybody reads them: what is written in between is a change.
        self._watch.follow(self._watched(self._in_force))
        return self._in_force

    def start(self, adopt: Callable[[Settings], Awaitable[None]]) -> None:
        """Reloads from now on; at once, if it was asked to meanwhile.

        Args:
            adopt: goes on with other settings, wholly or not at all; raises ConfigError.
        """
        self._adopt = adopt
        if self._is_asked:
            self._begin()

    def ask(self) -> None:
        """Wants a reload, whether a file has changed or not; one does for all who ask before it begins."""
        if self._is_over:
            _ignored()
            return
        self._is_asked = True
        self._begin()

    def look(self, now: float) -> None:
        """Begins a reload if a file may have changed; `now` is monotonic seconds."""
        # While one is under way nothing is looked at, so that what changes meanwhile is seen behind it.
        can_begin = self._task is None and self._adopt is not None and not self._is_over
        if can_begin and self._watch.has_changed(now):
            self._begin()

    async def close(self) -> None:
        """Reloads no more; one that has not been handed on yet is given up."""
        self._is_over = True
        if self._task is not None:
            _ignored()
            self._task.cancel()
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        if self._task is None and self._adopt is not None:
            self._task = asyncio.get_running_loop().create_task(self._reload(self._adopt), name="reload")
            self._task.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._task = None
        if self._is_asked and not self._is_over:
            self._begin()

    async def _reload(self, adopt: Callable[[Settings], Awaitable[None]]) -> None:
        is_asked, self._is_asked = self._is_asked, False
        try:
            has_changed = await asyncio.to_thread(self._watch.read)
            if not (is_asked or has_changed):
                return
            wanted = await asyncio.to_thread(self._read_again)
            settings = self._with_what_stays(wanted)
            await adopt(settings)
        except ConfigError as error:
            self.succeeded = False
            # What looks at a file each second need not tell each second.
            if is_asked or error.faults != self._told:
                told = [str(fault) for fault in error.faults]
                log.logger().warning("configuration not reloaded", faults=told)
            self._told = error.faults
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not end the traffic, nor go unseen
            self.succeeded = False
            log.logger().error("configuration not reloaded", exc_info=error)
        else:
            self.succeeded = True
            self._told = []
            self._tell(settings, wanted)
            self._in_force = settings
            self._watch.follow(self._watched(settings))

    def _read_again(self) -> Settings:
        settings = self._sources.load_again()
        # A file with tokens is watched by whoever uses it; but one that makes the reload fail may be mended.
        tokens = (settings.admin.token_file, self._in_force.listen.credentials_file)
        # Before anybody reads them, as above.
        self._watch.follow((*self._watched(settings), *(path for path in tokens if path is not None)))
        return settings

    def _watched(self, settings: Settings) -> Iterator[str]:
        yield from self._files()
        yield from named_files(settings)

    def _files(self) -> tuple[str, ...]:
        return () if self._sources.path is None else (str(self._sources.path),)

    def _with_what_stays(self, wanted: Settings) -> Settings:
        """The settings with what needs a restart as it was.

        Raises:
            ConfigError: together they cannot be used.
        """
        settings = kept(wanted, self._in_force)
        if settings != wanted:
            source = str(self._sources.path or "defaults")
            faults = [
                Fault(source, None, key, f"{wrong} (what needs a restart is as it was)")
                for key, wrong in conflicts(settings)
            ]
            if faults:
                raise ConfigError(faults)
        return settings

    def _tell(self, settings: Settings, wanted: Settings) -> None:
        before = self._in_force
        changed = [
            section.name
            for section in fields(Settings)
            if getattr(settings, section.name) != getattr(before, section.name)
        ]
        log.logger().info("configuration reloaded", changed=changed)
        if not {"egress", "upstreams", "routes"}.isdisjoint(changed):
            log.egress(settings)
        if not {"intercept", "upstreams"}.isdisjoint(changed):
            log.https(settings)
        for key in NEEDS_RESTART:
            if (now := _at(settings, key)) != (asked := _at(wanted, key)):
                log.logger().warning(
                    "setting not changed: it needs a restart",
                    key=key,
                    in_force=_shown(now),
                    wanted=_shown(asked),
                )


def kept(wanted: Settings, before: Settings) -> Settings:
    """The settings that are wanted, but with what needs a restart as before."""
    settings = wanted
    for key in NEEDS_RESTART:
        section, _, name = key.partition(".")
        value = _at(before, key)
        if name:
            value = replace(getattr(settings, section), **{name: value})
        settings = replace(settings, **{section: value})
    return settings


def named_files(settings: Settings) -> Iterator[str]:
    """The files that the settings name, but for those with tokens, which are watched by themselves."""
    for upstream in settings.upstreams:
        tls = upstream.tls.onto(Tls())
        yield from (path for path in (tls.ca, tls.client_cert, tls.client_key) if path is not None)
    yield from settings.intercept.extra_roots


def _at(settings: Settings, key: str) -> Any:
    found: Any = settings
    for name in key.split("."):
        found = getattr(found, name)
    return found


def _shown(value: object) -> str | None:
    return None if value is None else str(value)


def _ignored() -> None:
    log.logger().info("reload ignored: draining")
