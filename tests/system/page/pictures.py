"""Takes the pictures of docs/page.md: the page in light, in the dark and narrow, of a proxy on a bad day.

Run by `make page-pictures`, as root. It takes as long as the chart of the page reaches back.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect
from support.process import ROOT
from system.page.calling import asked
from system.page.chromium import Visitor, launched
from system.page.stage import NAMED_SICK, PROBED, staged, steer

DOCS = ROOT / "docs"
LASTS_S = 300
_WIDE = {"viewport": {"width": 1440, "height": 840}, "device_scale_factor": 1.5}
_NARROW = {"viewport": {"width": 380, "height": 800}, "device_scale_factor": 1.5}


def take(folder: Path, lasts_s: float) -> list[Path]:
    """Takes them; gives where they are."""
    with staged(lasts_s) as (proxy, stage), launched("--font-render-hinting=none") as browser:
        with Visitor(browser) as visitor:
            light = visitor.visit(proxy, color_scheme="light", **_WIDE)
            dark = visitor.visit(proxy, color_scheme="dark", **_WIDE)
            narrow = visitor.visit(proxy, color_scheme="light", **_NARROW)
            while stage.share < 0.9:
                light.page.wait_for_timeout(1000)
            steer(proxy)
            # While it keeps its probe waiting.
            while asked(proxy, PROBED)["probes_in_flight"] == 0:
                light.page.wait_for_timeout(500)
            light.expect_state(PROBED, "half-open")
            light.opened(NAMED_SICK)
            expect(light.button("Force open")).to_be_visible()
            light.page.mouse.move(0, 0)
            light.page.evaluate("document.activeElement.blur()")
            taken = []
            for name, live in (("light", light), ("dark", dark), ("narrow", narrow)):
                live.expect_state("crm.example.org:443", "forced open")
                file = folder / f"page-{name}.png"
                live.page.screenshot(path=file, full_page=True)
                taken.append(file)
            return taken


def main() -> None:
    """Takes them, and makes them small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=LASTS_S, help="how long the calls go on before")
    parser.add_argument("--folder", type=Path, default=DOCS)
    arguments = parser.parse_args()
    pictures = take(arguments.folder, arguments.seconds)
    subprocess.run(["pngquant", "--force", "--ext=.png", "--strip", "--quality=70-95", *pictures], check=True)
    for picture in pictures:
        sys.stdout.write(f"{picture}: {picture.stat().st_size / 1000:.0f} kB\n")
    sys.stdout.write("Look at them.\n")


if __name__ == "__main__":
    main()
