"""The cases, by what they are about. Importing this package fills `interop.conformance.case.CASES`."""

from interop.conformance.cases import (
    stun_messages,
    stun_server,
)

__all__ = [
    "stun_messages",
    "stun_server",
]
