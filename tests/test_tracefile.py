"""Trace files: what was written is read back, whole or cut short, without secrets, and redacted where that is asked."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates.candidate import Candidate, CandidateType, IPAddress, Transport, TransportAddress
from ice_tcp import Agent, Role, TraceError, TraceFile, read_trace
from ice_tcp.core.events import AgentState, GatheringDone, LocalCandidateFound, Restarted, StateChanged
from ice_tcp.core.trace import Entry, LocalCandidateKept, RemoteCandidateKept, SessionBegan
from ice_tcp.tracefile import Redactor, Trace, TraceEnded
from ice_tcp.tracefile.format import WITHHELD, Ending
from ice_tcp.tracefile.redaction import kind_of
from ice_tcp.tracefile.writer import Clock
from tests.agents import policy
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


def kinds_of(trace: Trace) -> set[type[object]]:
    return {type(entry) for _, entry in trace.entries}


def test_at_its_limit_a_trace_ends_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with TraceFile(path, limit=2000, zero=ZERO) as sink:
        for at in range(1000):
            sink(float(at), StateChanged(AgentState.CHECKING))
    assert path.stat().st_size <= 2000
    trace = read_trace(path)
    assert trace.ended == TraceEnded(Ending.LIMIT, 2000)
    assert len(trace.entries) > 10
    assert ["limit of 2000 bytes" in note for note in trace.notes] == [True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_logged_once_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sink = TraceFile("/dev/full", zero=ZERO)
    for at in range(3):
        sink(float(at), StateChanged(AgentState.CHECKING))
    sink.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the trace /dev/full ends here: No space left on device"
    ]


def test_it_closes_with_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"

    async def body() -> None:
        async with Agent(Role.CONTROLLING, policy=policy(), trace=TraceFile(path)) as agent:
            await agent.gather()

    asyncio.run(body())
    trace = read_trace(path)
    assert trace.notes == ()
    assert {SessionBegan, LocalCandidateKept, LocalCandidateFound, GatheringDone, StateChanged} <= kinds_of(trace)


def test_kinds_that_only_a_newer_version_knows_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", entries(tcp_session()))
    lines = path.read_text("ascii").splitlines(keepends=True)
    lines.insert(2, '{"at":1.0,"record":"TeleportTried","pair":7}\n')
    lines[1] = lines[1].replace('{"at"', '{"colour":"blue","at"')
    path.write_text("".join(lines), "ascii")
    trace = read_trace(path)
    assert trace.unknown == {"TeleportTried": 1}
    assert "TeleportTried" in trace.notes[0]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"at":1.0,"record":"StateChanged","state":"asleep"}', "'asleep' is not a valid AgentState"),
        ('{"at":1.0,"record":"StateChanged"}', "state is missing"),
        ('{"at":"soon","record":"StateChanged","state":"new"}', "is not a number"),
        ('{"at":1.0,"record":5}', "5 is not text"),
        ("[]", "no JSON object"),
        ("nonsense", "no JSON object"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, text: str) -> None:
    path = written(tmp_path / "f.jsonl", [])
    header, *rest = path.read_text("ascii").splitlines()
    path.write_text("\n".join([header, line, *rest]) + "\n", "ascii")
    with pytest.raises(TraceError, match=r"f\.jsonl:2: ") as raised:
        read_trace(path)
    assert text in str(raised.value)


def test_a_trace_of_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", [])
    path.write_text(path.read_text("ascii").replace('"version":1', '"version":7'), "ascii")
    with pytest.raises(TraceError, match=r"version 7.*up to version 1"):
        read_trace(path)


def is_no_form_of_another(ip: IPAddress) -> bool:
    return not ip.is_unspecified and getattr(ip, "ipv4_mapped", None) is None


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(is_no_form_of_another)


@given(st.lists(st.tuples(ADDRESSES, ADDRESSES, st.integers(1, 65535)), min_size=1, max_size=6))
def test_a_pseudonym_keeps_family_kind_equality_and_port_and_nothing_else(
    given_: list[tuple[IPAddress, IPAddress, int]],
) -> None:
    redactor = Redactor()
    seen: dict[IPAddress, IPAddress] = {}
    for address, related, port in given_:
        candidate = Candidate(
            foundation=f"{int(address)}"[:32],
            component=1,
            transport=Transport.UDP,
            priority=1,
            address=TransportAddress(str(address), port),
            type=CandidateType.SRFLX,
            related_address=TransportAddress(str(related), port),
        )
        entry = redactor.entry(RemoteCandidateKept(candidate))
        assert entry.candidate.foundation in {f"f{number}" for number in range(1, 7)}
        told = entry.candidate.related_address
        assert told is not None
        for before, after in ((address, entry.candidate.address), (related, told)):
            assert after.port == port
            assert after.ip is not None
            assert kind_of(after.ip) == kind_of(before)
            assert after.ip.version == before.version
            assert seen.setdefault(before, after.ip) == after.ip
    assert len(set(seen.values())) == len(seen)
