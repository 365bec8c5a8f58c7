"""Pieces of an SVG that is legible on light and on dark ground."""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import escape

from leveret.topology.printable import printable

CHARACTER, LINE = 7.3, 18
"""How wide a character is and how far lines are apart, in pixels: a little more than monospaced fonts need."""
_STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #24292f }
.ground { fill: #fff; stroke: none } .head { font-weight: 600 } .label { fill: #57606a }
rect { fill: #f6f8fa; stroke: #8c959f } .ours { fill: #ddf4ff; stroke: #0969da }
.dead { fill: #ffebe9; stroke: #cf222e } .band { fill: none; stroke: #d0d7de }
path { fill: none; stroke: #57606a; stroke-width: 1.5; marker-end: url(#head) }
marker path { fill: #57606a; stroke: none; marker-end: none }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: none } text { fill: #e6edf3 } .label { fill: #9aa4af }
  rect { fill: #161b22; stroke: #6e7681 }
  .ours { fill: #0c2d6b; stroke: #4493f8 } .dead { fill: #4c1519; stroke: #f85149 }
  .band { fill: none; stroke: #30363d }
  path { stroke: #8d96a0 } marker path { fill: #8d96a0 }
}
"""
_MARKER = (
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0 0L8 4L0 8z"/></marker>'
)
_LONGEST = 60


def picture(width: float, height: float, drawn: list[str]) -> str:
    """Return the SVG of what is drawn."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([opening, f"<style>{_STYLE}</style>", _MARKER, *drawn, "</svg>", ""])


def shown(name: str) -> str:
    """Return a name as it is drawn: printable, and its middle left out where it is long."""
    text = printable(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 + 1 :]}"


def width_of(text: str) -> float:
    """Return how wide a text is at most, in pixels; Chinese characters and their like take twice the place."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text) * CHARACTER


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """Write a text that begins here."""
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(said)}</text>'


def box(x: float, y: float, width: float, lines: list[str], kind: str = "") -> list[str]:
    """Draw a box around lines, the first of them its name."""
    frame = f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{box_height(lines)}" rx="6"/>'
    written = [
        text(x + 10, y + 18 + number * LINE, one, "label" if number else "head") for number, one in enumerate(lines)
    ]
    return [frame, *written]


def box_height(lines: list[str]) -> int:
    """Return how high a box around these lines is."""
    return len(lines) * LINE + 10


def box_width(lines: list[str]) -> float:
    """Return how wide a box around these lines is."""
    return max(map(width_of, lines), default=0) + 20


def arrow(*points: tuple[float, float]) -> str:
    """Draw an arrow along these points."""
    way = "L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    return f'<path d="M{way}"/>'
