"""The picture: one chart of horizontal bars for each metric, as SVG that follows the reader's light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from xml.sax.saxutils import escape

from benchmarks.measure import Metric

Chart = tuple[Metric, list[tuple[str, list[float]]]]

_WIDTH, _COLUMN, _GAP = 960, 460, 40
_LABEL, _BAR = 150, 200
_TOP, _ROW, _HEAD, _FOOT = 56, 20, 34, 22
_LOG_FROM = 20.0
"""A chart whose bars differ more than this has a logarithmic scale."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 18px; font-weight: 600 } .head { font-weight: 600 } .faint { fill: #57606a }
.bar { fill: #8c959f } .ours { fill: #0969da } .ours-text { font-weight: 600 }
.spread { stroke: #24292f; stroke-width: 1.5 } .axis { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #8d96a0 } .bar { fill: #6e7681 } .ours { fill: #4493f8 }
  .spread { stroke: #e6edf3 } .axis { stroke: #30363d }
}
"""


def draw(charts: Sequence[Chart], subtitle: str) -> str:
    """Return the picture. The first system is ours, whatever follows a comma.

    Systems without a number are left out of a chart.
    """
    ours = charts[0][1][0][0] if charts and charts[0][1] else ""
    filled = [(metric, [bar for bar in bars if bar[1]]) for metric, bars in charts]
    filled = [(metric, bars) for metric, bars in filled if bars]
    heights = [0, 0]
    body: list[str] = []
    for metric, bars in filled:
        column = 0 if heights[0] <= heights[1] else 1
        body += _chart(metric, bars, ours, column * (_COLUMN + _GAP), _TOP + heights[column])
        heights[column] += _HEAD + _ROW * len(bars) + _FOOT
    height = _TOP + max(heights)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
        ' role="img" aria-label="leveret and its peers">',
        f"<style>{_STYLE}</style>",
        '<text x="0" y="20" class="title">leveret and its peers, side by side</text>',
        f'<text x="0" y="40" class="faint">{escape(subtitle)}; bars: median, lines: lowest to highest</text>',
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def _chart(metric: Metric, bars: list[tuple[str, list[float]]], ours: str, left: int, top: int) -> list[str]:
    numbers = [number for _, several in bars for number in several]
    scale, is_log = _scale(numbers)
    better = "more" if metric.more_is_better else "less"
    note = f"{metric.unit}, {better} is better" + (", log scale" if is_log else "")
    lines = [
        f'<text x="{left}" y="{top + 16}" class="head">{escape(metric.title)} '
        f'<tspan class="faint" font-weight="400">{escape(note)}</tspan></text>'
    ]
    start = left + _LABEL
    bars = sorted(bars, key=lambda bar: median(bar[1]), reverse=metric.more_is_better)
    for row, (name, several) in enumerate(bars):
        y = top + _HEAD - 8 + row * _ROW
        middle = median(several)
        is_ours = name.partition(",")[0] == ours
        emphasis = ' class="ours-text"' if is_ours else ""
        lines += [
            f'<text x="{start - 8}" y="{y + 13}" text-anchor="end"{emphasis}>{escape(name)}</text>',
            f'<rect x="{start}" y="{y + 2}" width="{scale(middle):.1f}" height="14" rx="2" '
            f'class="{"ours" if is_ours else "bar"}"/>',
        ]
        if len(several) > 1:
            low, high = start + scale(min(several)), start + scale(max(several))
            lines.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 9}" y2="{y + 9}" class="spread"/>')
        lines.append(f'<text x="{start + scale(max(several)) + 6:.1f}" y="{y + 13}"{emphasis}>{_shown(middle)}</text>')
    bottom = top + _HEAD - 8 + len(bars) * _ROW
    lines.append(f'<line x1="{start}" x2="{start}" y1="{top + _HEAD - 8}" y2="{bottom}" class="axis"/>')
    return lines


def _scale(numbers: list[float]) -> tuple[_Scale, bool]:
    positive = [number for number in numbers if number > 0]
    if not positive or max(positive) / min(positive) <= _LOG_FROM:
        return _Scale(0.0, max(numbers) or 1.0, is_log=False), False
    return _Scale(10 ** math.floor(math.log10(min(positive))), max(positive), is_log=True), True


class _Scale:
    def __init__(self, low: float, high: float, is_log: bool) -> None:
        self._low, self._high, self._is_log = low, high, is_log

    def __call__(self, number: float) -> float:
        """Return how long a bar is."""
        if not self._is_log:
            return _BAR * number / self._high
        if number <= self._low:
            return 1.0
        return max(1.0, _BAR * math.log(number / self._low) / math.log(self._high / self._low))


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
