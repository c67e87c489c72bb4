"""What is wrong with a policy: where it stands, which key, what was wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indexes of lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    ``line`` and ``column`` count from 1; they are None if the policy was not read from text. ``key`` is the
    dotted path, empty for the file as a whole. Neither text holds a credential.
    """

    source: str
    line: int | None
    column: int | None
    key: str
    wrong: str
    right: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.wrong}; {self.right}"


class PolicyError(ValueError):
    """A policy cannot be used; ``problems`` has everything that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: KeyPath) -> str:
    """``("servers", 0, "url")`` as ``servers[0].url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
