"""What the runner makes of cases that pass, fail, hang or do not apply."""

from __future__ import annotations

import asyncio
import json
from xml.etree.ElementTree import fromstring

import pytest
from rich.console import Console

from interop.conformance.case import Case, Level, NotConforming, NotObservable, case
from interop.conformance.reports.documents import as_json, as_junit
from interop.conformance.reports.packets import packet_lines
from interop.conformance.reports.page import as_page
from interop.conformance.reports.table import print_findings, print_table, print_totals, stale_deviations
from interop.conformance.runner import SCALE, Column, Outcome, Result, run_all, run_case
from interop.conformance.stun import Attr, Draft, Kind, error_value, xor_address
from interop.conformance.target import Capability, TargetError
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import Packet, message_in
from tests.conformance.scripted import ScriptedTarget, case_of


async def _passes(trial: Trial) -> str:
    return "seen"


async def _fails(trial: Trial) -> None:
    await trial.create(UDP)
    trial.udp().send(Draft(Kind.REQUEST).add(Attr.USERNAME, b"<a>:b").fingerprint())
    raise NotConforming("[nothing] came")


async def _hangs(trial: Trial) -> None:
    await asyncio.sleep(60)


async def _breaks(trial: Trial) -> None:
    raise ZeroDivisionError("oops")


def run(case: Case, target: ScriptedTarget | None = None, *, slow: bool = False) -> Result:
    return asyncio.run(run_case(target or ScriptedTarget(), case, slow=slow))


def test_a_case_that_returns_has_passed_and_keeps_no_packets() -> None:
    result = run(case_of(_passes))
    assert (result.outcome, result.evidence, result.packets) == (Outcome.PASSED, "seen", ())


def test_a_failure_keeps_its_evidence_and_its_packets_and_closes_the_agent() -> None:
    target = ScriptedTarget()
    result = run(case_of(_fails), target)
    assert (result.outcome, result.evidence) == (Outcome.FAILED, "[nothing] came")
    assert [packet.outgoing for packet in result.packets] == [True]
    assert len(target.closed) == 1


def test_a_written_deviation_is_told_apart_from_a_failure() -> None:
    target = ScriptedTarget(deviations={"8445-7-it-is-done": "It is better so"})
    assert run(case_of(_fails), target).outcome is Outcome.DEVIATES
    assert not run(case_of(_fails), target).violates


def test_what_the_target_cannot_do_is_not_applicable() -> None:
    result = run(case_of(_passes, Capability.UDP, Capability.LITE))
    assert (result.outcome, result.evidence) == (Outcome.NOT_APPLICABLE, "the target has no lite")


def test_a_case_that_hangs_and_one_that_raises_are_broken() -> None:
    assert run(case_of(_hangs, limit=0.05)).outcome is Outcome.BROKEN
    result = run(case_of(_breaks))
    assert (result.outcome, result.evidence) == (Outcome.BROKEN, "ZeroDivisionError: oops")
    assert result.violates


def test_what_the_agent_refuses_to_do_is_a_failure_of_the_agent() -> None:
    async def restart(trial: Trial) -> None:
        await trial.create(UDP)
        await trial.agent.restart()

    assert run(case_of(restart)).evidence == "the agent says: there is no agent"


def test_real_time_is_for_the_patient() -> None:
    seen = []

    async def look(trial: Trial) -> None:
        await trial.create(UDP)
        assert trial.setup is not None
        seen.append((trial.scale, trial.setup.scale, trial.seconds(5.0)))

    able = ScriptedTarget(Capability.UDP, Capability.SCALED)
    assert run(case_of(look, slow=True)).outcome is Outcome.NOT_RUN
    assert run(case_of(look, scaled=True)).outcome is Outcome.NOT_RUN
    assert run(case_of(look, scaled=True), able).outcome is Outcome.PASSED
    assert run(case_of(look, scaled=True), able, slow=True).outcome is Outcome.PASSED
    assert run(case_of(look, slow=True), slow=True).outcome is Outcome.PASSED
    assert seen == [(SCALE, SCALE, 5.0 * SCALE), (1.0, 1.0, 5.0), (1.0, 1.0, 5.0)]


def test_only_a_must_is_violated() -> None:
    assert run(case_of(_fails)).violates
    assert not run(case_of(_fails, level=Level.SHOULD)).violates
    assert not run(case_of(_fails, Capability.LITE)).violates


def test_a_may_can_be_declined() -> None:
    assert run(case_of(_fails, level=Level.MAY)).outcome is Outcome.DECLINED


def test_what_this_machine_does_not_show_is_not_run() -> None:
    async def look(trial: Trial) -> None:
        raise NotObservable("too dark")

    result = run(case_of(look))
    assert (result.outcome, result.evidence) == (Outcome.NOT_RUN, "too dark")


def test_the_same_case_twice_is_a_mistake() -> None:
    register = case(8445, "99", Level.MUST, "It is what the RFC says.")

    async def doubled(trial: Trial) -> None:
        """It is done."""

    from interop.conformance.case import CASES

    register(doubled)
    try:
        with pytest.raises(ValueError, match="two cases"):
            register(doubled)
    finally:
        del CASES["8445-99-doubled"]


def test_errors_that_nobody_handles_are_counted_and_violate() -> None:
    async def stumble(trial: Trial) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0.01)

    column = asyncio.run(run_all(ScriptedTarget(), [case_of(stumble)]))
    assert column.results["8445-7-it-is-done"].outcome is Outcome.PASSED
    assert column.unhandled == ("ZeroDivisionError: integer division or modulo by zero",)
    assert column.violates


# Reports


def _columns() -> tuple[list[Case], list[Column]]:
    cases = [
        case_of(_passes, id_="8445-7-passes"),
        case_of(_fails, id_="8445-7-fails"),
        case_of(_fails, id_="8445-7-deviates"),
        case_of(_passes, Capability.LITE, id_="8445-7-lite"),
        case_of(_passes, id_="8445-7-slow", slow=True),
        case_of(_breaks, id_="8445-7-breaks"),
    ]
    deviations = {"8445-7-deviates": "It is <better> so", "8445-7-passes": "It was so"}
    return cases, [asyncio.run(run_all(ScriptedTarget(deviations=deviations), cases))]


def test_results_come_in_the_order_of_the_cases() -> None:
    cases, (column,) = _columns()
    assert list(column.results) == [case.id for case in cases]


def test_json_has_cases_and_results() -> None:
    cases, columns = _columns()
    document = json.loads(json.dumps(as_json(cases, columns)))
    assert document["cases"]["8445-7-passes"]["sentence"] == "It is what the RFC says."
    results = document["targets"]["scripted"]["results"]
    assert {id_: each["outcome"] for id_, each in results.items()} == {
        "8445-7-passes": "passed",
        "8445-7-fails": "failed",
        "8445-7-deviates": "deviates",
        "8445-7-lite": "not applicable",
        "8445-7-slow": "not run",
        "8445-7-breaks": "broken",
    }
    assert results["8445-7-deviates"]["deviation"] == "It is <better> so"
    assert any("USERNAME '<a>:b'" in line for line in results["8445-7-fails"]["packets"])


def test_junit_counts_failures_errors_and_what_was_skipped() -> None:
    suite = fromstring(as_junit(_columns()[1])).find("testsuite")  # noqa: S314 - it is our own
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "1", "1", "3"]
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("message") == "[nothing] came"
    assert failure.text is not None and "peer -> agent" in failure.text


def test_the_page_escapes_what_it_shows() -> None:
    page = as_page(*_columns())
    assert "&lt;a&gt;:b" in page
    assert "<a>" not in page
    assert "It is &lt;better&gt; so" in page
    assert "1 of 4" in page


def test_the_table_and_the_findings_are_for_people() -> None:
    cases, columns = _columns()
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        print_table(console, cases, columns)
        print_findings(console, columns, packets=True)
        print_totals(console, columns)
    text = captured.get()
    assert "[nothing] came" in text
    assert "RFC 8445 s7, MUST: It is what the RFC says." in text
    assert "USERNAME '<a>:b'" in text
    assert "scripted 1: 1 passed, 1 failed, 1 deviates, 1 not applicable, 1 not run, 1 broken" in text


def test_a_deviation_that_is_none_any_more_is_noticed() -> None:
    assert stale_deviations(_columns()[1][0]) == ["8445-7-passes"]


def test_packets_are_told_in_words() -> None:
    id_ = b"\1" * 12
    error = Draft(Kind.ERROR, id_).add(Attr.ERROR_CODE, error_value(487, "Role Conflict")).fingerprint(spoiled=True)
    success = Draft(Kind.SUCCESS, id_).add(Attr.XOR_MAPPED_ADDRESS, xor_address(("192.0.2.1", 5), id_)).add(0xFF00)
    near, far = ("127.0.0.1", 1), ("127.0.0.1", 2)
    packets = [
        Packet(10.0, False, "udp", near, far, bytes(error), message=message_in(bytes(error))),
        Packet(10.5, True, "udp", near, far, bytes(success), message=message_in(bytes(success))),
        Packet(11.0, True, "tcp", near, far, b"x" * 60),
        Packet(12.0, False, "tcp", near, far, event="closed"),
    ]
    lines = list(packet_lines(packets))
    assert lines[0].split() == [
        *("0.0000", "s", "agent", "->", "peer", "udp", "127.0.0.1:2", "->", "127.0.0.1:1"),
        *("Binding", "error", "response", id_.hex()),
    ]
    assert lines[1].strip() == "ERROR-CODE 487 'Role Conflict'"
    assert lines[2].strip() == "FINGERPRINT wrong"
    assert lines[4].strip() == "XOR-MAPPED-ADDRESS 192.0.2.1:5"
    assert lines[5].strip() == "0xff00"
    assert lines[6].endswith("60 bytes: " + "78" * 48 + "...")
    assert lines[7].endswith("closed")


def test_too_many_packets_are_counted() -> None:
    packets = [Packet(1.0, True, "udp", ("", 0), ("", 0), b"x")] * 205
    assert list(packet_lines(packets))[-1] == "... and 5 more"


def test_an_agent_that_cannot_be_created_is_a_failure() -> None:
    def refuse() -> None:
        raise TargetError("no socket left")

    async def create(trial: Trial) -> None:
        await trial.create(UDP)

    assert run(case_of(create), ScriptedTarget(fails=refuse)).evidence == "the agent says: no socket left"
