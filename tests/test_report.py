"""The page that traces make: what it says, that it can be trusted with hostile text, and that it is drawn right."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from candidates.candidate import Candidate
from ice_tcp import TraceFile, read_trace
from ice_tcp.cli import main
from ice_tcp.core.events import AgentState, MappingBehaviour, MappingFound, StateChanged
from ice_tcp.core.trace import CandidateIgnored, CheckSent, Entry, RemoteCandidateKept, RequestReceived
from ice_tcp.core.verdicts import Verdict
from ice_tcp.report import Lines, Side, StoryError, ladder_svg, report_page, tell
from ice_tcp.tracefile import Trace
from ice_tcp.tracefile.writer import Clock
from tests.core.net import Node
from tests.core.test_trace import busy_session, predicting_session, served_session, tcp_session

WALL = 1_000_000.0


def written(path: Path, entries: Sequence[tuple[float, Entry]], *, wall: float = WALL, redact: bool = False) -> Trace:
    with TraceFile(path, redact=redact, zero=Clock(wall, 0.0)) as trace:
        for at, entry in entries:
            trace(at, entry)
    return read_trace(path)


def trace_of(node: Node, path: Path, *, wall: float = WALL, redact: bool = False) -> Trace:
    entries: list[tuple[float, Entry]] = sorted([*node.trace, *node.events], key=lambda each: each[0])
    return written(path, entries, wall=wall, redact=redact)


@pytest.fixture
def both(tmp_path: Path) -> list[Trace]:
    one, other = busy_session()
    return [trace_of(one, tmp_path / "left.jsonl"), trace_of(other, tmp_path / "right.jsonl")]


class Tree(HTMLParser):
    """Elements that are open, and what stood in the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "line", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def headline_of(page: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page)
    assert found is not None
    return found[1]


def test_it_says_how_the_two_are_connected(both: list[Trace]) -> None:
    page = report_page(both)
    assert headline_of(page).startswith("Connected directly over UDP")
    assert "after checks began" in headline_of(page)
    assert Tree(page).open == []


def test_it_says_that_a_session_failed_why_and_what_to_do(tmp_path: Path) -> None:
    end = StateChanged(AgentState.FAILED, Verdict.ALL_PAIRS_FAILED)
    trace = written(tmp_path / "f.jsonl", [(0.0, StateChanged(AgentState.CHECKING)), (40.0, end)])
    page = report_page([trace])
    assert headline_of(page).startswith("Failed: all-pairs-failed.")
    assert Verdict.ALL_PAIRS_FAILED.remedy.partition("'")[0] in page


def test_without_an_end_it_claims_none(tmp_path: Path) -> None:
    page = report_page([written(tmp_path / "f.jsonl", [(0.0, StateChanged(AgentState.CHECKING))])])
    assert headline_of(page) == "No path was found as long as the trace goes on."


def test_every_candidate_and_pair_is_there_with_its_cause(both: list[Trace]) -> None:
    page = Tree(report_page(both)).text
    sides, _ = tell(both)
    for side in sides:
        assert side.pairs
        assert side.local
        assert side.remote
        for told in (*side.local, *side.remote):
            assert str(told.candidate.address) in page
            assert told.rule in page
        for pair in side.pairs.values():
            if pair.verdict is not None:
                assert f"{pair.verdict}: {pair.verdict.remedy}" in page


def test_a_pair_that_worked_has_no_cause_of_failure(both: list[Trace]) -> None:
    sides, _ = tell(both)
    selected = [pair for side in sides for pair in side.pairs.values() if pair.selected]
    assert len(selected) >= 2
    assert {pair.verdict for pair in selected} == {None}
    assert all(pair.checks and pair.rtt is not None for pair in selected)


def test_candidates_that_are_not_used_stand_with_whose_they_are(tmp_path: Path) -> None:
    candidate = next(told.candidate for told in tell_one(tmp_path).local)
    entries = [(0.0, CandidateIgnored(candidate, "ours")), (0.1, CandidateIgnored(candidate, "theirs", remote=True))]
    (side,), _ = tell([written(tmp_path / "f.jsonl", entries)])
    assert [(told.rule, told.used) for told in side.local] == [("ours", False)]
    assert [(told.rule, told.used) for told in side.remote] == [("theirs", False)]


def tell_one(tmp_path: Path) -> Side:
    (side,), _ = tell([trace_of(busy_session()[0], tmp_path / "one.jsonl")])
    return side


def test_servers_and_nats_are_told(tmp_path: Path) -> None:
    trace = trace_of(served_session(), tmp_path / "f.jsonl")
    page = report_page([trace])
    (side,), _ = tell([trace])
    assert side.servers
    for _, report in side.servers.values():
        assert report.server in page
    assert "Messages with servers" in page


def test_the_behaviour_of_a_nat_is_told_in_words(tmp_path: Path) -> None:
    entry = MappingFound(busy_session()[0].agent.local_candidates[0].transport, "192.0.2.1", MappingBehaviour.DEPENDENT)
    page = report_page([written(tmp_path / "f.jsonl", [(0.0, entry)])])
    assert "each peer meets another port than the servers see" in page


def test_predicted_ports_are_told(tmp_path: Path) -> None:
    assert "were predicted" in report_page([trace_of(predicting_session(), tmp_path / "f.jsonl")])


# The ladder


def test_a_check_slants_to_when_it_came_and_its_answer_from_there(both: list[Trace]) -> None:
    sides, _ = tell(both)
    drawing = ladder_svg(sides)
    checks = re.findall(r'<line class="check" x1="(\d+)" y1="(\d+)" x2="(\d+)" y2="(\d+)"', drawing)
    answers = re.findall(r'<line class="answer" x1="(\d+)" y1="(\d+)" x2="(\d+)" y2="(\d+)"', drawing)
    assert checks
    assert len(answers) == len(checks)
    assert all(int(y2) > int(y1) for _, y1, _, y2 in (*checks, *answers))
    arrivals = {(x2, y2) for _, _, x2, y2 in checks}
    assert {(x1, y1) for x1, y1, _, _ in answers} == arrivals
    assert '<path class="lost"' not in drawing


def test_a_check_that_did_not_come_ends_in_a_cross(tmp_path: Path) -> None:
    one, other = busy_session()
    entries = [each for each in (*other.trace, *other.events) if not isinstance(each[1], RequestReceived)]
    sides, _ = tell([trace_of(one, tmp_path / "a.jsonl"), written(tmp_path / "b.jsonl", entries)])
    assert '<path class="lost"' in ladder_svg(sides)


def test_of_one_side_the_other_is_its_peer(tmp_path: Path) -> None:
    sides, _ = tell([trace_of(busy_session()[0], tmp_path / "f.jsonl")])
    drawing = ladder_svg(sides)
    assert ">This side</text>" in drawing
    assert ">Peer</text>" in drawing
    assert '<path class="lost"' not in drawing


def test_dials_and_connections_are_drawn(tmp_path: Path) -> None:
    sides, _ = tell([trace_of(tcp_session(), tmp_path / "f.jsonl")])
    drawing = ladder_svg(sides)
    assert '<line class="dial"' in drawing
    assert "SYN #" in drawing


def test_what_is_too_much_is_left_out_and_said(both: list[Trace]) -> None:
    sides, _ = tell(both)
    drawing = ladder_svg(sides, most=3)
    assert re.search(r">\d+ more are left out<", drawing)
    assert drawing.count('class="time"') == 4


def test_the_ladder_of_servers_has_their_lifeline(tmp_path: Path) -> None:
    sides, _ = tell([trace_of(served_session(), tmp_path / "f.jsonl")])
    drawing = ladder_svg(sides, Lines.SERVERS)
    assert ">Servers</text>" in drawing
    assert "Allocate" in drawing


# Two clocks


def test_two_clocks_that_differ_are_brought_together_by_the_checks(tmp_path: Path) -> None:
    one, other = busy_session()
    traces = [trace_of(one, tmp_path / "a.jsonl"), trace_of(other, tmp_path / "b.jsonl", wall=WALL + 300)]
    sides, notes = tell(traces)
    assert any("clocks of the two hosts" in note for note in notes)
    sent = {entry.transaction_id: at for at, entry in sides[0].entries if isinstance(entry, CheckSent)}
    came = [
        (sent[entry.transaction_id], at)
        for at, entry in sides[1].entries
        if isinstance(entry, RequestReceived) and entry.transaction_id in sent
    ]
    assert came
    assert all(0 <= at - left <= 0.2 for left, at in came)


def test_traces_of_two_sessions_make_no_page(tmp_path: Path) -> None:
    one = trace_of(busy_session()[0], tmp_path / "a.jsonl")
    other = trace_of(served_session(), tmp_path / "b.jsonl", wall=WALL + 90_000)
    with pytest.raises(StoryError, match="not of one session"):
        tell([one, other])
    with pytest.raises(StoryError, match="one trace or two"):
        tell([one, one, one])


# Hostile text

MARKUP = "<script>alert(1)</script><b onload=x>&"


def test_text_of_others_is_text(tmp_path: Path) -> None:
    candidate: Candidate = busy_session()[0].agent.local_candidates[0]
    entries: list[tuple[float, Entry]] = [
        (0.0, CandidateIgnored(candidate, MARKUP)),
        (0.1, RemoteCandidateKept(dataclasses.replace(candidate, foundation="a"))),
    ]
    trace = dataclasses.replace(written(tmp_path / "f.jsonl", entries), name=MARKUP)
    tree = Tree(report_page([trace], title=MARKUP))
    assert not {"script", "b"} & tree.tags
    assert "onload" not in tree.attributes
    assert MARKUP in tree.text


def test_the_page_may_load_and_run_nothing(both: list[Trace]) -> None:
    page = report_page(both)
    assert "default-src 'none'" in page
    assert not {"script", "img", "link", "iframe", "object"} & Tree(page).tags
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", page)


# The command


def test_the_command_writes_the_page_and_says_the_verdict(both: list[Trace], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", both[0].name, both[1].name])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Connected directly over UDP")
    assert (tmp_path / "left.html").read_text("utf-8").startswith("<!doctype html>")


def test_it_redacts_on_request(both: list[Trace], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = CliRunner().invoke(main, ["report", both[0].name, both[1].name, "-o", str(page), "--redact"])
    assert result.exit_code == 0, result.output
    text = page.read_text("utf-8")
    sides, _ = tell(both)
    hosts = {told.candidate.address.host for side in sides for told in (*side.local, *side.remote)}
    assert hosts
    assert not [host for host in hosts if host in text]
    assert "redacted" in text


def test_a_trace_that_is_cut_short_makes_a_page_that_says_so(both: list[Trace], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(Path(both[0].name).read_bytes()[:-200])
    result = CliRunner().invoke(main, ["report", str(cut)])
    assert result.exit_code == 0, result.output
    assert "ends in the middle of a record" in result.stderr
    assert "ends in the middle of a record" in (tmp_path / "cut.html").read_text("utf-8")


@pytest.mark.parametrize("content", [b"", b"no trace\n", b"\0\1\2"])
def test_what_is_no_trace_is_a_wrong_argument(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    result = CliRunner().invoke(main, ["report", str(path)])
    assert result.exit_code == 2
    assert "f.jsonl" in result.output
    assert not (tmp_path / "f.html").exists()


def test_an_older_page_stays_if_the_new_one_cannot_be_written(both: list[Trace], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", both[0].name, "-o", str(tmp_path / "no" / "page.html")])
    assert result.exit_code == 1
    assert "page.html" in result.output
