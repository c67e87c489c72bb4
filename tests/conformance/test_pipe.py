"""Targets that are programs: the protocol, and what becomes of programs that do not keep to it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.runner import Outcome, run_all
from interop.conformance.selection import select
from interop.conformance.target import Capability, Description, Setup, TargetError
from interop.conformance.targets import open_target
from interop.conformance.targets.pipe import PipeAgent, PipeTarget

ROOT: Final = Path(__file__).parent.parent.parent
EXAMPLE: Final = ROOT / "docs" / "examples" / "conformance_adapter.py"
SETUP: Final = Setup(controlling=True, kinds=frozenset({CandidateKind.UDP}))

HELLO: Final = 'say({"name": "mine", "version": "1.2", "capabilities": ["udp", "restart"]})'
PROGRAM: Final = f"""
import json, sys
def say(told): print(json.dumps(told), flush=True)
def ok(q, result=None): say({{"id": q["id"], "result": result}})
def no(q, error): say({{"id": q["id"], "error": error}})
{HELLO}
"""


def program(tmp_path: Path, body: str, start: str = PROGRAM) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(start + body, "utf-8")
    return [sys.executable, str(path)]


ANSWERS: Final = """
late = []
for line in sys.stdin:
    q = json.loads(line)
    match q["do"]:
        case "create": assert q["kinds"] == ["udp"] and q["controlling"] is True; ok(q)
        case "gather": ok(q, {"ufrag": "frag", "pwd": "p" * 22, "pacing": 50, "options": ["ice2"], "candidates": ["c"]})
        case "connect": late.append(q)
        case "receive": ok(q, {"data": "00ff"})
        case "selected-pair": ok(q, None if q["component"] == 2 else ["one", "two"])
        case "restart": no(q, "not today")
        case "end-of-candidates": ok(q); [ok(each) for each in late]
        case "send": assert q["data"] == "6869"; ok(q)
        case _: ok(q)
"""


def test_the_hello_says_what_it_is(tmp_path: Path) -> None:
    target = PipeTarget(program(tmp_path, ANSWERS))
    assert (target.name, target.version) == ("mine", "1.2")
    assert target.capabilities == {Capability.UDP, Capability.RESTART}


def test_everything_can_be_asked(tmp_path: Path) -> None:
    async def ask() -> None:
        agent = await PipeTarget(program(tmp_path, ANSWERS)).create(SETUP)
        assert await agent.gather() == Description("frag", "p" * 22, ("ice2",), False, 50, ("c",))
        await agent.set_remote(Description("a", "b"))
        await agent.add_remote_candidate("candidate:...")
        connecting = asyncio.create_task(agent.connect())
        await agent.send(b"hi", 1)
        assert await agent.receive(1) == b"\0\xff"
        assert await agent.selected_pair(1) == ("one", "two")
        assert await agent.selected_pair(2) is None
        assert not connecting.done()
        await agent.end_of_candidates()
        await connecting
        with pytest.raises(TargetError, match="not today"):
            await agent.restart()
        await agent.close()

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("sys.stdin.readline(); sys.exit(3)", "the program has ended"),
        ("sys.stdin.readline(); print('no JSON', flush=True); sys.stdin.read()", "does not speak the protocol"),
        ("q = json.loads(sys.stdin.readline()); no(q, 'too young'); sys.stdin.read()", "too young"),
    ],
)
def test_a_program_that_does_not_keep_to_it(tmp_path: Path, body: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint):
        asyncio.run(PipeAgent.start(program(tmp_path, body), SETUP))


@pytest.mark.parametrize("answer", ["None", "{}", "{'ufrag': 'f'}", "[1]"])
def test_a_description_that_is_none(tmp_path: Path, answer: str) -> None:
    body = f"q = json.loads(sys.stdin.readline()); ok(q)\nq = json.loads(sys.stdin.readline()); ok(q, {answer})"

    async def gather() -> None:
        agent = await PipeAgent.start(program(tmp_path, body), SETUP)
        try:
            await agent.gather()
        finally:
            await agent.close()

    with pytest.raises(TargetError, match="no description"):
        asyncio.run(gather())


@pytest.mark.parametrize(
    ("start", "complaint"),
    [
        ("", "cannot be tested"),
        ("print('[1]')", "does not say what it is"),
        ('print(\'{"name": "x"}\')', "does not say what it is"),
        ('print(\'{"name": "x", "version": "1", "capabilities": ["flying"]}\')', "flying"),
    ],
)
def test_a_program_that_does_not_say_what_it_is(tmp_path: Path, start: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint):
        PipeTarget(program(tmp_path, "", start))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(TargetError, match="cannot be tested"):
        open_target("pipe:/nowhere/at-all --fast")


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    body = "q = json.loads(sys.stdin.readline()); ok(q)\nimport time\nwhile True: time.sleep(60)"

    async def close() -> None:
        agent = await PipeAgent.start(program(tmp_path, body), SETUP)
        await agent.close()

    asyncio.run(close())


# The example of docs/conformance.md


def test_the_example_finds_what_the_shipped_adapter_finds() -> None:
    chosen = select(("8445-7.1", "8445-7.2", "8489-5", "8489-9.1.3"))
    cases = [case for case in chosen if not case.slow and Capability.TURN not in case.needs]
    columns = [
        asyncio.run(run_all(open_target(name), cases)) for name in (f"pipe:{sys.executable} {EXAMPLE}", "aioice")
    ]
    assert {result.outcome for result in columns[0].results.values()} >= {Outcome.PASSED, Outcome.FAILED}
    # What it can say less of itself does not apply: selected pairs are not asked for by these cases but one.
    apart = [id_ for id_, result in columns[0].results.items() if result.outcome is not columns[1].results[id_].outcome]
    assert apart == []


def test_the_document_has_the_whole_protocol() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text("utf-8")
    source = (ROOT / "interop" / "conformance" / "targets" / "pipe.py").read_text("utf-8")
    questions = re.findall(r'_ask\("([a-z-]+)"', source)
    assert len(questions) == 10
    assert [each for each in questions if f"`{each}`" not in text] == []
    assert [each for each in Capability if f"`{each}`" not in text] == []


# libnice


@pytest.mark.interop
def test_libnice_can_be_tested() -> None:
    column = asyncio.run(run_all(open_target("libnice"), select(("8445-7", "6544-7", "4571"))))
    outcomes = [result.outcome for result in column.results.values()]
    assert Outcome.BROKEN not in outcomes
    assert outcomes.count(Outcome.PASSED) > len(outcomes) / 2
