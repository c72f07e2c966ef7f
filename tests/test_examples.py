"""Every configuration in the README and the documents is one that the program takes."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from proxy.control.config import load
from proxy.core.policy import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# `name` is a key of others' files as well.
SECTIONS = {field.name for field in fields(Settings)} - {"name"}


def configurations(page: Path) -> Iterator[tuple[int, str]]:
    """The examples of a page that are for the program, with their lines; not manifests, nor others' files."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        example = block[1]
        line = text.count("\n", 0, block.start()) + 1
        for document in yaml.safe_load_all(example):
            if document.get("kind") == "ConfigMap" and "config.yaml" in document["data"]:
                yield line, document["data"]["config.yaml"]
        if example.startswith("version: 1\n") or SECTIONS & next(yaml.safe_load_all(example)).keys():
            yield line, example


EXAMPLES = [
    pytest.param(text, id=f"{page.name}:{line}") for page in PAGES for line, text in configurations(page)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_loads(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    load(file, {}, {})


def test_examples_are_told_from_the_files_of_others(tmp_path: Path) -> None:
    ours = "circuit: {open: 10s}\n", "version: 1\nmistyped: {}\n", "version: 1\nname: a\n"
    theirs = (
        "name: a\nservices: {}\n",
        "receivers: []\n",
        "apiVersion: v1\nkind: ConfigMap\ndata: {other: a}\n",
    )
    manifest = 'kind: ConfigMap\ndata: {config.yaml: "via: true"}\n'
    page = tmp_path / "page.md"
    page.write_text("".join(f"```yaml\n{text}```\n" for text in (*ours, *theirs, manifest)))
    assert [text for _, text in configurations(page)] == [*ours, "via: true"]


@pytest.mark.parametrize("name", ["README.md", "circuits.md", "dispatchers.md", "egress.md", "https.md"])
def test_these_pages_have_examples(name: str) -> None:
    assert [param for param in EXAMPLES if str(param.id).startswith(f"{name}:")]
