"""A request on its way through the server, and how it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ice_tcp.server.core.actions import Client, Leg
from ice_tcp.stun import Attribute, ErrorNumber, Message

if TYPE_CHECKING:
    from ice_tcp.server.core.accounts import Identity


class Refusal(Exception):  # noqa: N818 - it is the word for what it says, and no failure of ours
    """The request gets an error response; ``detail`` is for the trace.

    ``signed`` is False for what nobody can check, because there is no key yet (RFC 8489 s9.2.4).
    """

    def __init__(
        self, code: ErrorNumber, detail: str = "", *, attributes: Sequence[Attribute] = (), signed: bool = True
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.attributes = attributes
        self.signed = signed


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded request; ``identity`` is there once it is authenticated."""

    client: Client
    leg: Leg
    message: Message
    identity: Identity | None = None
