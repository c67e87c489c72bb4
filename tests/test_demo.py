"""The demonstration: two real processes, every transport, and what it shows of them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import ice_tcp
from candidates.candidate import CandidateType, TcpType, Transport
from candidates.policy import Policy
from candidates.sdp import parse_candidate
from ice_tcp.cli import main
from ice_tcp.core.commands import Failure, TcpPath
from ice_tcp.core.events import (
    LocalCandidateFound,
    PairChanged,
    PairState,
    PathSelected,
    Role,
    RoleChanged,
    SelectedPath,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.demo import words
from ice_tcp.demo.live import LiveView
from ice_tcp.demo.plain import PlainView, summary
from ice_tcp.demo.plan import GENERATED_BYTES, Choices, Payload, PlanError, demo_policies
from ice_tcp.demo.record import PairSeen, Record
from ice_tcp.demo.sender import Outcome
from ice_tcp.demo.server import Access, demo_server
from ice_tcp.demo.side import DemoError, explained
from ice_tcp.errors import ConnectError
from ice_tcp.gather.words import AS_IT_IS, kind
from ice_tcp.net.sockets import NetworkError
from ice_tcp.server import Leg
from ice_tcp.signaling import SignalingError
from ice_tcp.transfer import FileOffer, Receipt, TransferError

ACTIVE = parse_candidate("candidate:1 1 TCP 1524629503 127.0.0.1 9 typ host tcptype active")
PASSIVE = parse_candidate("candidate:2 1 TCP 1520435199 127.0.0.1 50000 typ host tcptype passive")
ACCESS = Access(("127.0.0.1", "::1"), 4000, "secret", 4001, "/ca.pem")
UDP = parse_candidate("candidate:3 1 UDP 2130706431 ::1 50001 typ host")


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments])


def demo_json(*arguments: str) -> dict[str, Any]:
    result = demo("--json", *arguments)
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else 1)
    return dict(document)


# Both processes


@pytest.mark.parametrize(
    ("arguments", "stream", "tcptypes"),
    [
        ([], "quic", (None, None)),
        (["--transport", "udp"], "quic", (None, None)),
        (["--tcp-type", "active"], "tcp", ("active", "passive")),
        (["--tcp-type", "passive", "--transport", "tcp"], "tcp", ("passive", "active")),
        (["--tcp-type", "so"], "tcp", ("so", "so")),
    ],
)
def test_a_file_arrives_over_every_kind_of_path(
    arguments: list[str], stream: str, tcptypes: tuple[str | None, str | None], tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(300_000))
    document = demo_json("--file", str(path), *arguments)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert document["ok"] and document["error"] is None
    assert document["file"] == {"name": "data.bin", "generated": False, "size": 300_000}
    assert document["transfer"]["stream"] == stream
    assert document["transfer"]["sha256_sent"] == digest == document["transfer"]["sha256_received"]
    assert document["receiver"]["sha256"] == digest and document["receiver"]["bytes"] == 300_000
    for ours, theirs in (("sender", "receiver"), ("receiver", "sender")):
        side = document[ours]
        pair = side["selected_pair"]
        assert pair["nominated"]
        assert (pair["local"]["tcptype"], pair["remote"]["tcptype"]) == (
            tcptypes if ours == "sender" else tcptypes[::-1]
        )
        assert 0 < side["first_valid_seconds"] <= side["nominated_seconds"]
        assert {seen["address"] for seen in side["candidates"]} <= {"127.0.0.1", "::1"}
        assert [seen["priority"] for seen in side["candidates"]] == [
            seen["priority"] for seen in document[theirs]["remote_candidates"]
        ]
        states = [pair["states"][-1]["state"] for pair in side["checklist"]]
        assert "succeeded" in states
    assert document["sender"]["role"] == "controlling" and document["receiver"]["role"] == "controlled"


@pytest.mark.parametrize(
    ("arguments", "leg", "transport"),
    [
        ([], "udp", "udp"),
        (["--relay-transport", "tcp"], "tcp", "udp"),
        (["--relay-transport", "tls"], "tls", "udp"),
        (["--transport", "tcp"], "tcp", "tcp"),
        (["--transport", "tcp", "--relay-transport", "tls"], "tls", "tcp"),
        (["--tcp-type", "active"], "tcp", "tcp"),
    ],
)
def test_a_file_arrives_through_the_relay(arguments: list[str], leg: str, transport: str) -> None:
    document = demo_json("--relay-only", "--size", "200K", *arguments)
    assert document["ok"] and document["transfer"]["bytes"] == 200 << 10
    assert document["transfer"]["sha256_sent"] == document["receiver"]["sha256"]
    assert document["relay"]["leg"] == leg
    for side in ("sender", "receiver"):
        pair = document[side]["selected_pair"]
        assert pair["relayed"]
        assert pair["local"]["type"] == "relay" and pair["remote"]["type"] in ("relay", "prflx")
        assert pair["local"]["transport"] == transport
        seen = [*document[side]["candidates"], *document[side]["remote_candidates"]]
        assert {(each["type"], each["related"]) for each in seen} <= {("relay", "0.0.0.0:9"), ("relay", "[::]:9")}
        assert {report["leg"] for report in document[side]["server"]} == {leg}
        assert all(report["failure"] is None for report in document[side]["server"])


def test_what_the_server_sees_and_relays_is_shown_whatever_the_size_of_the_file() -> None:
    document = demo_json("--size", "1")
    for side in ("sender", "receiver"):
        candidates, reports = document[side]["candidates"], document[side]["server"]
        assert {"host", "relay"} == {each["type"] for each in candidates}
        own = {f"[{each['address']}]:{each['port']}" if ":" in each["address"] else f"{each['address']}:{each['port']}"
               for each in candidates if each["type"] == "host"}  # fmt: skip
        seen = [report["found"] for report in reports if report["purpose"] == "reflexive"]
        assert len(seen) >= 3 and all(set(each) <= own for each in seen)
        assert {report["transport"] for report in reports if report["purpose"] == "relay"} == {"udp", "tcp"}
    result = demo("--size", "1")
    assert "server   how it sees udp: 127.0.0.1:" in result.stdout and AS_IT_IS in result.stdout
    assert "server   a relay of tcp: " in result.stdout and "sender   relay udp" in result.stdout
    assert "\nrelay " not in result.stdout  # the path is direct


def test_the_relay_of_the_path_is_told() -> None:
    lines = demo("--relay-only", "--relay-transport", "tls", "--size", "1").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("relay  ")]
    assert line.startswith("relay           of udp, at 127.0.0.1:") and "by tls, certificate verified" in line


def test_a_policy_of_relays_only_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    server = "{url: 'turn:192.0.2.1', username: a, password: b}"
    path.write_text(f"{{candidate_types: [relay], servers: [{server}]}}\n", "utf-8")
    assert demo_json("--policy", str(path), "--size", "1")["sender"]["selected_pair"]["relayed"]


def test_missing_cryptography_is_told_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.demo.sender.has_cryptography", lambda: False)
    document = demo_json("--size", "1", "--relay-only", "--relay-transport", "tls")
    assert document["error"]["verdict"] == "cryptography-missing"
    assert "pip install cryptography" in document["error"]["remedy"]
    assert document["sender"]["candidates"] == []


def test_a_server_that_cannot_listen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> list[object]:
        raise NetworkError(Failure.PORTS_TAKEN)

    monkeypatch.setattr("ice_tcp.server.server.bind_listeners", taken)
    document = demo_json("--size", "1")
    assert document["error"]["verdict"] == "server-not-started" and "ports taken" in document["error"]["remedy"]


def test_the_key_of_the_certificate_does_not_stay_on_the_disk() -> None:
    async def run() -> Path:
        async with demo_server(with_tls=True) as access:
            assert access.ca_file is not None
            certificate = Path(access.ca_file)
            assert [path.name for path in certificate.parent.iterdir()] == [certificate.name]
        return certificate

    assert not asyncio.run(run()).parent.exists()


def test_both_transports_are_checked_in_one_list() -> None:
    checklist = demo_json("--size", "1")["sender"]["checklist"]
    assert {"udp", "tcp"} == {pair["local"]["transport"] for pair in checklist}
    assert [pair["priority"] for pair in checklist] == sorted((pair["priority"] for pair in checklist), reverse=True)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_generated_data_of_any_size_arrives(transport: str) -> None:
    for size in ("0", "3M"):
        document = demo_json("--size", size, "--transport", transport)
        assert document["ok"] and document["file"]["generated"]
        assert document["transfer"]["bytes"] == (0 if size == "0" else 3 << 20)


def test_a_pipe_gets_lines() -> None:
    result = demo("--transport", "tcp", "--size", "100K")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "generated data, 100.0 KiB: from this process to another"
    assert any("sender   host  tcp passive" in line and "priority" in line for line in lines)
    assert any("receiver host  tcp so" in line for line in lines)
    assert any("in-progress" in line for line in lines) and any("nominated" in line for line in lines)
    digests = [line.split()[-1] for line in lines if line.startswith("SHA-256")]
    assert len(digests) == 2 and len(set(digests)) == 1
    assert lines[-1] == "The file arrived intact."
    assert "\x1b" not in result.stdout


def test_the_policy_of_the_user_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("address_families: [ipv4]\ntransports: [tcp]\ninterfaces: {include: [none]}\n", "utf-8")
    document = demo_json("--policy", str(path), "--size", "10")
    assert {seen["address"] for seen in document["sender"]["candidates"]} == {"127.0.0.1"}
    assert {seen["transport"] for seen in document["receiver"]["candidates"]} == {"tcp"}


def test_a_lite_policy_makes_a_lite_receiver(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("lite: true\ncandidate_types: [host]\ntcp_types: [passive]\n", "utf-8")
    document = demo_json("--policy", str(path), "--size", "10")
    assert document["ok"]
    assert {seen["tcptype"] for seen in document["receiver"]["candidates"]} == {None, "passive"}
    assert {"active", "so"} <= {seen["tcptype"] for seen in document["sender"]["candidates"]}
    states = {state["state"] for pair in document["receiver"]["checklist"] for state in pair["states"]}
    assert "succeeded" in states and "in-progress" not in states  # it answers checks, and sends none


def test_a_failure_is_told_with_its_verdict_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("remote: {deny: [{cidr: 127.0.0.0/8}, {cidr: '::1'}]}\ntimeouts: {patience: 1}\n", "utf-8")
    document = demo_json("--policy", str(path))
    assert not document["ok"] and document["transfer"] is None
    assert document["error"]["verdict"] == Verdict.NO_REMOTE_CANDIDATES
    assert document["error"]["remedy"] == Verdict.NO_REMOTE_CANDIDATES.remedy
    result = demo("--policy", str(path))
    assert result.exit_code == 1
    assert f"{Verdict.NO_REMOTE_CANDIDATES}, seen by the" in result.stdout
    assert result.stdout.splitlines()[-1] == Verdict.NO_REMOTE_CANDIDATES.remedy


def test_missing_aioquic_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.demo.sender.has_quic", lambda: False)
    monkeypatch.setattr("ice_tcp.demo.side.has_quic", lambda: False)
    document = demo_json("--size", "1", "--transport", "udp")
    assert document["error"]["verdict"] == "quic-missing" and "ice-tcp[quic]" in document["error"]["remedy"]
    assert demo_json("--size", "1", "--transport", "tcp")["ok"]


def test_without_aioquic_only_tcp_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ice_tcp.cli", "ice_tcp.demo.sender", "ice_tcp.demo.side"):
        monkeypatch.setattr(f"{module}.has_quic", lambda: False)
    result = demo("--size", "1")
    assert result.exit_code == 0
    assert "only TCP is tried" in result.stderr


def test_a_file_that_shrinks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x")
    monkeypatch.setattr(Payload, "of_file", classmethod(lambda cls, path: cls(5, path)))
    document = demo_json("--file", str(path), "--transport", "tcp")
    assert document["error"]["verdict"] == "transfer-failed"
    assert "ended after 1 of 5 bytes" in document["error"]["remedy"]


def test_a_file_that_vanishes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x")
    monkeypatch.setattr(Payload, "open", lambda _: path.with_name("gone").open("rb"))
    document = demo_json("--file", str(path), "--transport", "tcp")
    assert document["error"]["verdict"] == "file-unreadable"


def test_a_receiver_that_gives_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *_: Any) -> Receipt:
        writer.write(b"\xff\xff")
        await asyncio.sleep(30)
        raise AssertionError("the receiver did not give up")

    monkeypatch.setattr("ice_tcp.demo.sender.send_file", nonsense)
    document = demo_json("--size", "1", "--transport", "tcp")
    assert document["error"]["side"] == "receiver"
    assert document["error"]["verdict"] == "transfer-failed" and "over the limit" in document["error"]["remedy"]


def test_a_receiver_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ice_tcp.demo.sender.RECEIVER_COMMAND", "no-such-command")
    document = demo_json("--size", "1")
    assert document["error"]["verdict"] == "receiver-did-not-start"
    assert "No such command" in document["error"]["remedy"]


# Processes that end before their time


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A demonstration in a process group of its own, whose file is on its way."""
    command = (sys.executable, "-m", "ice_tcp.cli", "demo", "--size", "2G", *arguments)
    # A background job of a shell ignores interrupts, and so would the child; a signal that is handled it gets anew.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            if line.rstrip().endswith(b" nominated"):
                break
        yield process
        async with asyncio.timeout(20):
            while group_lives(process.pid):  # noqa: ASYNC110 - the end of a process that is no child is no event
                await asyncio.sleep(0.05)
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def receiver_of(process: asyncio.subprocess.Process) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(children.read_text())


def test_an_interrupt_leaves_no_process() -> None:
    async def run() -> None:
        async with running("--transport", "udp") as process:
            os.killpg(process.pid, signal.SIGINT)
            _, errors = await process.communicate()
            assert process.returncode == 130
            assert errors == b"interrupted\n"

    asyncio.run(run())


def test_the_receiver_ends_with_the_sender() -> None:
    async def run() -> None:
        async with running("--transport", "tcp") as process:
            process.kill()
            await process.communicate()

    asyncio.run(run())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_end_of_the_receiver_is_told(transport: str) -> None:
    async def run() -> None:
        async with running("--transport", transport) as process:
            os.kill(receiver_of(process), signal.SIGKILL)
            output, errors = await process.communicate()
            assert process.returncode == 1
            assert b"failed          " in output and errors == b""

    asyncio.run(run())


# The plan


def test_only_loopback_is_used_whatever_the_policy_says() -> None:
    policy = Policy.model_validate(
        {
            "interfaces": {"include": ["eth0"], "default_route_only": True},
            "addresses": {"exclude": ["127.0.0.0/8"]},
            "timeouts": {"connect": 3},
            "servers": [{"url": "stun:192.0.2.1"}],
        }
    )
    policies = demo_policies(Choices(policy), ACCESS)
    assert policies.sender == policies.receiver
    assert [str(block) for block in policies.sender.addresses.include] == ["127.0.0.0/8", "::1/128"]
    assert policies.sender.interfaces.loopback
    assert [str(server.url) for server in policies.sender.servers] == [
        "stun:127.0.0.1:4000",
        "stun:[::1]:4000",
        "turn:127.0.0.1:4000",
    ]
    assert policies.sender.timeouts.connect == 3
    assert policies.transports == {Transport.UDP, Transport.TCP}


def test_the_other_side_gets_the_type_that_pairs() -> None:
    for ours, theirs in (
        (TcpType.ACTIVE, TcpType.PASSIVE),
        (TcpType.PASSIVE, TcpType.ACTIVE),
        (TcpType.SO, TcpType.SO),
    ):
        policies = demo_policies(Choices(tcp_type=ours))
        assert policies.sender.tcp_types == (ours,) and policies.receiver.tcp_types == (theirs,)
        assert policies.transports == {Transport.TCP}


@pytest.mark.parametrize(
    ("choices", "url"),
    [
        (Choices(), "turn:127.0.0.1:4000"),
        (Choices(relay_only=True), "turn:127.0.0.1:4000?transport=udp"),
        (Choices(relay_only=True, transport=Transport.TCP), "turn:127.0.0.1:4000?transport=tcp"),
        (Choices(relay_transport=Leg.TLS), "turns:127.0.0.1:4001?transport=tcp"),
        (
            Choices(Policy.model_validate({"address_families": ["ipv6"]}), relay_only=True),
            "turn:[::1]:4000?transport=udp",
        ),
    ],
)
def test_how_the_relay_is_reached(choices: Choices, url: str) -> None:
    server = demo_policies(choices, ACCESS).sender.servers[-1]
    assert str(server.url) == url
    assert server.tls.verify and server.tls.ca_file == ("/ca.pem" if url.startswith("turns") else None)


def test_the_server_is_told_to_the_other_process_and_its_password_to_nobody_else() -> None:
    assert Access.from_json(ACCESS.to_json()) == ACCESS
    assert "secret" not in repr(ACCESS)


def test_tcp_types_of_the_policy_do_not_hinder_udp() -> None:
    policy = Policy.model_validate({"tcp_types": ["active"]})
    assert demo_policies(Choices(policy, Transport.UDP)).transports == {Transport.UDP}


def test_the_default_file_is_the_readme_of_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    payload = Payload.default()
    assert payload.path is not None and payload.path.name == "README.md"
    monkeypatch.setattr(ice_tcp, "__file__", str(tmp_path / "ice_tcp" / "__init__.py"))
    assert Payload.default() == Payload(GENERATED_BYTES)


@pytest.mark.parametrize(("name", "shown"), [("a\\b", "a_b"), ("a\nb", "a_b"), ("plain.txt", "plain.txt")])
def test_any_name_of_a_file_can_be_offered(tmp_path: Path, name: str, shown: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    assert Payload.of_file(path).offer == FileOffer(shown, 1)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="not a regular file"):
        Payload.of_file(tmp_path)


# What is shown


def filled_record() -> Record:
    """As after a run in which an active candidate won."""
    record = Record(Role.CONTROLLING)
    for candidate in (ACTIVE, UDP):
        record.event(LocalCandidateFound(candidate, 0))
    record.remote_candidate(PASSIVE)
    for state in (PairState.FROZEN, PairState.WAITING, PairState.IN_PROGRESS, PairState.SUCCEEDED):
        record.event(PairChanged(7, 1, ACTIVE, PASSIVE, state))
    record.event(PairChanged(8, 1, UDP, UDP, PairState.WAITING))
    record.event(PairChanged(8, 1, UDP, UDP, None, Verdict.SUPERSEDED))
    for nominated in (False, True):
        record.event(PathSelected(SelectedPath(1, ACTIVE, PASSIVE, TcpPath(1), nominated, 0)))  # type: ignore[arg-type]
    return record


def outcome(*, seconds: float = 0.5, error: DemoError | None = None) -> Outcome:
    record = filled_record()
    if error is not None:
        return Outcome(Payload(5), record, error=error)
    report = {**record.to_json(), "sha256": "ab" * 32}
    return Outcome(Payload(5), record, report, Receipt(FileOffer("x", 5), "ab" * 32, "ab" * 32, seconds))


def test_a_record_keeps_times_states_and_order() -> None:
    record = filled_record()
    assert [pair.pair for pair in record.checklist()] == [8, 7]
    assert [state for _, state in record.pairs[7].states] == ["frozen", "waiting", "in-progress", "succeeded"]
    assert record.first_valid is not None and record.nominated is not None
    assert record.pairs[8].state == "removed" and record.pairs[8].verdict is Verdict.SUPERSEDED
    assert json.loads(json.dumps(record.to_json()))["selected_pair"]["nominated"] is True


def test_a_record_takes_nothing_after_the_file_has_arrived() -> None:
    record = filled_record()
    record.stop()
    record.event(PairChanged(7, 1, ACTIVE, PASSIVE, PairState.FAILED, Verdict.CLOSED))
    assert record.pairs[7].state == "succeeded"


def test_the_role_decides_the_priority_of_a_pair() -> None:
    priorities = []
    for role in Role:
        record = Record(Role.CONTROLLING)
        record.event(RoleChanged(role))
        record.event(PairChanged(1, 1, ACTIVE, PASSIVE, PairState.WAITING))
        priorities.append(record.pairs[1].priority)
    low, high = PASSIVE.priority, ACTIVE.priority
    assert priorities == [(low << 32) + 2 * high + 1, (low << 32) + 2 * high]


def shown_live(width: int, result: Outcome, **console: Any) -> str:
    output = io.StringIO()
    view = LiveView(Console(file=output, force_terminal=True, width=width, height=60, color_system=None, **console))
    with view:
        view.begin(result.payload, result.sender)
        view.progress(3)
        view.observe(PairSeen(0.0, result.sender.pairs[7]))
        view.end(result)
    return output.getvalue()


def test_a_wide_terminal_shows_every_state() -> None:
    text = shown_live(130, outcome())
    assert "Candidates" in text and "Check list" in text
    assert "succeeded" in text and ", nominated" in text and "(superseded)" in text
    assert "127.0.0.1:*" in text  # the active end has no port yet
    assert "The file arrived intact." in text


def test_a_narrow_terminal_shows_the_last_state_and_whole_digests() -> None:
    text = shown_live(80, outcome())
    final = text[text.rindex("Candidates") :]
    assert "removed (superseded)" in final and "succeeded, nominated" in final
    assert f"SHA-256 arrived {'ab' * 32}" in final
    assert all(len(line) <= 80 for line in final.splitlines())


def test_a_failure_is_shown_in_every_view() -> None:
    failure = outcome(error=DemoError("no-pairs", "Look at both.", "receiver"))
    lines: list[str] = []
    PlainView(lines.append).end(failure)
    assert lines[-2:] == ["failed          no-pairs, seen by the receiver", "Look at both."]
    assert "no-pairs, seen by the receiver" in shown_live(100, failure)


def test_a_short_transfer_claims_no_throughput() -> None:
    short, long = (dict(summary(outcome(seconds=seconds))) for seconds in (0.05, 0.5))
    assert "MB/s" not in short["transfer"] and "too short" in short["throughput"]
    assert "MB/s" in long["transfer"] and "throughput" not in long


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (64 << 20, "64.0 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert words.size(count) == text


def test_candidates_are_worded() -> None:
    assert (kind(UDP), kind(ACTIVE)) == ("udp", "tcp active")
    assert words.ends(ACTIVE, PASSIVE) == "127.0.0.1:* -> 127.0.0.1:50000"
    assert words.address(UDP) == "[::1]:50001"
    assert UDP.type is CandidateType.HOST
    assert words.milliseconds(None) == "-"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (DemoError("x", "y"), "x"),
        (ConnectError("no-pairs", "look"), "no-pairs"),
        (TransferError("cut"), "transfer-failed"),
        (SignalingError("gone"), "signaling-lost"),
        (ConnectionResetError("reset"), "connection-lost"),
    ],
)
def test_every_error_has_a_verdict_and_a_remedy(error: Exception, verdict: str) -> None:
    explanation = explained(error)
    assert explanation.verdict == verdict and explanation.remedy
