"""The documents name files and tests that exist, and say of each RFC section whether it is implemented."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = ("deviations.md", "peers.md", "rfc-coverage.md", "security.md")
STATUSES: Final = ("yes", "in part", "no", "-")

SECTIONS: Final = {
    "4571": "2 3 4 6",
    "5769": "2.1 2.2 2.3 2.4",
    "5780": "4.1 4.2 4.3 4.4 4.5 4.6 5 5.1 5.2 6 6.1 7 7.5 7.6",
    "6062": "4.1 4.2 4.3 4.4 4.5 4.6 5.1 5.2 5.3 5.4 5.5 6",
    "6544": "3 4.1 4.2 4.3 4.4 4.5 5.1 5.2 5.3 5.4 5.5 6 6.1 6.2 7.1 7.2 8 9.1 9.2 10.1 10.2 11.1 11.2 12 App.B App.C",
    "7064": "3",
    "7065": "3",
    "7350": "3 4.1 4.1.1 4.6 4.6.1 4.6.2",
    "7675": "5.1 5.2 6 7 8",
    "7983": "3 4 5 6 7",
    "8421": "3 4 5",
    "8445": (
        "2.5 5.1.1.1 5.1.1.2 5.1.1.3 5.1.1.4 5.1.2.1 5.1.2.2 5.1.3 5.2 5.3 5.4 6.1.1 6.1.2.1 6.1.2.2 6.1.2.3 6.1.2.4 "
        "6.1.2.5 6.1.2.6 6.1.3 6.1.4.1 6.1.4.2 6.2 7.1.1 7.1.2 7.1.3 7.2.1 7.2.2 7.2.3 7.2.4 7.2.5.1 7.2.5.2.1 "
        "7.2.5.2.2 7.2.5.2.3 7.2.5.2.4 7.2.5.3.1 7.2.5.3.2 7.2.5.3.3 7.2.5.3.4 7.2.5.4 7.3 7.3.1.1 7.3.1.2 7.3.1.3 "
        "7.3.1.4 7.3.1.5 7.3.2 8.1.1 8.1.2 8.2 8.3.1 8.3.2 9 10 11 12.1 12.1.1 12.2 13 14.1 14.2 14.3 16.1 16.2"
    ),
    "8489": (
        "5 6.1 6.2.1 6.2.2 6.2.3 6.3.1 6.3.2 6.3.3 6.3.4 7 8.1 9.1 9.2 9.2.1 9.2.2 9.2.3 9.2.4 9.2.5 10 11 12 13 14 "
        "14.5 14.6 App.B.1"
    ),
    "8656": (
        "4 4.1 5 6 7.1 7.2 7.3 7.4 8.1 8.2 8.3 9 10.1 10.2 10.3 11.1 11.2 11.3 11.4 11.5 11.6 12 12.1 12.2 12.3 12.4 "
        "12.5 12.6 12.7 13 14 15 16 17 18 19 21"
    ),
    "8828": "5.2 6.1 6.2",
    "8838": "3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18",
    "8839": "4 4.2.3 4.3 4.4.1.1.1 5.1 5.2 5.3 5.4 5.5 5.6 6 7 8",
    "8863": "4 5",
}
"""Of each RFC the sections that ask something of an implementation."""

_NAME = re.compile(r"`((?:candidates|docs|ice_tcp|interop|tests)/[\w./-]+)((?:::\w+)*)`")


def names_in(text: str) -> list[tuple[str, str]]:
    """The files that a text names, each with the test after it ("" if none), as ``Class::test_it`` or ``test_it``."""
    return [(path, test.removeprefix("::")) for path, test in _NAME.findall(text)]


@cache
def named_tests(path: str) -> frozenset[str]:
    """The tests in a file, by the names that pytest gives them."""
    found = set()
    for node in ast.parse((ROOT / path).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


def missing(text: str) -> list[str]:
    """What a text names and what does not exist."""
    wrong = []
    for path, test in names_in(text):
        if not (ROOT / path).exists():
            wrong.append(path)
        elif test and test not in named_tests(path):
            wrong.append(f"{path}::{test}")
    return wrong


def rows() -> list[list[str]]:
    """The cells of every row of the coverage tables: section, what, status, where, test."""
    lines = (ROOT / "docs" / "rfc-coverage.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != "section" and not row[0].startswith("---")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_test_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / "docs" / document).read_text("utf-8")
    assert len(names_in(text)) > 10
    assert missing(text) == []


def test_what_does_not_exist_is_found() -> None:
    text = "`tests/test_docs.py::test_nothing` `ice_tcp/nowhere.py` `docs/deviations.md` `tests/test_docs.py`"
    assert missing(text) == ["tests/test_docs.py::test_nothing", "ice_tcp/nowhere.py"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1]}")
def test_every_section_has_a_status_and_what_is_implemented_has_a_file_and_a_test(row: list[str]) -> None:
    assert len(row) == 5
    status = next((each for each in STATUSES if re.match(rf"{re.escape(each)}($|[,;:])", row[2])), None)
    assert status is not None
    if status in ("yes", "in part"):
        assert [test for _, test in names_in(row[3])] == [""]
        assert all(test for _, test in names_in(row[4]))
        assert names_in(row[4])


def sections_told(rfc: str) -> set[str]:
    """The sections of the tables of an RFC; "4 to 6" is three."""
    text = (ROOT / "docs" / "rfc-coverage.md").read_text("utf-8").replace("App. ", "App.")
    found: set[str] = set()
    for chapter in re.split(r"^## ", text, flags=re.MULTILINE):
        if re.match(rf"(RFC \d+, )*RFC {rfc}\b", chapter):
            for cell in re.findall(r"^\| ([\dA][^|]*?) \|", chapter, flags=re.MULTILINE):
                first, _, last = cell.partition(" to ")
                found.update(map(str, range(int(first), int(last) + 1)) if last else cell.split(", "))
    return found


@pytest.mark.parametrize("rfc", SECTIONS)
def test_every_section_of_an_rfc_is_told_of(rfc: str) -> None:
    """By itself, or with a section that it is part of and that asks nothing of its own."""
    wanted, told = SECTIONS[rfc].split(), sections_told(rfc)
    whole = tuple(f"{each}." for each in told - set(wanted))
    assert [each for each in wanted if each not in told and not each.startswith(whole)] == []


def test_every_deviation_quotes_its_rfc_and_names_a_test() -> None:
    text = (ROOT / "docs" / "deviations.md").read_text("utf-8")
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    for entry in entries:
        title = entry.splitlines()[0]
        assert re.search(r"^> .*(?:\n> .*)*\(RFC \d+ s[\d.]+\)$", entry, flags=re.MULTILINE), title
        assert any(test for _, test in names_in(entry)), title
