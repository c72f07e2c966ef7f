"""When the configuration is read again, in what order, and what becomes of the faults."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs
from support.turns import until

from proxy.control.config import ConfigError
from proxy.control.reload import NEEDS_RESTART, Reloading, Sources, kept, named_files
from proxy.control.sections import Fault
from proxy.core.host_pattern import HostPattern
from proxy.core.https import Intercept
from proxy.core.overlay import Overlay
from proxy.core.policy import Admin, Endpoint, Listen, Settings, Upstream

RELOADED, NOT_RELOADED = "configuration reloaded", "configuration not reloaded"


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("via: true\n")
    return file


def write(path: Path, text: str) -> None:
    path.write_text(text)


class Adopting:
    """Takes settings, unless it is told not to."""

    def __init__(self) -> None:
        self.adopted: list[Settings] = []
        self.refuses: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, settings: Settings) -> None:
        await self.go.wait()
        if self.refuses is not None:
            raise self.refuses
        self.adopted.append(settings)


class Rig:
    """A process's reloads, with a clock in hand."""

    def __init__(self, path: Path, **overrides: str) -> None:
        self._path = path
        self.reloading = Reloading(Sources(path, {}, overrides))
        self.first = self.reloading.load()
        self.adopting = Adopting()
        self.now = 0.0

    def start(self) -> None:
        self.reloading.start(self.adopting)

    def write(self, text: str | None) -> None:
        """Writes the file; None takes it away."""
        self._path.unlink(missing_ok=True)
        if text is not None:
            self._path.write_text(text)

    async def look(self, seconds: int = 1) -> None:
        """Lets so much time pass, a look each second."""
        for _ in range(seconds):
            self.now += 1
            self.reloading.look(self.now)
            await self.settled()

    async def settled(self) -> None:
        await until(lambda: self.reloading.is_idle)


@pytest.fixture
def rig(path: Path) -> Rig:
    made = Rig(path)
    made.start()
    return made


async def test_a_file_that_stays_is_not_reloaded(rig: Rig, logs: list[Any]) -> None:
    await rig.look(5)
    assert (rig.adopting.adopted, logs, rig.reloading.succeeded) == ([], [], True)


async def test_a_file_that_changes_is_reloaded_once(rig: Rig, logs: list[Any]) -> None:
    await rig.look(3)
    rig.write("via: false\n")
    await rig.look(5)
    assert rig.adopting.adopted == [Settings(via=False)]
    assert logs == [{"event": RELOADED, "log_level": "info", "changed": ["via"]}]


async def test_what_is_written_while_it_starts_is_seen(path: Path) -> None:
    rig = Rig(path)
    rig.write("via: false\n")
    rig.start()
    await rig.look()
    assert rig.adopting.adopted == [Settings(via=False)]


async def test_who_asks_gets_a_reload_though_nothing_has_changed(rig: Rig, logs: list[Any]) -> None:
    rig.reloading.ask()
    await rig.settled()
    assert rig.adopting.adopted == [Settings()]
    assert logs == [{"event": RELOADED, "log_level": "info", "changed": []}]


async def test_who_asks_before_the_start_gets_it_then(path: Path) -> None:
    rig = Rig(path)
    rig.reloading.ask()
    rig.reloading.ask()
    assert rig.reloading.is_idle
    rig.start()
    await rig.settled()
    assert rig.adopting.adopted == [Settings()]


async def test_all_who_ask_during_a_reload_get_one_more(rig: Rig) -> None:
    rig.adopting.go.clear()
    rig.reloading.ask()
    await asyncio.sleep(0)
    for _ in range(5):
        rig.reloading.ask()
    rig.write("via: false\n")
    rig.adopting.go.set()
    await rig.settled()
    assert len(rig.adopting.adopted) == 2
    assert rig.adopting.adopted[-1] == Settings(via=False)


async def test_who_asks_in_the_moment_in_which_a_reload_ends_gets_another(rig: Rig) -> None:
    async def once_more(settings: Settings) -> None:
        rig.adopting.adopted.append(settings)
        if len(rig.adopting.adopted) < 3:
            # Behind the last step of the reload, before its end is told.
            asyncio.get_running_loop().call_soon(rig.reloading.ask)

    rig.reloading.start(once_more)
    rig.reloading.ask()
    await until(lambda: len(rig.adopting.adopted) == 3)
    await rig.settled()


async def test_nothing_is_looked_at_during_a_reload(rig: Rig) -> None:
    rig.adopting.go.clear()
    rig.reloading.ask()
    await until(lambda: not rig.reloading.is_idle)
    rig.write("via: false\n")
    rig.reloading.look(10.0)
    rig.adopting.go.set()
    await rig.settled()
    rig.now = 20.0
    await rig.look(2)
    assert rig.adopting.adopted[-1] == Settings(via=False)


async def test_the_command_line_wins_on_reload_too(path: Path) -> None:
    rig = Rig(path, **{"log.level": "debug"})
    rig.start()
    rig.write("log: {level: error}\n")
    await rig.look()
    assert rig.adopting.adopted == [rig.first]


# Faults.


async def test_a_bad_file_is_told_once_with_all_its_faults(rig: Rig, path: Path, logs: list[Any]) -> None:
    rig.write("via: maybe\ncircuit: {open: soon}\n")
    await rig.look(5)
    assert (rig.adopting.adopted, rig.reloading.succeeded) == ([], False)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [(NOT_RELOADED, "warning")]
    assert [fault.split(": ")[:2] for fault in logs[0]["faults"]] == [
        [f"{path}:1", "via"],
        [f"{path}:2", "circuit.open"],
    ]
    # Another content with the same faults is no news.
    rig.write("via: maybe\ncircuit: {open: soon}\n# still\n")
    await rig.look(5)
    assert len(logs) == 1
    rig.write("via: true\n")
    await rig.look(5)
    assert rig.reloading.succeeded
    assert [entry["event"] for entry in logs] == [NOT_RELOADED, RELOADED]


async def test_who_asks_is_told_again(rig: Rig, logs: list[Any]) -> None:
    rig.write("via: maybe\n")
    await rig.look(3)
    rig.reloading.ask()
    await rig.settled()
    assert [entry["event"] for entry in logs] == [NOT_RELOADED] * 2


async def test_what_is_not_adopted_has_not_been_reloaded(rig: Rig, logs: list[Any]) -> None:
    rig.adopting.refuses = ConfigError([Fault("ca.pem", None, "upstreams.tls", "cannot be read")])
    rig.write("via: false\n")
    await rig.look(5)
    assert logs == [
        {
            "event": NOT_RELOADED,
            "log_level": "warning",
            "faults": ["ca.pem: upstreams.tls: cannot be read"],
        }
    ]
    rig.adopting.refuses = None
    rig.reloading.ask()
    await rig.settled()
    # Against what is in force, not against what could not be.
    assert logs[1:] == [{"event": RELOADED, "log_level": "info", "changed": ["via"]}]


async def test_a_fault_of_ours_is_told_and_ends_nothing(rig: Rig, logs: list[Any]) -> None:
    rig.adopting.refuses = fault = ZeroDivisionError("ours")
    rig.reloading.ask()
    await rig.settled()
    assert logs == [{"event": NOT_RELOADED, "log_level": "error", "exc_info": fault}]
    assert not rig.reloading.succeeded
    rig.adopting.refuses = None
    rig.reloading.ask()
    await rig.settled()
    assert rig.reloading.succeeded


async def test_a_file_that_goes_is_a_fault_and_one_that_comes_back_is_read(rig: Rig, logs: list[Any]) -> None:
    rig.write(None)
    await rig.look(4)
    rig.write("via: false\n")
    await rig.look(4)
    assert [entry["event"] for entry in logs] == [NOT_RELOADED, RELOADED]
    assert rig.adopting.adopted == [Settings(via=False)]


# The files that the settings name.


async def test_a_pipe_in_its_place_is_a_fault_and_not_waited_for(
    rig: Rig, path: Path, logs: list[Any]
) -> None:
    rig.write(None)
    os.mkfifo(path)
    for ask in (rig.reloading.ask, lambda: None):
        ask()
        await rig.look(3)
    told = [f"{path}: cannot be read again: it is not a regular file"]
    assert logs == [{"event": NOT_RELOADED, "log_level": "warning", "faults": told}]
    rig.write("via: false\n")
    await rig.look(3)
    assert rig.adopting.adopted == [replace(rig.first, via=False)]


async def test_a_file_that_the_settings_name_is_watched(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    path = tmp_path / "config.yaml"
    write(path, f"upstreams: [{{match: a, tls: {{ca: {ca}}}}}]\n")
    rig = Rig(path)
    rig.start()
    await rig.look(3)
    assert rig.adopting.adopted == []
    trustme.CA().cert_pem.write_to_path(str(ca))
    await rig.look(3)
    assert rig.adopting.adopted == [rig.first]
    # One that is named only now is watched from now on.
    other = tmp_path / "other.pem"
    rig.write(f"upstreams: [{{match: a, tls: {{ca: {other}}}}}]\n")
    await rig.look(3)
    trustme.CA().cert_pem.write_to_path(str(other))
    await rig.look(3)
    assert len(rig.adopting.adopted) == 3


@pytest.mark.parametrize("text", ["admin: {token_file: TOKENS}\n", "via: false\n"])
async def test_a_file_with_tokens_for_which_it_failed_is_watched_until_it_succeeds(
    tmp_path: Path, text: str
) -> None:
    tokens = tmp_path / "tokens"
    path = tmp_path / "config.yaml"
    write(path, "" if "TOKENS" in text else f"listen: {{credentials_file: {tokens}}}\n")
    rig = Rig(path)
    rig.start()
    rig.adopting.refuses = ConfigError([Fault(str(tokens), None, "", "cannot be read")])
    rig.write(text.replace("TOKENS", str(tokens)))
    await rig.look(3)
    assert rig.adopting.adopted == []
    rig.adopting.refuses = None
    tokens.write_text("now it is there")
    await rig.look(3)
    assert len(rig.adopting.adopted) == 1
    # From now on whoever uses them looks at them.
    tokens.write_text("and now it is another")
    await rig.look(3)
    assert len(rig.adopting.adopted) == 1


def test_all_the_files_that_settings_name() -> None:
    tls = {"ca": "ca", "client_cert": "cert", "client_key": "key"}
    upstreams = (
        Upstream(match=HostPattern("a"), tls=Overlay(tls)),
        Upstream(match=HostPattern("b"), tls=Overlay({"ca": "other"})),
        Upstream(match=HostPattern("c")),
    )
    settings = Settings(upstreams=upstreams, intercept=Intercept(extra_roots=("one", "two")))
    assert list(named_files(settings)) == ["ca", "cert", "key", "other", "one", "two"]


# What needs a restart.


def test_the_keys_are_settings() -> None:
    assert {key for key in NEEDS_RESTART if key.startswith("listen.")} == {
        f"listen.{setting.name}" for setting in fields(Listen)
    }
    assert kept(Settings(), Settings()) == Settings()


def test_the_state_file_is_kept_and_who_may_use_the_admin_port_is_not() -> None:
    admin = Admin(token_file="b")
    settings = kept(Settings(state_file="b.json", admin=admin), Settings(state_file="a.json"))
    assert settings == Settings(state_file="a.json", admin=admin)


def test_what_needs_a_restart_is_kept_and_the_rest_is_not() -> None:
    before = Settings(
        name="a",
        listen=Listen(proxy=Endpoint("127.0.0.1", 1), reverse=Endpoint("127.0.0.1", 2)),
        intercept=Intercept(directory="shared", private_directory="private"),
    )
    wanted = Settings(
        name="b",
        listen=Listen(open_relay=True, credentials_file="tokens"),
        intercept=Intercept(directory="other", extra_roots=("root",)),
        via=False,
    )
    assert kept(wanted, before) == Settings(
        name="a",
        listen=before.listen,
        intercept=Intercept(directory="shared", private_directory="private", extra_roots=("root",)),
        via=False,
    )


async def test_a_warning_tells_each_of_them(rig: Rig, logs: list[Any]) -> None:
    rig.write("name: other\nvia: false\nlisten: {credentials_file: tokens}\nintercept: {directory: shared}\n")
    await rig.look(3)
    assert rig.adopting.adopted == [replace(rig.first, via=False)]
    told = {"event": "setting not changed: it needs a restart", "log_level": "warning", "in_force": None}
    assert logs == [
        {"event": RELOADED, "log_level": "info", "changed": ["via"]},
        told | {"key": "name", "wanted": "other"},
        told | {"key": "listen.credentials_file", "wanted": "tokens"},
        told | {"key": "intercept.directory", "wanted": "shared"},
    ]


async def test_what_does_not_go_with_what_stays_is_a_fault(rig: Rig, path: Path, logs: list[Any]) -> None:
    """Routes that come together with the address that they are to be on, which needs a restart."""
    rig.write("listen: {reverse: '127.0.0.1:3130'}\nroutes: [{path: /a, upstream: 'http://a.example'}]\n")
    await rig.look(3)
    assert (rig.adopting.adopted, rig.reloading.succeeded) == ([], False)
    (fault,) = logs[0]["faults"]
    assert fault.startswith(f"{path}: routes: nobody listens for them: set listen.reverse")
    assert fault.endswith("(what needs a restart is as it was)")


async def test_rules_and_modes_are_told_where_they_are_others(rig: Rig, logs: list[Any]) -> None:
    rig.write("egress: {addresses: any}\n")
    await rig.look(2)
    rig.write("egress: {addresses: any}\nintercept: {exclude: [a]}\n")
    await rig.look(2)
    assert [entry["event"] for entry in logs] == [RELOADED, "egress", RELOADED, "https"]


# The end.


async def test_who_asks_at_the_end_is_refused(rig: Rig, logs: list[Any]) -> None:
    await rig.reloading.close()
    await rig.reloading.close()
    rig.write("via: false\n")
    rig.reloading.ask()
    await rig.look(3)
    assert rig.adopting.adopted == []
    assert logs == [{"event": "reload ignored: draining", "log_level": "info"}]


async def test_a_reload_under_way_is_given_up_at_the_end(rig: Rig, logs: list[Any]) -> None:
    rig.adopting.go.clear()
    rig.reloading.ask()
    rig.reloading.ask()
    await until(lambda: not rig.reloading.is_idle)
    await rig.reloading.close()
    assert rig.reloading.is_idle
    assert rig.adopting.adopted == []
    assert logs == [{"event": "reload ignored: draining", "log_level": "info"}]
