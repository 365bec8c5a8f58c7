"""The pages of the documentation, as what tests look at: blocks of examples, links, headings, code in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leveret.topology.settings import CHECKOUT

_BLOCK = re.compile(
    r"^(?:<!-- (?P<comment>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """An example. `comment` is what stands hidden before it: what has to be there, or what to do with it."""

    page: str
    number: int
    language: str
    text: str
    comment: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"

    @property
    def file(self) -> str:
        """The name of the file it is, if its first line says so."""
        named = re.match(r"# ([\w/.-]+\.\w+)\n", self.text)
        return named[1] if named else ""

    def says(self, what: str) -> str:
        """What the hidden comment says of this; empty when it says nothing."""
        name, _, rest = self.comment.partition(": ")
        return rest if name == what else ""


def pages() -> list[str]:
    """Every page that people read, as a path in the checkout."""
    found = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "benchmarks").glob("*.md")]
    return sorted(path.relative_to(CHECKOUT).as_posix() for path in found)


def text_of(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """Every example in these languages, numbered by its line; of the benchmarks' pages none, which have their own."""
    found = []
    for page in pages():
        text = text_of(page)
        for match in _BLOCK.finditer(text) if not page.startswith("benchmarks/") else ():
            if match["language"] in languages:
                number = text.count("\n", 0, match.start("language")) + 1
                found.append(Block(page, number, match["language"], match["text"], match["comment"] or ""))
    return found


def block(page: str, file: str) -> Block:
    """The example of a page that is this file."""
    (found,) = (one for one in blocks("python", "toml", "ini") if (one.page, one.file) == (page, file))
    return found


def prose_of(page: str) -> str:
    """A page without its examples."""
    return _BLOCK.sub("", text_of(page))


def links(page: str) -> list[str]:
    """Where a page leads, but for other servers."""
    return [target for target in _LINK.findall(prose_of(page)) if not target.startswith(("http:", "https:"))]


def code_in_lines(page: str) -> Iterator[str]:
    """What stands in backquotes within a line."""
    return iter(_CODE.findall(prose_of(page)))


def anchors(page: Path) -> set[str]:
    """What a link may name after a #: each heading as GitHub writes it."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    after = text_of(page).split(f"\n## {heading}\n")[1]
    return after.split("\n## ")[0]
