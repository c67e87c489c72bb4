"""The cases as data: each cites a sentence, and says how binding it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from interop.conformance.case import CASES, Case, Level
from interop.conformance.selection import select
from interop.conformance.target import Capability
from interop.conformance.targets.ice_tcp_agent import DEVIATIONS

ROOT: Final = Path(__file__).parent.parent.parent
ALL: Final = select()

KEYWORDS: Final = {
    Level.MUST: r"MUST|SHALL|REQUIRED",
    Level.SHOULD: r"SHOULD|RECOMMENDED",
    Level.MAY: r"MAY|OPTIONAL",
}
SECTION: Final = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_a_case_cites_its_sentence_and_says_what_it_looks_at(case: Case) -> None:
    assert SECTION.match(case.section)
    assert len(case.sentence) >= 25
    assert case.title.endswith(".")
    assert case.needs


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_the_level_is_that_of_the_sentence(case: Case) -> None:
    found = {level for level, words in KEYWORDS.items() if re.search(rf"\b({words})\b", case.sentence)}
    assert case.level in (found or {Level.MUST})


def test_all_groups_of_rules_are_there() -> None:
    assert {case.rfc for case in ALL} == {4571, 6062, 6544, 7675, 8445, 8489, 8838, 8839, 8863}
    assert len(ALL) >= 150


def test_every_deviation_is_written_down() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "deviations.md").read_text("utf-8"), re.MULTILINE)
    assert set(DEVIATIONS.values()) <= set(headings)
    assert set(DEVIATIONS) <= set(CASES)


@pytest.mark.parametrize(
    ("sections", "patterns", "holds"),
    [
        (("8489",), (), lambda case: case.rfc == 8489),
        (("8489-14",), (), lambda case: case.rfc == 8489 and case.section.split(".")[0] == "14"),
        (("8489-6.3.1",), (), lambda case: case.rfc == 8489 and case.section.startswith("6.3.1")),
        ((), ("*-fingerprint-*",), lambda case: "-fingerprint-" in case.id),
        (("8489-7",), ("*fingerprint*",), lambda case: (case.rfc, case.section) == (8489, "7")),
    ],
)
def test_cases_are_selected_by_section_and_by_name(
    sections: tuple[str, ...], patterns: tuple[str, ...], holds: object
) -> None:
    assert callable(holds)
    chosen = select(sections, patterns)
    assert chosen
    assert chosen == [case for case in ALL if holds(case)]


def test_a_section_is_not_the_beginning_of_another_number() -> None:
    assert not select(("848",))
    assert all(case.section.split(".")[0] == "1" for case in select(("8489-1",)))


def test_every_capability_is_needed_somewhere() -> None:
    assert set().union(*(case.needs for case in ALL)) <= set(Capability)
