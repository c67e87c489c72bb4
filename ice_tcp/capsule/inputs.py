"""What enters the core: every public method of its agent that takes ``now``, found by looking, so none is forgotten."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from ice_tcp.capsule.codec import CodecError, decode, encode
from ice_tcp.core.agent import Agent


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the core. ``hints`` are the types of its arguments but ``now``, ``returns`` that of its result."""

    name: str
    signature: inspect.Signature
    hints: Mapping[str, Any]
    returns: Any

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """The arguments by name, defaults among them, and ``now``. Raises TypeError as the call itself would."""
        bound = self.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        del values["self"]
        now = values.pop("now")
        return values, now

    def encode(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Raises CodecError for arguments that the type hints do not allow."""
        return {name: encode(value, self.hints[name]) for name, value in arguments.items()}

    def decode(self, data: object) -> dict[str, Any]:
        """Raises CodecError."""
        if not isinstance(data, dict) or data.keys() != self.hints.keys():
            raise CodecError(f"the arguments of {self.name} are {', '.join(self.hints) or 'none'}")
        return {name: decode(value, self.hints[name]) for name, value in data.items()}


def _inputs() -> dict[str, Input]:
    found = {}
    for name, method in inspect.getmembers(Agent, inspect.isfunction):
        signature = inspect.signature(method)
        if not name.startswith("_") and "now" in signature.parameters:
            hints = get_type_hints(method)
            del hints["now"]
            returns = hints.pop("return")
            found[name] = Input(name, signature, hints, returns)
    return found


INPUTS: Final[Mapping[str, Input]] = _inputs()
