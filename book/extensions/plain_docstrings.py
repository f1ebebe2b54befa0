"""Let autodoc read the docstrings as they are written: plain prose with `code` and named sections.

The package's docstrings are meant for people at a prompt. Read as reStructuredText, a `|z|` or a
list without a blank line above it would be an error, and the build takes errors seriously. This
listener turns a docstring into paragraphs, lists and sections, and escapes all else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from textwrap import dedent
from typing import Any

SECTION = re.compile(r"(Args|Returns|Yields|Raises|Attributes|Example|Examples|Note|Source):\s*$")
ITEM = re.compile(r"(?P<name>\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?: (?P<text>.*)", re.S)
LIST = re.compile(r"(?:-|\d+\.) ")


def escape(text: str) -> str:
    """Prose as reStructuredText: `x` becomes code, and no other character means anything."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is only a character
        parts = [text.replace("`", "'")]
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = re.sub(r"([\\*|_])", r"\\\1", part)
        elif part.strip():
            # Inline code must not touch a word; an escaped space parts them and is not seen.
            before, after = parts[index - 1][-1:], parts[index + 1][:1]
            left = "\\ " if before.strip() else ""
            right = "\\ " if after.strip() else ""
            parts[index] = f"{left}``{part.strip()}``{right}"
        else:
            parts[index] = ""
    return "".join(parts)


def entries(block: list[str]) -> Iterator[str]:
    """Split lines into entries: a line at the left margin starts one, an indented line goes on."""
    entry: list[str] = []
    for line in block:
        if entry and line[:1] not in ("", " "):
            yield " ".join(entry)
            entry = []
        if line.strip():
            entry.append(line.strip())
    if entry:
        yield " ".join(entry)


def section(title: str, block: list[str]) -> list[str]:
    """One named section: a list where every entry is `name: text`, prose otherwise."""
    found = list(entries(block))
    lines = [f"**{title}**", ""]
    if title.startswith("Example"):
        return [*lines, "::", "", *(f"    {line}" for line in block), ""]
    if found and all(ITEM.fullmatch(entry) for entry in found):
        for entry in found:
            name, separator, text = entry.partition(": ")
            lines.append(f"- {escape(f'`{name}`')}{separator}{escape(text)}")
        return [*lines, ""]
    return [*lines, *prose(block)]


def table(block: list[str]) -> list[str]:
    """A table of `| a | b |` lines whose second line rules off the heading."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [block[0], *block[2:]]:
        cells = [escape(cell.strip()) for cell in row.strip().strip("|").split("|")]
        starts = ["   * -", *["     -"] * (len(cells) - 1)]
        lines += [f"{start} {cell}".rstrip() for start, cell in zip(starts, cells, strict=True)]
    return [*lines, ""]


def prose(block: list[str]) -> list[str]:
    """Paragraphs, lists, tables and indented (literal) blocks."""
    lines: list[str] = []
    for filled, group in groupby(block, key=lambda line: bool(line.strip())):
        paragraph = list(group)
        if not filled:
            continue
        if all(line.startswith("    ") for line in paragraph):
            lines += ["::", "", *paragraph, ""]
            continue
        if all(line.strip().startswith("|") for line in paragraph):
            lines += table(paragraph)
            continue
        text: list[str] = []
        for line in paragraph:
            if LIST.match(line.strip()):
                lines += [*([escape(" ".join(text))] if text else []), *([""] if text else [])]
                text = [line.strip()]
            else:
                text.append(line.strip())
        lines += [escape(" ".join(text)), ""]
    return lines


def to_restructuredtext(docstring: str) -> list[str]:
    """The whole docstring, as lines of reStructuredText."""
    result: list[str] = []
    block: list[str] = []
    title = ""
    for line in [*docstring.splitlines(), None]:
        heading = SECTION.match(line) if line is not None else None
        ended = title and line is not None and line.strip() and not line.startswith(" ")
        if line is None or heading or ended:
            inside = dedent("\n".join(block)).splitlines()
            result += section(title, inside) if title else prose(inside)
            block, title = [], heading.group(1) if heading else ""
            if heading or line is None:
                continue
        block.append(line)
    return result


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's `autodoc-process-docstring`: replaces `lines` in place."""
    lines[:] = to_restructuredtext("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
