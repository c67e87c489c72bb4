"""Which cases are run."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import interop.conformance.cases as all_cases
from interop.conformance.case import CASES, Case

assert all_cases


def select(sections: Sequence[str] = (), patterns: Sequence[str] = ()) -> list[Case]:
    """The cases of these sections whose ids match one of these globs; all, if nothing is asked for.

    A section is "6544" or "8445-7.3", and includes those below it. They come ordered by RFC and section.
    """
    chosen = [case for case in CASES.values() if _in_sections(case, sections) and _matches(case, patterns)]
    return sorted(chosen, key=lambda case: (case.rfc, _numbers(case.section), case.id))


def _in_sections(case: Case, sections: Sequence[str]) -> bool:
    where = f"{case.rfc}-{case.section}"
    return not sections or any(where == each or where.startswith((f"{each}.", f"{each}-")) for each in sections)


def _matches(case: Case, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(case.id, pattern) for pattern in patterns)


def _numbers(section: str) -> list[int]:
    return [int(part) for part in section.split(".")]
