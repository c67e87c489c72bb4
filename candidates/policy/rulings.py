"""What the policy decided about one address or candidate, and which key of the file decided it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision of the policy.

    ``rule`` begins with the dotted path of the key that decided, e.g. ``interfaces.exclude[0]: docker*``,
    and reads on in words.
    """

    kept: bool
    rule: str

    def __bool__(self) -> bool:
        return self.kept

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'removed'} by {self.rule}"
