"""Faults within our agent: what its parts would do wrong, for one agent, while others beside it are well."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeAlias

from interop.conformance.target import Setup, TargetAgent
from interop.conformance.targets.ice_tcp_agent import IceTcpTarget
from tests.conformance.agents import Unexcused

Method: TypeAlias = Callable[..., Any]

_FAULT: ContextVar[object] = ContextVar("fault", default=None)
"""The fault of the agent that is being created, and of the connections that its sockets accept."""


def with_fault(owner: type, name: str, make: Callable[[Method], Method]) -> type[IceTcpTarget]:
    """A target whose agents have a method replaced by what ``make`` makes of it; all other agents keep theirs.

    The method is that of an object which is made with the agent, or by its sockets. A timer of the loop may run
    in anybody's context, so each object is remembered when it is made.
    """
    fault = object()
    afflicted: list[object] = []
    original, initialise = (getattr(owner, each) for each in (name, "__init__"))
    faulty = make(original)

    @wraps(initialise)
    def remember(self: object, *args: Any, **named: Any) -> None:
        if _FAULT.get() is fault:
            afflicted.append(self)
        initialise(self, *args, **named)

    @wraps(original)
    def dispatch(self: object, *args: Any, **named: Any) -> Any:
        chosen = faulty if any(each is self for each in afflicted) else original
        return chosen(self, *args, **named)

    setattr(owner, "__init__", remember)  # noqa: B010 - mypy forbids the assignment
    setattr(owner, name, dispatch)

    class Faulty(Unexcused):
        async def create(self, setup: Setup) -> TargetAgent:
            _FAULT.set(fault)
            return await super().create(setup)

    return Faulty


def nothing(_original: Method) -> Method:
    """Instead of a method: do nothing."""
    return lambda *_args, **_named: None


def always(value: object) -> Callable[[Method], Method]:
    return lambda _original: lambda *_args, **_named: value
