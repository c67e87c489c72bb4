"""What a case is: a sentence of an RFC, and what shows whether an agent keeps to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from interop.conformance.target import Capability

if TYPE_CHECKING:
    from interop.conformance.trial import Trial

Run: TypeAlias = Callable[["Trial"], Awaitable[str | None]]
"""Drives an agent; returns what it saw, in words. Raises NotConforming."""


class Level(StrEnum):
    """How binding the sentence is (RFC 2119). A rule without a keyword that others build on is a MUST."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class NotConforming(Exception):  # noqa: N818 - it is a finding, not an error of the program
    """The agent did something else than the sentence says; the message is the evidence."""


class NotObservable(Exception):  # noqa: N818 - it is no error of the program
    """This machine does not let the case see what it looks for."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``id`` is made from the RFC, the section and the function's name, ``title`` is its docstring.

    ``needs``: see `Capability`. A ``scaled`` case runs in scaled time where the target can, and in real time under
    ``--slow``; a ``slow`` one only there. ``limit`` is after how many seconds it has hung.
    """

    id: str
    rfc: int
    section: str
    level: Level
    sentence: str
    title: str
    needs: frozenset[Capability]
    scaled: bool
    slow: bool
    limit: float
    run: Run


CASES: dict[str, Case] = {}
"""By id; filled by importing `interop.conformance.cases`."""


def case(
    rfc: int,
    section: str,
    level: Level,
    sentence: str,
    *,
    needs: Iterable[Capability] = (Capability.UDP,),
    scaled: bool = False,
    slow: bool = False,
    limit: float = 30.0,
) -> Callable[[Run], Run]:
    """Make a case of a function. ``sentence`` is quoted to the letter; ``[...]`` stands for what is left out."""

    def register(run: Run) -> Run:
        name = getattr(run, "__name__", "").replace("_", "-")
        id_ = f"{rfc}-{section}-{name}"
        if id_ in CASES:
            raise ValueError(f"two cases are called {id_}")
        title = " ".join((run.__doc__ or "").split())
        CASES[id_] = Case(id_, rfc, section, level, sentence, title, frozenset(needs), scaled, slow, limit, run)
        return run

    return register


def require(condition: object, evidence: str) -> None:
    """Raise NotConforming with the evidence unless the condition holds."""
    if not condition:
        raise NotConforming(evidence)
