"""Draws docs/architecture.svg from docs/architecture.txt: boxes in a grid, and arrows between neighbours.

python docs/draw.py [SOURCE TARGET]
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

_BOX_WIDTH, _BOX_HEIGHT, _GAP_ACROSS, _GAP_DOWN, _EDGE, _LINE = 132, 84, 76, 56, 8, 17
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; text-anchor: middle } .head { font-weight: 600 }
.label { font-size: 11px; fill: #57606a } .start { text-anchor: start }
rect { fill: #f6f8fa; stroke: #8c959f } .ours { fill: #ddf4ff; stroke: #0969da }
line { stroke: #57606a; stroke-width: 1.5; marker-end: url(#head) } path { fill: #57606a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .label { fill: #8d96a0 } rect { fill: #161b22; stroke: #6e7681 }
  .ours { fill: #0c2d6b; stroke: #4493f8 } line { stroke: #8d96a0 } path { fill: #8d96a0 }
}
"""
_HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    '<path d="M0 0L8 4L0 8z"/></marker>'
)

Place = tuple[int, int]


def draw(source: str) -> str:
    """Return the picture. Raises `ValueError` for a line that is neither a box nor an arrow."""
    boxes: dict[str, Place] = {}
    drawn: list[str] = []
    for line in source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        words, *texts = (part.strip() for part in line.split("|"))
        match words.split():
            case ["box", name, column, row, kind]:
                boxes[name] = (
                    _EDGE + int(column) * (_BOX_WIDTH + _GAP_ACROSS),
                    _EDGE + int(row) * (_BOX_HEIGHT + _GAP_DOWN),
                )
                drawn += _box(boxes[name], kind, texts)
            case ["arrow", start, end]:
                drawn += _arrow(boxes[start], boxes[end], texts)
            case _:
                raise ValueError(f"neither a box nor an arrow: {line}")
    width = max(x for x, _ in boxes.values()) + _BOX_WIDTH + _EDGE
    height = max(y for _, y in boxes.values()) + _BOX_HEIGHT + _EDGE
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )
    return "\n".join([opening, f"<style>{_STYLE}</style>", _HEAD, *drawn, "</svg>", ""])


def _box(place: Place, kind: str, texts: list[str]) -> list[str]:
    x, y = place
    lines = [f'<rect class="{kind}" x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>']
    for number, text in enumerate(texts):
        lines.append(_text(x + _BOX_WIDTH // 2, y + 20 + number * _LINE, text, "" if number else "head"))
    return lines


def _arrow(start: Place, end: Place, texts: list[str]) -> list[str]:
    across, down = (end[0] > start[0]) - (end[0] < start[0]), (end[1] > start[1]) - (end[1] < start[1])
    x, y = start[0] + _BOX_WIDTH // 2, start[1] + _BOX_HEIGHT // 2
    from_x, from_y = x + across * _BOX_WIDTH // 2, y + down * _BOX_HEIGHT // 2
    to_x, to_y = from_x + across * _GAP_ACROSS, from_y + down * _GAP_DOWN
    middle_x, middle_y = (from_x + to_x) // 2, (from_y + to_y) // 2
    if down:
        return [_line(from_x, from_y, to_x, to_y), _text(middle_x + 8, middle_y + 4, texts[0], "label start")]
    lines = []
    for text, apart, is_back in zip(texts, (-8 * (len(texts) - 1), 8), (False, True), strict=False):
        ends = (to_x, from_x) if is_back else (from_x, to_x)
        lines.append(_line(ends[0], from_y + apart, ends[1], from_y + apart))
        lines.append(_text(middle_x, from_y + apart + (16 if is_back else -6), text, "label"))
    return lines


def _line(from_x: int, from_y: int, to_x: int, to_y: int) -> str:
    return f'<line x1="{from_x}" y1="{from_y}" x2="{to_x}" y2="{to_y}"/>'


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


if __name__ == "__main__":
    here = Path(__file__).parent
    given = sys.argv[1:] or [str(here / "architecture.txt"), str(here / "architecture.svg")]
    Path(given[1]).write_text(draw(Path(given[0]).read_text(encoding="utf-8")), encoding="utf-8")
