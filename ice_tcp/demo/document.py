"""The demonstration as one JSON document."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ice_tcp.demo.plan import Payload
from ice_tcp.demo.record import Observation, Record
from ice_tcp.demo.sender import Outcome


class DocumentView:
    """Writes nothing until the end, then everything as an object that `json.loads` reads."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write

    def begin(self, _: Payload, __: Record) -> None:
        """Nothing is written yet."""

    def observe(self, _: Observation) -> None:
        """The record keeps it."""

    def progress(self, _: int) -> None:
        """Nobody looks."""

    def end(self, outcome: Outcome) -> None:
        self._write(document(outcome))


def document(outcome: Outcome) -> dict[str, Any]:
    """Everything about a demonstration. Times are seconds since the side began to gather, sizes are bytes."""
    receipt, error, path = outcome.receipt, outcome.error, outcome.sender.selected
    relay = outcome.sender.relay()
    return {
        "version": version("ice-tcp"),
        "ok": error is None,
        "error": {"side": error.side, "verdict": error.verdict, "remedy": error.remedy} if error else None,
        "file": {
            "name": outcome.payload.path.name if outcome.payload.path else None,
            "generated": outcome.payload.path is None,
            "size": outcome.payload.size,
        },
        "transfer": {
            "stream": "quic" if path.local.tcptype is None else "tcp",
            "bytes": receipt.offer.size,
            "seconds": receipt.seconds,
            "bytes_per_second": receipt.bytes_per_second,
            "sha256_sent": receipt.sha256_sent,
            "sha256_received": receipt.sha256_received,
        }
        if receipt and path
        else None,
        "relay": {"leg": relay.leg, "server": str(relay.address), "found": [str(each) for each in relay.found]}
        if relay
        else None,
        "sender": outcome.sender.to_json(),
        "receiver": dict(outcome.receiver) if outcome.receiver else None,
    }
