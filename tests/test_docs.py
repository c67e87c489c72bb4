"""The documents name files and tests that exist, and say of each RFC section whether it is implemented."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = ("deviations.md", "rfc-coverage.md")
STATUSES: Final = ("yes", "in part", "no", "-")

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
    assert len(names_in(text)) > 30
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


def test_every_deviation_quotes_its_rfc_and_names_a_test() -> None:
    text = (ROOT / "docs" / "deviations.md").read_text("utf-8")
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    for entry in entries:
        title = entry.splitlines()[0]
        assert re.search(r"^> .*(?:\n> .*)*\(RFC \d+ s[\d.]+\)$", entry, flags=re.MULTILINE), title
        assert any(test for _, test in names_in(entry)), title
