"""Codes that one person reads to another: where to meet, and a secret of the two, as in ``67-kafo-rimu``."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Self

_SYLLABLES: Final = tuple(map("".join, product("bdfghjklmnprstvz", "aeiou")))
"""Eighty that sound different in most languages."""
_WORDS: Final = 2
_SYLLABLES_OF_A_WORD: Final = 2
_SECRET: Final = re.compile(r"[a-z]+(-[a-z]+)*")
_CODE: Final = re.compile(r"(\d{1,6})-([a-z]+(?:-[a-z]+)*)")


class CodeError(ValueError):
    """A text is no code."""


@dataclass(frozen=True, slots=True)
class Code:
    """``mailbox`` is where the rendezvous lets the two meet; ``secret`` never reaches it.

    A drawn secret is one of 41 million. Whoever guesses has one guess: a wrong one ends the mailbox, and is told.
    """

    mailbox: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.mailbox}-{self.secret}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A code as somebody typed it, in any case and with spaces or hyphens. Raises CodeError."""
        found = _CODE.fullmatch(re.sub(r"[\s_-]+", "-", text.strip().lower()))
        if found is None:
            raise CodeError(f"{text!r} is no code; one looks like 67-kafo-rimu")
        return cls(found[1], found[2])


def draw_secret() -> str:
    """Two words of two syllables each, 25 bits."""
    return "-".join("".join(secrets.choice(_SYLLABLES) for _ in range(_SYLLABLES_OF_A_WORD)) for _ in range(_WORDS))


def checked_secret(text: str) -> str:
    """A secret of one's own choice: words of letters. Raises CodeError."""
    if not _SECRET.fullmatch(text):
        raise CodeError("a secret is made of words of letters, with hyphens between")
    return text
