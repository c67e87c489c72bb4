"""What two agents tell each other beside candidates: credentials, options, mode, pacing (RFC 8839 s5.3 to s5.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

# RFC 8839 s5.1: ice-char = ALPHA / DIGIT / "+" / "/"
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}\Z")
_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}\Z")
_OPTION = re.compile(r"[!-~]+\Z")

OPTION_TRICKLE: Final = "trickle"
"""Candidates may come after the description (RFC 8838 s3)."""
OPTION_ICE2: Final = "ice2"
"""The agent follows RFC 8445, not RFC 5245 (RFC 8445 s10)."""
OPTION_RENOMINATION: Final = "renomination"
"""The controlling side may nominate again (draft-thatcher-ice-renomination)."""

DEFAULT_PACING: Final = 50
"""Milliseconds: what the lack of ``ice-pacing`` means (RFC 8839 s5.5)."""


class ParametersError(ValueError):
    """A parameter breaks its rule.

    ``field`` is the attribute's name (``ice-ufrag``), ``problem`` the rule. The password's text is in neither.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


@dataclass(frozen=True, slots=True)
class IceParameters:
    """The parameters of one agent in one ICE generation; checked on construction.

    ``ufrag`` has 4 to 256 ice-chars, ``pwd`` 22 to 256 (RFC 8839 s5.4). ``options`` are the ``ice-options`` tags
    in their order, known or not. ``lite`` tells an agent that only answers checks (RFC 8445 s2.5). ``pacing`` is
    the Ta that the agent asks for, in milliseconds; None where it says nothing, which means DEFAULT_PACING.

    The password is not part of ``repr``. Raises ParametersError.
    """

    ufrag: str
    pwd: str = field(repr=False)
    options: tuple[str, ...] = ()
    lite: bool = False
    pacing: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.ufrag, str) or not _UFRAG.match(self.ufrag):
            raise ParametersError("ice-ufrag", f"{self.ufrag!r} is not 4 to 256 ice-chars (RFC 8839 s5.4)")
        if not isinstance(self.pwd, str) or not _PWD.match(self.pwd):
            raise ParametersError("ice-pwd", "is not 22 to 256 ice-chars (RFC 8839 s5.4)")
        object.__setattr__(self, "options", tuple(self.options))
        for option in self.options:
            # The grammar has ice-chars only, but tags with a hyphen are about ("google-ice").
            if not isinstance(option, str) or not _OPTION.match(option):
                raise ParametersError("ice-options", f"{option!r} is not a tag (RFC 8839 s5.6)")
        if self.pacing is not None and not _is_pacing(self.pacing):
            raise ParametersError("ice-pacing", f"{self.pacing!r} is not a number of 1 to 10 digits (RFC 8839 s5.5)")


def _is_pacing(value: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**10
