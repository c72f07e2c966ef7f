"""What all drawn pictures of these pages have in common: width, colours, type, arrow heads."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

WIDTH = 980
_STYLE = """  <style>
    text { fill: #1d2530; font-size: 14px } .m { text-anchor: middle } .e { text-anchor: end }
    .h { font-weight: 600 } .s { font-size: 12px; fill: #57606e }
    .t { font-family: monospace; font-size: 13px }
    .o { font-style: italic; fill: #7a4a99 } .line { fill: none; stroke: #57606e; stroke-width: 1.4 }
    .arrow { marker-end: url(#a) } .d { stroke-dasharray: 5 4 }
    .closed { fill: #e3f1e3; stroke: #3f7d3f } .half_open { fill: #fdf0c4; stroke: #a67c00 }
    .open { fill: #f9dcd8; stroke: #b03a2e } .state { stroke-width: 1.5 }
    .good { fill: #3f7d3f; stroke: #3f7d3f } .bad { fill: none; stroke: #b03a2e; stroke-width: 1.8 }
    .refused { fill: none; stroke: #57606e; stroke-width: 1.6 }
    .probe { fill: none; stroke: #24579d; stroke-width: 1.6 }
    .tls { fill: #e8effa; stroke: #4a6fa5 } .note { fill: #fff; stroke: #57606e } .b { fill: #24579d }
    .grid { stroke: #dfe3e8 } .mark { fill: #1d2530 } .mark-text { fill: #fff; font-size: 12px }
  </style>
  <defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
    <polygon points="0,0 8,4 0,8" fill="#57606e"/></marker></defs>
"""


def picture(height: int, title: str, parts: Iterable[str]) -> str:
    """A whole picture.

    Args:
        height: in the units of WIDTH.
        title: which is read aloud in place of it.
        parts: its elements, those that lie below first.
    """
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' font-family="system-ui, sans-serif" role="img">\n  <title>{escape(title)}</title>\n'
    )
    # White paper, so that it is read on a dark page as well.
    paper = f'  <rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
    return head + _STYLE + paper + "".join(f"  {part}\n" for part in parts) + "</svg>\n"


def label(x: float, y: float, words: str, kind: str = "") -> str:
    """Words whose base line begins at a place, or is centred there, or ends there, by their kind."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'
