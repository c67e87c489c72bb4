"""The demonstration as lines of text, one for each thing that happens: for pipes and logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ice_tcp.demo import words
from ice_tcp.demo.plan import Payload
from ice_tcp.demo.record import CandidateSeen, Observation, PairSeen, PathSeen, Record, ServerSeen
from ice_tcp.demo.sender import Outcome
from ice_tcp.gather.words import asked, kind

LABEL_WIDTH: Final = 16
"""Characters; the labels of the `summary` fit."""


class PlainView:
    """Writes lines as things happen."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def begin(self, payload: Payload, sender: Record) -> None:
        self._write(f"{words.payload_name(payload)}, {words.size(payload.size)}: from this process to another")
        self._write(f"this side, the sender, is {sender.role}; only loopback addresses are used")
        self._write("")

    def observe(self, observation: Observation) -> None:
        at = f"{observation.at * 1000:8.1f} ms  "
        match observation:
            case CandidateSeen(candidate=candidate, is_local=is_local):
                text = f"{'sender' if is_local else 'receiver':<8} {candidate.type:<5} {kind(candidate):<11} "
                text += f"{candidate.address!s:<46} priority {candidate.priority}"
            case ServerSeen(report=report):
                text = f"server   {asked(report)}: {words.what_server_said(observation)}"
            case PairSeen(record=pair):
                text = f"pair {pair.pair:<3} {kind(pair.local):<11} {words.ends(pair.local, pair.remote):<46} "
                text += words.state(pair)
            case PathSeen(path=path):
                text = "nominated" if path.nominated else "carries data, not yet nominated"
                text = f"selected {kind(path.local):<11} {words.ends(path.local, path.remote):<46} {text}"
        self._write(at + text)

    def progress(self, _: int) -> None:
        """Lines do not move; the end tells how long it took."""

    def end(self, outcome: Outcome) -> None:
        self._write("")
        for label, text in summary(outcome):
            self._write(f"{label:<{LABEL_WIDTH}}{text}" if label else text)


def summary(outcome: Outcome) -> list[tuple[str, str]]:
    """What came of it, as labels and texts; the last has no label."""
    if outcome.error is not None:
        return [("failed", f"{outcome.error.verdict}, seen by the {outcome.error.side}"), ("", outcome.error.remedy)]
    sender, receiver, receipt = outcome.sender, outcome.receiver, outcome.receipt
    assert receiver is not None and receipt is not None and sender.selected is not None
    path = sender.selected
    throughput = ("throughput", "too short to tell; try --size 64M")
    return [
        ("selected pair", f"{kind(path.local)} {words.ends(path.local, path.remote)}"),
        *_relay(sender),
        ("first valid", _times(sender.first_valid, receiver["first_valid_seconds"])),
        ("nominated", _times(sender.nominated, receiver["nominated_seconds"])),
        ("transfer", f"{words.throughput(receipt)}, {words.carrier(path.local)}"),
        *([throughput] if receipt.seconds < words.SHORT_SECONDS else []),
        ("SHA-256 sent", receipt.sha256_sent),
        ("SHA-256 arrived", str(receiver["sha256"])),
        ("", "The file arrived intact."),
    ]


def _relay(sender: Record) -> list[tuple[str, str]]:
    report = sender.relay()
    return [("relay", words.relay(report))] if report is not None else []


def _times(sender: float | None, receiver: float | None) -> str:
    return f"{words.milliseconds(sender)} (receiver: {words.milliseconds(receiver)}) after gathering began"
