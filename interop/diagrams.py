"""Draws the documents' diagrams from traces of the NAT lab that stand beside them: ``python -m interop.diagrams``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ice_tcp import read_trace
from ice_tcp.report import LADDER_STYLE, ladder_svg, tell

DIRECTORY: Final = Path(__file__).parent.parent / "docs" / "diagrams"


def diagrams() -> Iterator[tuple[Path, str]]:
    """Each picture and what has to be in it: NAME.svg of NAME-left.jsonl and NAME-right.jsonl."""
    for left in sorted(DIRECTORY.glob("*-left.jsonl")):
        name = left.name.removesuffix("-left.jsonl")
        sides, _ = tell([read_trace(left), read_trace(DIRECTORY / f"{name}-right.jsonl")])
        head, _, body = ladder_svg(sides).partition("\n")
        yield DIRECTORY / f"{name}.svg", f"{head}\n<style>{LADDER_STYLE}</style>\n{body}\n"


def main() -> None:
    for path, text in diagrams():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
