"""docs/dispatchers.md: its table leads to its sections, its programs are those that run, its settings fit."""

import re
from pathlib import Path

import pytest

from proxy.control.config import load
from proxy.core.https import HttpsMode
from proxy.core.policies import Policies
from proxy.core.policy import OpenAction, Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "dispatchers.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("\n## ")[0]
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))

# After how many seconds each gives up, by the table; Celery and BullMQ by the program in their section.
PATIENCE_S = {"Convoy": 10, "Svix": 30, "Hookdeck Outpost": 5, "Celery": 10, "BullMQ": 10}


def examples(section: str, folder: Path) -> list[Settings]:
    found = []
    for number, text in enumerate(re.findall(r"```yaml\n(version: 1\n.*?)```", SECTIONS[section], re.DOTALL)):
        file = folder / f"{number}.yaml"
        file.write_text(text)
        found.append(load(file, {}, {}))
    return found


def test_every_row_leads_to_a_section() -> None:
    named = re.findall(r"^\| \[([^]]+)\]\(#([a-z-]+)\)", TABLE, re.MULTILINE)
    assert {name for name, _ in named} < SECTIONS.keys()
    assert all(anchor == name.lower().replace(" ", "-") for name, anchor in named)
    assert len(named) == len(re.findall(r"^\| ", TABLE, re.MULTILINE)) - 1


@pytest.mark.parametrize("path", ["tests/system/python/webhooks.py", "tests/system/node/deliver.mjs"])
def test_its_programs_are_those_that_run(path: str) -> None:
    (shown,) = re.findall(rf"<!-- {path} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert shown == (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("section", PATIENCE_S)
def test_the_proxy_gives_up_before_the_dispatcher(section: str, tmp_path: Path) -> None:
    for settings in examples(section, tmp_path):
        policy = Policies(settings).of("hooks.example.com", 443)
        timeouts = policy.timeouts
        assert timeouts.connect + timeouts.tls + timeouts.head < PATIENCE_S[section]
        assert 0 < policy.circuit.abandoned_after < PATIENCE_S[section] / 2


@pytest.mark.parametrize("section", PATIENCE_S)
def test_for_how_long_the_dispatcher_waits(section: str) -> None:
    patience_s = PATIENCE_S[section]
    rows = [row for row in TABLE.splitlines() if row.startswith(f"| [{section}]")]
    for row in rows:
        told = f"| {patience_s} s |" in row
        programmed = re.search(rf"timeout(={patience_s}\b|: {patience_s}_000\b)", SECTIONS[section])
        assert told or ("| your timeout |" in row and programmed)


@pytest.mark.parametrize("section", [name for name in SECTIONS if "```yaml\nversion: 1" in SECTIONS[name]])
def test_the_mode_is_that_of_the_table(section: str, tmp_path: Path) -> None:
    rows = [row for row in TABLE.splitlines() if row.startswith(f"| [{section}]")]
    for row, settings in zip(rows, examples(section, tmp_path), strict=True):
        policy = Policies(settings).of("hooks.example.com", 443)
        mode = re.findall(r"`https: (\w+)`", row)[0]
        assert policy.https is HttpsMode(mode)
        closes = "`open_action: close`" in row
        assert policy.open_action is (OpenAction.CLOSE if closes else OpenAction.RESPOND)
