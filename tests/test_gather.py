"""`ice-tcp gather`: what it finds on loopback, with servers that answer, refuse and keep silent, and how it says so."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from candidates.candidate import CandidateType, Transport, TransportAddress
from candidates.policy import Policy
from ice_tcp.cli import main
from ice_tcp.core.commands import LegTransport
from ice_tcp.core.events import MappingBehaviour, Purpose, ServerReport
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.core.verdicts import Verdict
from ice_tcp.gather import words
from ice_tcp.gather.changes import changes
from ice_tcp.gather.document import DocumentView
from ice_tcp.gather.findings import Findings, ServerOutcome
from ice_tcp.gather.live import LiveView
from ice_tcp.gather.plain import PlainView
from ice_tcp.gather.survey import Survey
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions
from interop.coturn import free_ports

LOOPBACK = {"address_families": ["ipv4"], "interfaces": {"include": ["lo"], "loopback": True}}
USER = {"username": "user", "password": "pass"}


class Seen:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.updates: list[Findings] = []
        self.ends: list[Findings] = []

    def update(self, findings: Findings) -> None:
        self.updates.append(findings)

    def found(self, findings: Findings) -> None:
        self.ends.append(findings)


@asynccontextmanager
async def server(**changes: Any) -> AsyncIterator[Server]:
    settings: dict[str, Any] = {"port": 0, "users": {"user": "pass"}, "peers": PeerPolicy(loopback=True), **changes}
    async with Server(ServerOptions(**settings)) as running:
        yield running


def address(running: Server) -> str:
    host, port = running.address(Leg.UDP)
    return f"{host}:{port}"


async def found(seen: Seen | None = None, **policy: Any) -> Findings:
    survey = Survey(Policy.model_validate({**LOOPBACK, **policy}), seen or Seen())
    await survey.once()
    assert survey.latest is not None
    return survey.latest


def gather(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["gather", *arguments])


def written(path: Path, **policy: Any) -> str:
    path.write_text(json.dumps({**LOOPBACK, **policy}), "utf-8")
    return str(path)


# What it finds


def test_each_candidate_has_the_rules_that_keep_it_and_each_removed_one_has_its_own() -> None:
    async def scenario() -> Findings:
        async with server() as running:
            return await found(
                servers=[{"url": f"turn:{address(running)}", **USER}],
                tcp_types=["active", "passive"],
                advertise={"candidate_types": ["relay"]},
            )

    findings = asyncio.run(scenario())
    kinds = {(str(each.candidate.type), words.kind(each.candidate)) for each in findings.kept}
    tcp = {"tcp active", "tcp passive"}
    assert kinds == {(type_, kind) for type_ in ("host", "relay") for kind in ("udp", *tcp)}
    for each in findings.kept:
        assert each.rule == f"candidate_types: {each.candidate.type}"
        is_relay = each.candidate.type is CandidateType.RELAY
        assert each.is_told is is_relay
        assert each.telling.startswith("advertise.candidate_types: ")
    removed = {
        each.subject if isinstance(each.subject, str) else each.subject.type: each.rule for each in findings.removed
    }
    assert removed["so candidates"] == "tcp_types: so is not among them"
    assert removed["::1"] == "address_families: ipv6 is not among them"
    assert removed[CandidateType.SRFLX] == "redundant: the server sees the base itself (RFC 8445 s5.1.3)"
    assert findings.is_good and findings.is_done


def test_what_servers_see_tells_the_nat() -> None:
    async def scenario() -> Findings:
        async with server(users={}) as running:
            return await found(servers=[{"url": f"stun:{address(running)}"}])

    findings = asyncio.run(scenario())
    assert findings.mappings == dict.fromkeys(
        [(Transport.UDP, "127.0.0.1"), (Transport.TCP, "127.0.0.1")], MappingBehaviour.NONE
    )
    (outcome,) = findings.servers
    assert len(outcome.reports) == 3
    assert all(words.answer(each, findings.own_addresses).endswith(words.AS_IT_IS) for each in outcome.reports)


def test_candidates_are_shown_as_they_come() -> None:
    seen = Seen()

    async def scenario() -> None:
        async with server() as running:
            await found(seen, servers=[{"url": f"turn:{address(running)}", **USER}])

    asyncio.run(scenario())
    counts = [len(each.kept) for each in seen.updates]
    assert counts == sorted(counts) and counts[0] < len(seen.ends[0].kept)
    assert not any(each.is_done for each in seen.updates)


async def chatty(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-nobody\r\n")
    writer.close()


@asynccontextmanager
async def listening(handler: Any) -> AsyncIterator[str]:
    service = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with service:
        host, port = service.sockets[0].getsockname()
        yield f"{host}:{port}"


def test_each_server_has_its_outcome_and_a_remedy() -> None:
    async def scenario() -> dict[str, ServerOutcome]:
        closed = free_ports("127.0.0.1")[0]
        async with server() as good, server(tcp_relay=False) as udp_only, server() as plain, listening(chatty) as ssh:
            servers = [
                {"url": f"turn:{address(good)}?transport=udp", **USER},
                {"url": f"turn:{address(good)}?transport=tcp", "username": "user", "password": "wrong"},
                {"url": f"turn:{address(udp_only)}?transport=tcp", **USER},
                {"url": f"turn:127.0.0.1:{closed}?transport=tcp", **USER},
                {"url": f"turn:{ssh}?transport=tcp", **USER},
                {"url": "turn:[::1]:3478", **USER},
                {"url": f"turns:{address(plain)}", **USER},
            ]
            findings = await found(servers=servers)
            assert not findings.is_good
            names = ("good", "wrong password", "no relayed TCP", "closed port", "no STUN", "other family", "no TLS")
            return dict(zip(names, findings.servers, strict=True))

    outcomes = asyncio.run(scenario())
    causes = {name: {failure.cause for failure in each.failures} for name, each in outcomes.items()}
    assert causes == {
        "good": set(),
        "wrong password": {ServerVerdict.UNAUTHENTICATED},
        "no relayed TCP": {ServerVerdict.TRANSPORT_NOT_SUPPORTED},
        "closed port": {Verdict.REFUSED},
        "no STUN": {ServerVerdict.NOT_STUN},
        "other family": {Verdict.NO_ADDRESS},
        "no TLS": {Verdict.TLS},
    }
    assert [name for name, each in outcomes.items() if each.is_good] == ["good", "no relayed TCP"]
    assert all(failure.remedy for each in outcomes.values() for failure in each.failures)


def test_a_server_that_the_policy_wants_nothing_of_is_not_asked() -> None:
    findings = asyncio.run(found(candidate_types=["host"], servers=[{"url": "turn:127.0.0.1:9", **USER}]))
    (outcome,) = findings.servers
    assert outcome.reports == () and outcome.is_good
    assert words.state(outcome) == words.NOT_ASKED
    assert {"srflx candidates", "relay candidates"} <= {each.subject for each in findings.removed}


# What changes


def nothing() -> Findings:
    return asyncio.run(found(transports=["udp"]))


def test_new_ports_are_no_change() -> None:
    before, after = nothing(), nothing()
    assert before.kept != after.kept
    assert changes(before, after) == []


def test_changes_are_told_in_words() -> None:
    async def scenario() -> tuple[Findings, Findings]:
        async with server() as running:
            policy: dict[str, Any] = {
                "transports": ["udp"],
                "servers": [{"url": f"turn:{address(running)}?transport=udp", **USER}],
                "timeouts": {"gather": 1.0},
            }
            with_server = await found(**policy)
        return with_server, await found(**policy)

    before, after = asyncio.run(scenario())
    (url,) = {each.url for each in after.servers}
    assert changes(before, after) == [
        "- relay udp 127.0.0.1",
        f"~ {url}: failed (refused, timed-out)",
        f"~ udp from 127.0.0.1: {words.MAPPINGS[MappingBehaviour.UNKNOWN]}",
    ]
    assert changes(after, before)[:2] == ["+ relay udp 127.0.0.1", f"~ {url}: good"]


def test_every_behaviour_of_a_nat_has_plain_words() -> None:
    assert set(words.MAPPINGS) == set(MappingBehaviour)
    assert len(set(words.MAPPINGS.values())) == len(MappingBehaviour)


# How it is shown


def report(**fields: Any) -> ServerReport:
    place = (LegTransport.UDP, TransportAddress("192.0.2.1", 3478), "127.0.0.1", 1, Transport.UDP)
    return ServerReport("turn:192.0.2.1:3478", Purpose.RELAY, *place, **fields)


def two_findings() -> tuple[Findings, Findings]:
    """As with a server that fails, behind a bad NAT, and after it has come back."""
    findings = nothing()
    failure = ServerFailure(ServerVerdict.QUOTA_REACHED, "486 Allocation Quota Reached")
    bad = ServerOutcome("turn:192.0.2.1:3478", (report(failure=failure), report(failure=failure, family=6)))
    good = ServerOutcome("turn:192.0.2.1:3478", (report(found=(TransportAddress("192.0.2.1", 50000),)),))
    mappings = {(Transport.UDP, "127.0.0.1"): MappingBehaviour.ADDRESS_DEPENDENT}
    return replace(findings, servers=(bad,), mappings=mappings), replace(findings, servers=(good,))


def test_lines_tell_everything_once_and_then_what_changed() -> None:
    lines: list[str] = []
    view = PlainView(lines.append)
    before, after = two_findings()
    view.found(before)
    text = "\n".join(lines)
    for expected in (
        "host  udp         127.0.0.1:",
        "candidate_types: host; told",
        "  turn:192.0.2.1:3478: failed",
        "a relay of udp (udp to 192.0.2.1:3478 from 127.0.0.1): server-error-486: 486 Allocation Quota Reached",
        "an IPv6 address of a relay of udp",
        f"server-error-486: {ServerVerdict.QUOTA_REACHED.remedy}",
        'udp from 127.0.0.1: address-dependent ("symmetric")',
    ):
        assert expected in text
    count = len(lines)
    view.found(before)
    assert len(lines) == count
    view.found(after)
    (change,) = lines[count:]
    assert change.endswith(" ~ turn:192.0.2.1:3478: good")


def test_nothing_found_is_said() -> None:
    lines: list[str] = []
    PlainView(lines.append).found(Findings(is_done=True))
    assert lines == ["Candidates, after 0 ms", "  none", "Servers", f"  {words.NO_SERVERS}"]


@pytest.mark.parametrize("width", [80, 150])
def test_a_terminal_shows_tables_and_changes(width: int) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, height=100, color_system=None)
    before, after = two_findings()
    with LiveView(console, is_watching=True) as view:
        view.update(replace(before, is_done=False))
        view.found(before)
        first = output.getvalue()
        view.update(after)
        assert output.getvalue() == first
        view.found(after)
    assert "Candidates, gathering" in first and "none so far" in first
    assert "ServerVerdict" not in first and "server-error-486" in first
    final = output.getvalue()[len(first) :]
    assert "~ turn:192.0.2.1:3478: good" in final and "server-error-486" not in final
    assert all(len(line) <= width for line in final[final.rindex("Candidates") :].splitlines())


def test_a_terminal_without_servers_is_told_so() -> None:
    output = io.StringIO()
    with LiveView(Console(file=output, force_terminal=True, width=120, height=100, color_system=None)) as view:
        view.found(nothing())
    assert words.NO_SERVERS in output.getvalue() and "Ctrl-C" not in output.getvalue()


def test_json_tells_the_same() -> None:
    documents: list[dict[str, Any]] = []
    view = DocumentView(documents.append)
    before, after = two_findings()
    for findings in (before, before, after):
        view.update(findings)
        view.found(findings)
    first, second = json.loads(json.dumps(documents))
    assert not first["ok"] and second["ok"]
    assert second["changes"] == ["~ turn:192.0.2.1:3478: good"]
    (server,) = first["servers"]
    assert server["reports"][0]["failure"]["cause"] == "server-error-486" and not server["ok"]
    assert second["servers"][0]["reports"][0]["found"] == ["192.0.2.1:50000"]
    (mapping,) = first["mapping"]
    assert mapping["behaviour"] == "address-dependent" and mapping["transport"] == "udp"
    (candidate,) = first["candidates"]
    assert candidate["sdp"].startswith("candidate:") and candidate["rule"] == "candidate_types: host"
    assert {"address": "::1", "rule": "address_families: ipv6 is not among them"} in first["removed"]


# The command


def test_the_command_gathers_by_its_policy(tmp_path: Path) -> None:
    result = gather("--policy", written(tmp_path / "policy.yaml", transports=["tcp"]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "host  tcp so      127.0.0.1:" in result.stdout and words.NO_SERVERS in result.stdout
    assert "udp candidates" in result.stdout


def test_without_a_policy_it_is_the_default() -> None:
    assert "127.0.0.1 " in gather().stdout.partition("Removed")[2]


def test_a_server_that_fails_is_an_exit_status_of_1(tmp_path: Path) -> None:
    closed = free_ports("127.0.0.1")[0]
    server = {"url": f"turn:127.0.0.1:{closed}?transport=tcp", **USER}
    result = gather("--json", "--policy", written(tmp_path / "policy.yaml", servers=[server]))
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert not document["ok"] and document["candidates"]


def test_no_candidate_is_an_exit_status_of_1(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("interfaces: {include: [none]}\n", "utf-8")
    result = gather("--policy", str(path))
    assert result.exit_code == 1
    assert "interfaces.include: no pattern matches lo" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "/nonexistent"], "does not exist"),
        (["--interval", "0"], "not in the range"),
        (["--interval", "soon"], "not a valid float"),
        (["now"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], message: str) -> None:
    result = gather(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr and result.stdout == ""


def test_a_wrong_policy_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("servers:\n  - url: turn:192.0.2.1\n", "utf-8")
    result = gather("--policy", str(path))
    assert result.exit_code == 2
    assert f"{path}:2:5: servers[0].url: a TURN server needs credentials" in result.stderr


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    # A background job of a shell ignores interrupts, and so would the child; a signal that is handled it gets anew.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ice_tcp.cli", "gather", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_watching_tells_a_server_that_goes_and_an_interrupt_ends_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with server() as first:
            url = f"turn:{address(first)}?transport=tcp"
            policy = written(tmp_path / "policy.yaml", transports=["tcp"], servers=[{"url": url, **USER}])
            options = ("--json", "--watch", "--interval", "0.1")
            async with running("--policy", policy, *options) as process, asyncio.timeout(60):
                assert process.stdout is not None
                assert json.loads(await process.stdout.readline())["ok"]
                await first.close()
                document = json.loads(await process.stdout.readline())
                assert not document["ok"]
                assert "- relay tcp passive 127.0.0.1" in document["changes"]
                assert f"~ {url}: failed (refused)" in document["changes"]
                process.send_signal(signal.SIGINT)
                _, errors = await process.communicate()
                assert (process.returncode, errors) == (1, b"")

    asyncio.run(scenario())


def test_an_interrupt_before_the_end_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            asked.set()
            await reader.read()
            writer.close()

        async with listening(mute) as place:
            servers = [{"url": f"stuns:{place}"}]
            policy = written(tmp_path / "policy.yaml", servers=servers, timeouts={"gather": 60})
            async with running("--policy", policy) as process, asyncio.timeout(60):
                await asked.wait()
                process.send_signal(signal.SIGINT)
                output, errors = await process.communicate()
                assert (process.returncode, output, errors) == (130, b"", b"interrupted\n")

    asyncio.run(scenario())
