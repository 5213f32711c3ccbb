"""Lays out a report of sentences, tables and pictures: Markdown with its pictures beside it, and one HTML file."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #d5dae1; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
code { background: #eef1f5; padding: .1rem .3rem } pre { background: #eef1f5; padding: .8rem; overflow-x: auto }
.warning { border-left: 4px solid #c0392b; padding-left: .8rem } img { max-width: 100% }
@media print { body { margin: 0 } h2 { break-after: avoid } table, img { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report: sentences, then lines of code, a table, pictures by file name; each may be missing."""

    title: str
    sentences: Sequence[str] = ()
    code: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[str] = ()
    is_warning: bool = False


def write_report(folder: Path, title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> None:
    """Write `report.md` with its pictures, PNG by file name, and `report.html`, which holds them itself."""
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "report.md").write_text(to_markdown(title, sections), encoding="utf-8")
    (folder / "report.html").write_text(to_html(title, sections, pictures), encoding="utf-8")


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the report as Markdown; pictures lie beside it."""
    return "\n\n".join([f"# {title}", *(block for section in sections for block in _markdown(section))]) + "\n"


def to_html(title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """Return the report as one HTML file that loads nothing."""
    body = "\n".join(block for section in sections for block in _html(section, pictures))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _markdown(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    for sentence in section.sentences:
        yield f"> **Warning:** {sentence}" if section.is_warning else sentence
    if section.code:
        yield "\n".join(["```", *section.code, "```"])
    if section.rows:
        lines = [section.header, ["---"] * len(section.header), *section.rows]
        yield "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    yield from (f"![{name.removesuffix('.png')}]({name})" for name in section.pictures)


def _html(section: Section, pictures: Mapping[str, bytes]) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    for sentence in section.sentences:
        opening = '<p class="warning">' if section.is_warning else "<p>"
        yield f"{opening}{_inline(sentence)}</p>"
    if section.code:
        yield f"<pre>{escape(chr(10).join(section.code))}</pre>"
    if section.rows:
        yield f"<table>\n<tr>{''.join(f'<th>{_inline(cell)}</th>' for cell in section.header)}</tr>"
        yield from (f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
        yield "</table>"
    for name in section.pictures:
        data = base64.b64encode(pictures[name]).decode()
        yield f'<img alt="{escape(name.removesuffix(".png"))}" src="data:image/png;base64,{data}">'


def _inline(text: str) -> str:
    """Return a sentence as HTML; what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
