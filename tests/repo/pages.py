# SPDX-License-Identifier: Apache-2.0
"""The documentation as its tests read it: fenced blocks, tables, links and headings of Markdown files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.repo.tree import ROOT, files, shown

DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```([\w-]*)(?: ([\w-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CELL_END = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[|: -]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `tag` is the word after the language: GitHub does not show it."""

    page: Path
    line: int
    language: str
    tag: str
    text: str

    @property
    def place(self) -> str:
        """File and line, as tests name it."""
        return f"{shown(self.page)}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table under the nearest heading before it. A row maps the header's cells to its own."""

    heading: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    return [path for path in files() if path.suffix == ".md"]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found[1],
            tag=found[2] or "",
            text=found[3],
        )
        for found in _FENCE.finditer(text)
    ]


def block(page: Path, tag: str) -> str:
    """The text of the one block of a page with this tag."""
    (found,) = [each.text for each in blocks(page) if each.tag == tag]
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {heading.replace(" ", "-") for heading in plain}


def tables(page: Path) -> Iterator[Table]:
    """The tables of a page, in order."""
    heading, rows = "", list[list[str]]()
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(line)[1:-1]]
            rows.append(cells)
            continue
        if rows:
            yield _table(heading, rows)
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ")


def _table(heading: str, rows: list[list[str]]) -> Table:
    header, rule, *body = rows
    assert all(_RULE.fullmatch(cell) for cell in rule), f"no rule under the header of a table of {heading}"
    assert {len(row) for row in body} == {len(header)}, f"a row of {heading} has another number of cells"
    return Table(
        heading=heading,
        header=tuple(header),
        rows=tuple(dict(zip(header, row, strict=True)) for row in body),
    )


def rows_with(page: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of all tables of a page that have exactly these columns."""
    found = [row for table in tables(page) if table.header == columns for row in table.rows]
    assert found, f"no table {columns} in {shown(page)}"
    return found


def code(cell: str) -> str:
    """The text of a cell that is one piece of code."""
    assert cell.startswith("`"), f"no code: {cell}"
    assert cell.endswith("`"), f"no code: {cell}"
    return cell[1:-1]
