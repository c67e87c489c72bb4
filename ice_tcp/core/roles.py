"""Controlling or controlled, and the tie-breaker (RFC 8445 s6.1.1, s7.3.1.1)."""

from __future__ import annotations

from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.events import Role, RoleChanged
from ice_tcp.core.trace import RoleConflict


class Roles:
    """The agent's role in the session."""

    __slots__ = ("_context", "role", "tie_breaker")

    def __init__(self, context: Context, role: Role) -> None:
        self._context = context
        self.role = role
        self.tie_breaker = context.rng.getrandbits(64)

    @property
    def controlling(self) -> bool:
        return self.role is Role.CONTROLLING

    def attribute(self) -> tuple[int, bytes]:
        """What a check says of our role."""
        encode = stun.ice_controlling if self.controlling else stun.ice_controlled
        return encode(self.tie_breaker)

    def switch(self, now: float) -> None:
        """Take the other role. The pairs' priorities depend on it: reprioritise them."""
        self.role = Role.CONTROLLED if self.controlling else Role.CONTROLLING
        self._context.note(now, RoleConflict(switched=True))
        self._context.events.append(RoleChanged(self.role))

    def redraw(self) -> None:
        """After a 487 the tie-breaker changes (RFC 8445 s7.2.5.1)."""
        self.tie_breaker = self._context.rng.getrandbits(64)

    def conflicts(self, message: stun.Message) -> bool:
        return (message.ice_controlling if self.controlling else message.ice_controlled) is not None

    def keeps_role_against(self, message: stun.Message) -> bool:
        """Of two equal roles, the larger tie-breaker controls (RFC 8445 s7.3.1.1)."""
        if self.controlling:
            return self.tie_breaker >= (message.ice_controlling or 0)
        return self.tie_breaker < (message.ice_controlled or 0)
