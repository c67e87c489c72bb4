"""The capsule's file and its codec, and everything that a file can be instead of a capsule."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import stat
import typing
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from candidates.candidate import Candidate, CandidateType, InterfaceAddress, Transport, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy
from ice_tcp.capsule import Capsule, CapsuleError, Difference, RecordingAgent, Replayed, open_capsule
from ice_tcp.capsule.codec import CodecError, decode, encode, fields_of
from ice_tcp.capsule.header import VERSION
from ice_tcp.capsule.inputs import INPUTS
from ice_tcp.capsule.reading import MAX_LINE_BYTES
from ice_tcp.capsule.words import report
from ice_tcp.capsule.writer import LIMIT
from ice_tcp.cli import main
from ice_tcp.core import commands, events
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import Close, Command, Failure, ListenerId, OpenUdp, SendDatagram, SocketId
from ice_tcp.core.events import Restarted, Role
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.servers.server import servers_of
from tests.capsules import replayed

HERE = InterfaceAddress("eth0", "192.0.2.1")
PASSWORD = "turn-pass-word"
TURN = Policy.model_validate(
    {"servers": [{"url": "turn:192.0.2.9", "username": "alice", "password": PASSWORD}], "transports": ["udp"]}
)


def recorded(path: Path, *, limit: int = LIMIT, end: bool = True) -> RecordingAgent:
    """A short session in a capsule."""
    capsule = Capsule.create(path, limit=limit)
    agent = RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
    agent.gather([HERE], 10.0, servers_of(TURN, 0.0))
    for command in agent.commands():
        if isinstance(command, OpenUdp):
            agent.socket_opened(command.socket, TransportAddress(HERE.host, 4000), 10.25)
    agent.timer_expired(10.5)
    agent.close(11.0)
    if end:
        capsule.close()
    return agent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.capsule"


@pytest.fixture
def good(path: Path) -> Path:
    recorded(path)
    return path


def replay(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)], prog_name="ice-tcp")


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(change(lines)), "utf-8")


def edit(path: Path, number: int, **changes: Any) -> None:
    """Set keys of one line, counted from 1."""

    def change(lines: list[str]) -> list[str]:
        lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **changes}) + "\n"
        return lines

    rewrite(path, change)


def line_of(path: Path, key: str, value: object = None) -> int:
    """The first line that has the key, with this value if there is one."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        entry = json.loads(line)
        if key in entry and value in (None, entry[key]):
            return number
    raise AssertionError(f"no line with {key} {value}")


# What is no capsule


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"format": "another"}\n', b"\xff\xfe\0\0", b"[" * 100000 + b"\n"],
)
def test_what_is_no_capsule_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    result = replay(path)
    assert result.exit_code == 2
    assert f"{path} is not a capsule of ice-tcp" in result.output


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    result = replay(path)
    assert (result.exit_code, f"{path}: No such file or directory" in result.output) == (2, True)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for each, what in ((tmp_path, "Is a directory"), (tmp_path / "fifo", "not a regular file")):
        result = replay(each)
        assert (result.exit_code, what in result.output) == (2, True)


def test_a_huge_file_is_refused_unread(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    result = replay(path)
    assert (result.exit_code, "larger than any capsule" in result.output) == (2, True)


def test_a_huge_line_is_refused(good: Path) -> None:
    rewrite(good, lambda lines: [*lines[:2], "x" * (MAX_LINE_BYTES + 1), "\n"])
    result = replay(good)
    assert (result.exit_code, f"{good}:3: longer than" in result.output) == (2, True)


def test_another_version_of_the_format_is_refused(good: Path) -> None:
    edit(good, 1, version=VERSION + 1)
    result = replay(good)
    assert result.exit_code == 2
    assert f"version {VERSION + 1} of the format, and this ice-tcp reads {VERSION}" in result.output


def test_a_capsule_without_an_agent_is_refused(good: Path) -> None:
    rewrite(good, lambda lines: lines[:1])
    result = replay(good)
    assert (result.exit_code, "no agent is in it" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("key", "value", "changes", "what"),
    [
        ("input", "gather", {"now": "soon"}, "no float"),
        ("input", "gather", {"now": math.inf}, "not a finite number"),
        ("input", "gather", {"now": 1e300}, "time goes backwards, or too far"),
        ("input", "close", {"now": 1.0}, "time goes backwards, or too far"),
        ("input", "gather", {"input": "explode"}, "this version of ice-tcp has no input 'explode'"),
        ("input", "gather", {"input": "_check_open"}, "this version of ice-tcp has no input '_check_open'"),
        ("input", "gather", {"input": ["gather"]}, "has no input"),
        ("input", "gather", {"arguments": {}}, "the arguments of gather are addresses, servers"),
        ("input", "gather", {"arguments": {"addresses": 1, "servers": []}}, "gather: not a list"),
        ("input", "gather", {"more": 1}, "not an input"),
        ("ask", None, {"ask": ["randint"]}, "not a draw"),
        ("ask", None, {"ask": {}}, "not a draw"),
        ("ask", None, {"ask": ["getrandbits", 2], "answer": 4}, "no such answer is possible"),
        ("ask", None, {"ask": ["getrandbits", 10**9], "answer": 0}, "no such answer is possible"),
        ("ask", None, {"ask": ["random"], "answer": 1.0}, "no such answer is possible"),
        ("ask", None, {"ask": ["reserve", 1.0], "answer": 1e200}, "no such answer is possible"),
        ("timer", None, {"commands": [{"Explode": {}}]}, "not one of OpenUdp"),
        ("timer", None, {"commands": [{"Close": {"handle": "1"}}]}, "a str is no int"),
        ("timer", None, {"commands": [{"Close": {}}]}, "a Close lacks a field"),
        ("timer", None, {"commands": [{"Close": {"handle": 1, "mode": 2}}]}, "Close has no mode"),
        ("timer", None, {"surprise": 1}, "an outcome has no surprise"),
        ("agent", None, {"agent": {"role": "king"}}, "what an agent was made with is"),
        ("agent", None, {"end": "x"}, "not what an agent was made with"),
    ],
)
def test_what_was_tampered_with_is_refused_by_its_line(
    good: Path, key: str, value: object, changes: dict[str, Any], what: str
) -> None:
    number = line_of(good, key, value)
    edit(good, number, **changes)
    result = replay(good)
    assert result.exit_code == 2
    assert f"{good}:{number}: " in result.output
    assert what in result.output.replace("\n", " ")


def test_lines_in_another_order_are_refused(good: Path) -> None:
    number = line_of(good, "input")
    rewrite(good, lambda lines: [*lines[:number], *lines[number - 1 :]])
    result = replay(good)
    assert (result.exit_code, f"{good}:{number + 1}: this line does not follow" in result.output) == (2, True)


def test_nothing_may_follow_the_end(good: Path) -> None:
    rewrite(good, lambda lines: [*lines, lines[-2]])
    result = replay(good)
    assert (result.exit_code, "something follows the end" in result.output) == (2, True)


def test_a_policy_that_cannot_be_understood_is_named_without_its_secrets(good: Path) -> None:
    made = json.loads(good.read_text("utf-8").splitlines()[1])["agent"]
    made["policy"]["servers"][0]["url"] = "turn"
    edit(good, 2, agent=made)
    result = replay(good)
    assert (result.exit_code, "servers.0.url" in result.output) == (2, True)
    assert PASSWORD not in result.output


def test_defaults_that_have_changed_since_are_named(good: Path) -> None:
    made = json.loads(good.read_text("utf-8").splitlines()[1])["agent"]
    made["effective"]["timeouts"]["patience"] += 1
    edit(good, 2, agent=made)
    result = replay(good)
    assert (result.exit_code, "other defaults: timeouts" in result.output) == (2, True)


def test_an_agent_that_cannot_be_made_is_refused(good: Path) -> None:
    made = json.loads(good.read_text("utf-8").splitlines()[1])["agent"]
    edit(good, 2, agent={**made, "components": 257})
    result = replay(good)
    assert (result.exit_code, "components 257 is not from 1 to 256" in result.output) == (2, True)


# What was cut short


def test_a_capsule_cut_at_any_byte_replays_as_far_as_it_goes(good: Path) -> None:
    whole = good.read_bytes()
    begin = len(b"".join(whole.splitlines(keepends=True)[:2]))
    for size in range(begin, len(whole), 41):
        good.write_bytes(whole[:size])
        assert replayed(good).difference is None


def test_a_cut_is_told(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-20])
    result = replay(good)
    assert result.exit_code == 0
    assert "cut short, within a line" in result.output


def test_a_recording_that_nobody_ended_is_told(good: Path) -> None:
    rewrite(good, lambda lines: lines[:-1])
    result = replay(good)
    assert result.exit_code == 0
    assert "The capsule has no end" in result.output


# The file


def test_the_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        recorded(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_is_not_overwritten(path: Path, tmp_path: Path) -> None:
    path.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for each in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            Capsule.create(each)
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_which_no_agent_began_is_removed(path: Path) -> None:
    with Capsule.create(path):
        assert path.exists()
    assert not path.exists()


def test_a_capsule_takes_one_agent(path: Path) -> None:
    with Capsule.create(path) as capsule:
        RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
        with pytest.raises(RuntimeError, match="records one agent"):
            RecordingAgent(Role.CONTROLLED, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)


def test_every_line_is_there_as_soon_as_it_is_known(path: Path) -> None:
    agent = recorded(path, end=False)
    assert agent.state is events.AgentState.CLOSED
    assert replayed(path).inputs == 4


def test_at_its_limit_the_recording_ends_and_the_session_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorded(path)
    whole = path.stat().st_size
    path.unlink()
    agent = recorded(path, limit=whole - 400)
    assert agent.state is events.AgentState.CLOSED
    assert path.stat().st_size <= whole - 400
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    result = replay(path)
    assert (result.exit_code, "ended at its limit" in result.output) == (0, True)


def test_a_full_disk_ends_the_recording_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    capsule = Capsule(full, Path("full.capsule"))
    agent = RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
    agent.close(1.0)
    capsule.close()
    assert agent.state is events.AgentState.CLOSED
    assert [record.getMessage() for record in caplog.records] == [
        "the capsule full.capsule ends here: No space left on device"
    ]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(full)


def test_what_cannot_be_written_ends_the_recording_and_not_the_session(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Capsule.create(path) as capsule:
        agent = RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
        agent.socket_opened(SocketId(77), TransportAddress("192.0.2.1", 1), 1.0)
        with pytest.raises(AttributeError):
            agent.set_remote_parameters("no parameters", 2.0)  # type: ignore[arg-type]
        agent.close(3.0)
    assert "set_remote_parameters" in caplog.text
    assert agent.state is events.AgentState.CLOSED
    result = replay(path)
    assert (result.exit_code, "something could not be recorded" in result.output) == (0, True)


# What is recorded


def test_a_recorded_agent_does_what_another_does(path: Path) -> None:
    plain = Agent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer())
    with Capsule.create(path) as capsule:
        taped = RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
        for agent in (plain, taped):
            agent.gather([HERE], 10.0, servers_of(TURN, 0.0))
        assert plain.commands() == taped.commands() != []
        assert plain.events() == taped.events()
        assert plain.next_timer() == taped.next_timer()
        assert plain.local_parameters == taped.local_parameters
        assert taped.commands() == []


def test_misuse_is_recorded_as_what_it_is(path: Path) -> None:
    with Capsule.create(path) as capsule:
        agent = RecordingAgent(Role.CONTROLLING, TURN, rng=Random(1), pacer=Pacer(), capsule=capsule)
        agent.gather([HERE], 1.0)
        with pytest.raises(RuntimeError, match="gathered already"):
            agent.gather([HERE], 2.0)
        with pytest.raises(TypeError):
            agent.gather()  # type: ignore[call-arg]
    assert replayed(path).difference is None


def test_inputs_of_applications_replay(path: Path) -> None:
    there = Candidate("1", 1, Transport.UDP, 1, TransportAddress("192.0.2.2", 5000), CandidateType.HOST)
    with Capsule.create(path) as capsule:
        agent = RecordingAgent(Role.CONTROLLING, Policy.default(), rng=Random(1), pacer=Pacer(), capsule=capsule)
        agent.set_role(Role.CONTROLLED, now=0.5)
        agent.gather([HERE], 1.0)
        for command in agent.commands():
            if isinstance(command, OpenUdp):
                agent.socket_opened(command.socket, TransportAddress(HERE.host, 4000), 1.5)
        here = next(each for each in agent.local_candidates if each.transport is Transport.UDP)
        agent.select(here, there, 2.0)
        assert agent.selected_path() is not None
    assert (replayed(path).difference, replayed(path).inputs) == (None, 4)


def test_every_public_method_with_an_instant_is_recorded() -> None:
    documented = {name for name, method in vars(Agent).items() if "now" in getattr(method, "__annotations__", {})}
    public = {name for name in documented if not name.startswith("_")}
    assert public == INPUTS.keys()
    assert all(getattr(RecordingAgent, name) is not getattr(Agent, name) for name in public)
    assert {"gather", "relayed", "timer_expired"} <= public


# The codec


@pytest.mark.parametrize("union", [commands.Command, events.Event], ids=["commands", "events"])
def test_every_member_of_the_unions_has_fields_that_the_codec_knows(union: Any) -> None:
    members = typing.get_args(union)
    assert len(members) > 10
    for member in members:
        assert fields_of(member) or member.__dataclass_fields__ == {}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Close(SocketId(1)), Command),
        (SendDatagram(SocketId(1), TransportAddress("::1", 9), b"\0\xff"), Command),
        (ListenerId(3), SocketId | ListenerId),
        (None, float | None),
        (0.1 + 0.2, float),
        ((("a", "b"),), tuple[tuple[str, str], ...]),
        (Failure.REFUSED, Failure),
    ],
)
def test_what_is_encoded_is_decoded_to_the_same(value: Any, hint: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value, hint))), hint) == value


@pytest.mark.parametrize(
    ("value", "hint"),
    [("1", int), (True, int), (1, bool), (1, Command), (object(), object), ("abc", tuple[str, ...]), (None, int)],
)
def test_what_a_hint_does_not_allow_is_not_encoded(value: Any, hint: Any) -> None:
    with pytest.raises(CodecError):
        encode(value, hint)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("x", int), (True, int), (1.5, int), ("0g", bytes), (7, bytes), (math.nan, float), (10**400, float),
        (["a"], tuple[str, str]), ({"host": "a b", "port": 1}, TransportAddress), ("nothing", Failure),
        ({"Close": {"handle": 1}, "Listen": {}}, Command), ([], TransportAddress), (None, int), ([], Failure),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_hint_is_not_decoded(data: Any, hint: Any) -> None:
    with pytest.raises(CodecError):
        decode(data, hint)


# The command


def test_the_same_is_said_in_a_line(good: Path) -> None:
    result = replay(good)
    assert result.exit_code == 0
    assert result.output.startswith("4 inputs, ")
    assert result.output.endswith("events: the same\n")


def test_the_first_difference_is_shown_side_by_side(good: Path) -> None:
    number = line_of(good, "input", "gather")
    outcome = next(
        index
        for index, line in enumerate(good.read_text("utf-8").splitlines(), 1)
        if index > number and '"timer"' in line
    )
    entry = json.loads(good.read_text("utf-8").splitlines()[outcome - 1])
    entry["commands"][0]["OpenUdp"]["host"] = "192.0.2.99"
    edit(good, outcome, commands=entry["commands"])
    result = replay(good)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == f"First difference: input 1 (line {number}), command 1"
    assert any(line.split() == ["*", "host", "192.0.2.99", "192.0.2.1"] for line in lines)
    assert any(line.split() == ["type", "OpenUdp", "OpenUdp"] for line in lines)
    assert any("gather(addresses=" in line for line in lines)


def test_a_difference_shows_no_secret(good: Path) -> None:
    with open_capsule(good) as reader:
        *before, step = reader.steps()
    ours, theirs = (IceParameters("ufrag", letter * 22) for letter in "xy")
    found = Difference(step, "event 1", Restarted(ours, 1), Restarted(theirs, 1), tuple(before))
    text = report(Replayed(1, 1, 1, found, 0.0), "closed")
    assert re.search(r"^\* parameters.pwd +\*\*\* +\*\*\*, another$", text, re.MULTILINE)
    for secret in (ours.pwd, theirs.pwd, PASSWORD):
        assert secret not in text
    assert PASSWORD not in replay(good, "-v").output
    assert PASSWORD in good.read_text("utf-8")


def test_what_the_core_does_is_printed_on_request(good: Path) -> None:
    result = replay(good, "--verbose")
    assert result.exit_code == 0
    assert "socket_opened(handle=" in result.output
    assert "LocalCandidateKept(" in result.output


def test_a_replay_can_stop_early(good: Path) -> None:
    assert replay(good, "--until", "1").output.startswith("1 inputs, ")
    assert replay(good, "--until", "-1").exit_code == 2


def test_a_program_gets_a_document(good: Path) -> None:
    document = json.loads(replay(good, "--json").output)
    assert (document["same"], document["inputs"], document["ending"], document["difference"]) == (
        True,
        4,
        "closed",
        None,
    )
    number = line_of(good, "ask")
    edit(good, number, ask=["getrandbits", 7], answer=1)
    result = replay(good, "--json")
    document = json.loads(result.output)
    assert result.exit_code == 1
    assert document["difference"]["what"] == "draw 1"
    assert {"field": "argument", "recorded": "7", "now": "64"} in document["difference"]["fields"]


def test_verbose_and_json_exclude_each_other(good: Path) -> None:
    assert replay(good, "-v", "--json").exit_code == 2


def test_another_version_of_the_package_is_told(good: Path) -> None:
    edit(good, 1, ice_tcp="0.0.1")
    assert "recorded by ice-tcp '0.0.1'" in replay(good).output


def test_the_reader_closes_its_file(good: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(CapsuleError), open_capsule(good.parent):
        pass
    replayed(good)
    assert set(os.listdir("/proc/self/fd")) == before
