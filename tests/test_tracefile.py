"""Trace files: what was written is read back, whole or cut short, without secrets, and redacted where that is asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ice_tcp import Role, TraceError, TraceFile, read_trace
from ice_tcp.core.events import Restarted
from ice_tcp.core.trace import Entry
from ice_tcp.tracefile.format import WITHHELD
from ice_tcp.tracefile.writer import Clock
from tests.core.net import Node
from tests.core.test_trace import busy_session, predicting_session, served_session, tcp_session

ZERO = Clock(1_000_000.0, 0.0)


def entries(node: Node) -> list[tuple[float, Entry]]:
    return [*node.trace, *node.events]


def sessions() -> list[Node]:
    return [*busy_session(), tcp_session(), served_session(), predicting_session()]


def written(path: Path, told: list[tuple[float, Entry]], *, redact: bool = False) -> Path:
    with TraceFile(path, redact=redact, zero=ZERO) as trace:
        for at, entry in told:
            trace(at, entry)
    return path


def without_password(entry: Entry) -> Entry:
    if not isinstance(entry, Restarted):
        return entry
    return dataclasses.replace(entry, parameters=dataclasses.replace(entry.parameters, pwd=WITHHELD))


def test_what_is_written_is_read_back_but_for_passwords(tmp_path: Path) -> None:
    for node in sessions():
        told = [(at, entry) for at, entry in entries(node)]
        read = read_trace(written(tmp_path / "f.jsonl", told))
        kept = [without_password(entry) for _, entry in told][: len(read.entries)]
        assert [entry for _, entry in read.entries] == kept
        assert len(kept) > 3


def test_a_password_is_never_written(tmp_path: Path) -> None:
    one, _ = busy_session()
    restarts = one.all_events(Restarted)
    text = written(tmp_path / "f.jsonl", [(1.0, each) for each in restarts]).read_text("ascii")
    assert restarts
    assert not [each for each in restarts if each.parameters.pwd in text]


def test_a_trace_cut_at_any_byte_is_read_up_to_there_or_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "f.jsonl", entries(served_session())).read_bytes()
    first = whole.index(b"\n")
    cut = tmp_path / "cut.jsonl"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        if size < first:
            with pytest.raises(TraceError, match=r"cut\.jsonl: "):
                read_trace(cut)
            continue
        trace = read_trace(cut)
        complete = size == first or whole[size - 1 : size + 1].find(b"\n") >= 0
        assert (trace.cut_line is None) is complete


@pytest.mark.parametrize("content", [b"", b"\x7fELF\0\1", b"hello\n", b"{}\n", b"[1]\n", b"{" * 3_000_000])
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"other\.jsonl"):
        read_trace(path)


def test_a_file_that_is_no_trace_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(TraceError, match="not overwritten"):
        TraceFile(path)
    assert path.read_text() == "mine"


def test_redaction_leaves_no_address_of_the_session(tmp_path: Path) -> None:
    one, _ = busy_session()
    hosts = {each.address.host for each in (*one.agent.local_candidates, *one.agent.remote_candidates)}
    text = written(tmp_path / "f.jsonl", entries(one), redact=True).read_text("ascii")
    assert hosts
    assert not [host for host in hosts if f'"{host}' in text or f"[{host}]" in text]
    assert Role.CONTROLLING in text
