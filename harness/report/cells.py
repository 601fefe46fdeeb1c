"""What both documents are made of: text with a tone, which shows as a glyph and never by color alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "open", "quiet"]

GLYPHS: dict[Tone, str] = {"good": "✓", "bad": "✕", "open": "?", "quiet": "–"}


@dataclass(frozen=True)
class Cell:
    text: str
    note: str = ""
    """A second, smaller line."""
    tone: Tone | None = None
    case: str | None = None
    """Key of the case whose page this cell leads to."""
    title: str = ""
    """What a pointer that rests on it is told."""

    @property
    def glyph(self) -> str:
        return GLYPHS[self.tone] if self.tone else ""


@dataclass(frozen=True)
class Column:
    name: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """`rows` are as long as `columns`. `label` names the table for those who cannot see it."""

    label: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table '{self.label}': a row is not {len(self.columns)} cells long and would be misread")


@dataclass(frozen=True)
class Fact:
    """A name and its value; `code` for what a reader copies or compares letter by letter."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Banner:
    """The verdict in words: `word: sentence`."""

    tone: Tone
    word: str
    sentence: str
    remarks: tuple[str, ...] = ()
    """What qualifies the verdict."""

    @property
    def glyph(self) -> str:
        return GLYPHS[self.tone]


def columns(*names: str) -> tuple[Column, ...]:
    """Columns from names; one that ends in `#` holds numbers and is aligned right."""
    return tuple(Column(name.removesuffix("#"), name.endswith("#")) for name in names)


def row(*values: Cell | str) -> tuple[Cell, ...]:
    return tuple(value if isinstance(value, Cell) else Cell(value) for value in values)
