"""The first two lines of a capsule: what it is, and what the agent was made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from candidates.policy import Policy
from ice_tcp.capsule.codec import CodecError, decode, encode
from ice_tcp.core.events import Role

FORMAT: Final = "ice-tcp capsule"
VERSION: Final = 1
"""Of the format; a capsule of another one is refused."""


def preamble() -> dict[str, object]:
    """The first line."""
    return {"format": FORMAT, "version": VERSION, "ice_tcp": version("ice-tcp")}


@dataclass(frozen=True, slots=True)
class Made:
    """What an agent was made with, beside its randomness and its pacer."""

    role: Role
    policy: Policy = field(repr=False)
    components: int
    credentials: tuple[str, str] | None = field(repr=False)
    awaits_end: bool

    def to_json(self) -> dict[str, Any]:
        """With the secrets of the policy's servers. Raises CodecError."""
        plain = {name: encode(getattr(self, name), hint) for name, hint in _HINTS.items()}
        return {**plain, "policy": _revealed(self.policy), "effective": self.policy.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: object) -> Made:
        """Raises CodecError, which tells no secret."""
        keys = [*_HINTS, "policy", "effective"]
        if not isinstance(data, dict) or data.keys() != set(keys):
            raise CodecError(f"what an agent was made with is {', '.join(keys)}")
        plain = {name: decode(data[name], hint) for name, hint in _HINTS.items()}
        try:
            policy = Policy.model_validate(data["policy"])
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, each["loc"])) or "as a whole" for each in error.errors())
            raise CodecError(f"the policy is none that this version understands: {wrong}") from None
        if changed := _changed(data["effective"], policy.model_dump(mode="json")):
            raise CodecError(f"this version's policy has other defaults: {', '.join(changed)}")
        return cls(policy=policy, **plain)


_HINTS: Final[dict[str, Any]] = {
    "role": Role,
    "components": int,
    "credentials": tuple[str, str] | None,
    "awaits_end": bool,
}


def _revealed(policy: Policy) -> dict[str, Any]:
    """What the policy says, its secrets in clear, and no defaults: some may not be said beside others."""
    document = policy.model_dump(mode="json", exclude_unset=True)
    for server, entry in zip(policy.servers, document.get("servers", ()), strict=True):
        secrets = ((name, value) for name, value in server if isinstance(value, SecretStr))
        entry.update((name, value.get_secret_value()) for name, value in secrets)
    return document


def _changed(recorded: object, present: dict[str, Any]) -> list[str]:
    """The sections of the policy that are not what they were."""
    known = recorded if isinstance(recorded, dict) else {}
    return sorted(key for key in {*known, *present} if known.get(key) != present.get(key))
