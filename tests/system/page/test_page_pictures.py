"""docs/page.md and README.md: their pictures of the page are there, small, and shown."""

import pytest
from support.process import ROOT

MOST_BYTES = 200_000


@pytest.mark.parametrize("name", ["light", "dark", "narrow"])
def test_a_picture_is_shown_and_small(name: str) -> None:
    picture = ROOT / "docs" / f"page-{name}.png"
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) < MOST_BYTES
    assert picture.name in (ROOT / "docs/page.md").read_text(encoding="utf-8")
