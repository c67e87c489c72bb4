"""The table of peers: what is asked of each, and what is said where one is missing or fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from interop.peers import cells as table
from interop.peers import command
from interop.peers.cells import Cell, CellError, Name, all_cells
from interop.peers.exchange import MESSAGE_BYTES, MESSAGES, checksum, message

PEERS = ("aioice", "aiortc", "libnice", "libwebrtc in Node", "Chromium", "Firefox", "coturn")


class NoRun:
    """In place of the lab's, which wants root."""

    def name(self, *parts: str) -> str:
        return "-".join(parts)

    def __enter__(self) -> NoRun:
        return self

    def __exit__(self, *_: object) -> None: ...


def cell(peer: str, error: Exception | None = None) -> Cell:
    async def body(_name: Name, _directory: Path) -> str:
        if error is not None:
            raise error
        return "tcp so host > host"

    return Cell(peer, "offers", "TCP", "data channel", body)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    found: list[Cell] = []
    monkeypatch.setattr(command, "Run", NoRun)
    monkeypatch.setattr(command, "all_cells", lambda: found)
    monkeypatch.setattr(command, "missing", lambda: {"Absent": "absent-package"})
    return found


def test_every_peer_has_its_cells_and_both_roles() -> None:
    found = all_cells()
    assert tuple(dict.fromkeys(each.peer for each in found)) == PEERS
    assert len({each.title for each in found}) == len(found)
    for peer in PEERS[:-1]:
        assert len({each.role for each in found if each.peer == peer}) == 2, peer


def test_the_sum_is_the_one_that_is_known() -> None:
    """FNV-1a's own test vectors, and that messages differ."""
    assert [checksum([text]) for text in (b"", b"a", b"foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    assert len({message(number) for number in range(MESSAGES)}) == MESSAGES
    assert {len(message(number)) for number in range(MESSAGES)} == {MESSAGE_BYTES}
    assert checksum([b"fo", b"obar"]) == checksum([b"foobar"])


def test_a_candidate_whose_statistics_are_silent_is_known_by_what_was_offered() -> None:
    selected = {"tcpType": None, "address": "192.0.2.1", "port": 4000}
    offered = ((9, "active"), (4000, "so"))
    sdp = "\n".join(f"a=candidate:1 1 TCP 1 192.0.2.1 {port} typ host tcptype {kind}" for port, kind in offered)
    assert table._is_of("so", selected, sdp)  # noqa: SLF001 - what proves a simultaneous open
    assert not table._is_of("active", selected, sdp)  # noqa: SLF001
    assert not table._is_of("so", {**selected, "tcpType": "active"}, sdp)  # noqa: SLF001


def test_all_that_passed_is_told(cells: list[Cell]) -> None:
    cells += [cell("Present"), cell("Other")]
    result = CliRunner().invoke(command.command, [])
    assert result.exit_code == 0
    assert "tcp so host > host" in result.output
    assert result.output.endswith("2 of 2 passed\n")


def test_what_failed_says_why_and_the_others_still_run(cells: list[Cell]) -> None:
    cells += [cell("Present", CellError("relay, not direct")), cell("Other")]
    result = CliRunner().invoke(command.command, [])
    assert result.exit_code == 1
    assert "FAILED: relay, not direct" in result.output
    assert result.output.endswith("1 of 2 passed\n")


def test_a_peer_that_is_not_installed_is_named_and_no_success(cells: list[Cell]) -> None:
    cells += [cell("Absent")]
    result = CliRunner().invoke(command.command, ["--json"])
    assert result.exit_code == 1
    assert [row["verdict"] for row in json.loads(result.output)] == ["not installed: absent-package"]


def test_an_unknown_peer_is_a_misuse(cells: list[Cell]) -> None:
    cells += [cell("Present")]
    result = CliRunner().invoke(command.command, ["--peer", "nobody"])
    assert result.exit_code == 2
    assert "there are Present" in result.output


def test_an_error_of_ours_is_not_hidden(cells: list[Cell]) -> None:
    cells += [cell("Present", KeyError("a fault of the table"))]
    result = CliRunner().invoke(command.command, [])
    assert isinstance(result.exception, KeyError)
