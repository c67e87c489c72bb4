"""What the agent raises. Every one is a ConnectionError, so code for plain sockets handles them, too."""

from __future__ import annotations


class IceError(ConnectionError):
    """Base of what the agent raises about the connection; misuse raises ValueError or RuntimeError."""


class ConnectError(IceError):
    """No path was found, or the last one is lost for good; ``Agent.restart`` may help.

    ``verdict`` is the cause, a member of ``ice_tcp.Verdict``; ``remedy`` says what one can do about it.
    """

    def __init__(self, verdict: str, remedy: str) -> None:
        super().__init__(verdict, remedy)
        self.verdict = verdict
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.verdict}: {self.remedy}"


class NoPathError(IceError):
    """The component has no path at the moment: not yet connected, or about to win a lost path back."""


class ConnectionClosed(IceError):  # noqa: N818 - a state that one asks for, and the name that aioice uses
    """The agent is closed."""
