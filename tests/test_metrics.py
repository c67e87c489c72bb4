"""Numbers for Prometheus: they are those of the sessions and servers, and name nobody."""

from __future__ import annotations

import asyncio
import gc
import http.client
import logging
import re
import signal
import socket
import sys
import urllib.request
import weakref
from asyncio.subprocess import PIPE
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from candidates.policy import Policy
from ice_tcp import Agent, Role
from ice_tcp.cli import main
from ice_tcp.core.events import (
    AgentState,
    PairChanged,
    PairState,
    Restarted,
    StateChanged,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.meeting.meeting import await_peer, reach_peer
from ice_tcp.metrics import AgentMetrics, RendezvousMetrics, ServerMetrics, serve
from ice_tcp.rendezvous import MemoryMailboxes, RendezvousError, RendezvousServer, join_line, open_line
from ice_tcp.rendezvous.mailboxes import Ticket
from ice_tcp.server import PeerPolicy, Server, ServerOptions
from tests.agents import policy as loopback_policy
from tests.agents import signal as introduced
from tests.core.test_trace import busy_session

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "metrics.md"
PATIENCE = 40.0

RELAYING: Final[dict[str, Any]] = {
    "hosts": ("127.0.0.1",),
    "port": 0,
    "users": {"alice": "secret"},
    "peers": PeerPolicy(loopback=True),
}

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Numbers:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers.get((name, frozenset(labels.items())), 0.0)


async def scraped(port: int) -> Numbers:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    return parsed(await asyncio.to_thread(get))


def run(body: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await body()

    asyncio.run(bounded())


def policy(**sections: Any) -> Policy:
    return loopback_policy().revised(**sections)


@pytest.mark.parametrize("carrier", ["udp", "tcp"])
def test_agents_are_counted_and_what_they_carried(carrier: str) -> None:
    async def body() -> None:
        metrics = AgentMetrics()
        follows = policy(transports=[carrier])
        async with serve(metrics.registry, "127.0.0.1", 0) as port:
            async with Agent(Role.CONTROLLING, policy=follows) as one, Agent(Role.CONTROLLED, policy=follows) as other:
                for agent in (one, other):
                    metrics.watch(agent)
                await introduced(one, other)
                await asyncio.gather(one.connect(), other.connect())
                await asyncio.gather(one.nominated(), other.nominated())
                await one.send(b"12345")
                assert await other.recv() == b"12345"
                numbers = await scraped(port)
                assert number(numbers, "ice_tcp_agents") == 2
                assert number(numbers, "ice_tcp_agent_bytes_total", carrier=carrier, direction="sent") == 5
                assert number(numbers, "ice_tcp_agent_packets_total", carrier=carrier, direction="received") == 1
            numbers = await scraped(port)
        assert number(numbers, "ice_tcp_agents") == 0
        assert number(numbers, "ice_tcp_agents_watched_total") == 2
        assert number(numbers, "ice_tcp_agent_completed_total", transport=carrier, relayed="false") == 2
        for name in ("gathering", "connecting", "nominating"):
            assert number(numbers, f"ice_tcp_agent_{name}_seconds_count") == 2
        found = {labels for name, labels in numbers if name == "ice_tcp_agent_candidates_total"}
        assert {dict(each)["transport"] for each in found} == {carrier}
        # What a closed agent carried stays.
        assert number(numbers, "ice_tcp_agent_bytes_total", carrier=carrier, direction="sent") == 5

    run(body)


def test_the_statistics_of_a_session_stay_after_its_end() -> None:
    async def body() -> None:
        follows = policy(transports=["udp"])
        async with Agent(Role.CONTROLLING, policy=follows) as one, Agent(Role.CONTROLLED, policy=follows) as other:
            await introduced(one, other)
            await asyncio.gather(one.connect(), other.connect())
            await one.send(b"abc")
            assert await other.recv() == b"abc"
            during = other.stats().traffic
        assert [(each.carrier, each.packets_received, each.bytes_received) for each in during] == [("udp", 1, 3)]
        assert other.stats().traffic == during

    run(body)


def test_failures_restarts_and_losses_are_counted_by_their_verdicts() -> None:
    metrics = AgentMetrics()
    one, _ = busy_session()
    pair = next(event for event in one.all_events(PairChanged))
    restarted = one.all_events(Restarted)[0]
    for event in (
        StateChanged(AgentState.FAILED, Verdict.ALL_PAIRS_FAILED),
        StateChanged(AgentState.DISCONNECTED, Verdict.CONSENT_EXPIRED),
        PairChanged(1, 1, pair.local, pair.remote, PairState.FAILED, Verdict.NO_RESPONSE),
        restarted,
    ):
        metrics.count(event)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("ice_tcp_agent_failed_total", verdict="all-pairs-failed") == 1
    assert value("ice_tcp_agent_disconnected_total", verdict="consent-expired") == 1
    assert value("ice_tcp_agent_pairs_failed_total", verdict="no-response") == 1
    assert value("ice_tcp_agent_restarts_total") == 1


def test_a_closed_agent_is_let_go() -> None:
    async def body() -> None:
        metrics = AgentMetrics()
        agent = Agent(Role.CONTROLLING, policy=policy())
        metrics.watch(agent)
        await agent.close()
        gone = weakref.ref(agent)
        del agent
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        del others
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

    run(body)


def test_a_server_tells_what_it_relays_and_refuses() -> None:
    async def body() -> None:
        metrics = ServerMetrics()
        options = ServerOptions(**RELAYING)
        async with Server(options, trace=metrics.record) as server, serve(metrics.registry, "127.0.0.1", 0) as port:
            metrics.watch(server)
            url = f"turn:127.0.0.1:{server.address(server.listeners[0].leg)[1]}"
            good = {"url": url, "username": "alice", "password": "secret"}
            only = {"candidate_types": ["relay"], "transports": ["udp"]}
            follows = policy(servers=[good], **only)
            async with Agent(Role.CONTROLLING, policy=follows) as one, Agent(Role.CONTROLLED, policy=follows) as other:
                await introduced(one, other)
                await asyncio.gather(one.connect(), other.connect())
                await one.send(b"x" * 100)
                assert await other.recv() == b"x" * 100
                numbers = await scraped(port)
                assert number(numbers, "ice_tcp_server_allocations") == 2
                sent = number(numbers, "ice_tcp_server_relayed_bytes_total", transport="udp", direction="to-peers")
                assert sent >= 100
                assert number(numbers, "ice_tcp_server_relayed_packets_total", direction="from-peers") >= 1
            wrong = policy(servers=[{**good, "password": "guess"}], **only)
            async with Agent(Role.CONTROLLING, policy=wrong) as stranger:
                await stranger.gather()
            numbers = await scraped(port)
        assert number(numbers, "ice_tcp_server_allocations") == 0
        assert number(numbers, "ice_tcp_server_allocations_created_total", transport="udp") == 2
        assert number(numbers, "ice_tcp_server_requests_refused_total", method="allocate", code="401") >= 4
        after = number(numbers, "ice_tcp_server_relayed_bytes_total", transport="udp", direction="to-peers")
        assert after >= sent

    run(body)


def test_a_server_counts_what_tcp_relays_carry() -> None:
    async def body() -> None:
        metrics = ServerMetrics()
        options = ServerOptions(**RELAYING)
        async with Server(options, trace=metrics.record) as server:
            metrics.watch(server)
            url = f"turn:127.0.0.1:{server.address(server.listeners[0].leg)[1]}?transport=tcp"
            entry = {"url": url, "username": "alice", "password": "secret"}
            follows = policy(servers=[entry], candidate_types=["relay"], transports=["tcp"])
            async with Agent(Role.CONTROLLING, policy=follows) as one, Agent(Role.CONTROLLED, policy=follows) as other:
                await introduced(one, other)
                await asyncio.gather(one.connect(), other.connect())
                await one.send(b"x" * 1000)
                assert await other.recv() == b"x" * 1000
                relayed = server.stats().relayed["tcp"]
                assert relayed.bytes_to_peers >= 1000
                assert relayed.bytes_from_peers >= 1000
                assert server.stats().connections > 0
            kept = server.stats().relayed["tcp"]
            assert kept.bytes_to_peers >= relayed.bytes_to_peers

    run(body)


def test_a_rendezvous_tells_who_came_and_why_others_did_not() -> None:
    async def body() -> None:
        async with RendezvousServer("127.0.0.1") as server:
            metrics = RendezvousMetrics(server)
            url = f"ws://127.0.0.1:{server.port}"
            async with serve(metrics.registry, "127.0.0.1", 0) as port:
                async with open_line(url) as line, join_line(url, line.mailbox) as other:
                    await line.send("hello")
                    assert await other.receive() == "hello"
                    numbers = await scraped(port)
                    assert number(numbers, "ice_tcp_rendezvous_connections") == 2
                with pytest.raises(RendezvousError):
                    async with join_line(url, "99999"):
                        pass
                numbers = await scraped(port)
            assert number(numbers, "ice_tcp_rendezvous_entered_total", how="open") == 1
            assert number(numbers, "ice_tcp_rendezvous_entered_total", how="join") == 1
            assert number(numbers, "ice_tcp_rendezvous_refused_total", reason="no-such-mailbox") == 1
            assert number(numbers, "ice_tcp_rendezvous_texts_total") == 1
            assert number(numbers, "ice_tcp_rendezvous_text_bytes_total") == 5

    run(body)


# Logs


class Known(MemoryMailboxes):
    """Its tokens are written down."""

    def __init__(self, tokens: list[str]) -> None:
        super().__init__()
        self._known = tokens

    async def open(self) -> Ticket:
        return self._know(await super().open())

    async def join(self, mailbox: str) -> Ticket:
        return self._know(await super().join(mailbox))

    def _know(self, ticket: Ticket) -> Ticket:
        self._known.append(ticket.token)
        return ticket


def test_what_is_logged_of_a_session_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Of agents, a server and a rendezvous, at the finest level."""
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []

    async def body() -> None:
        async with Server(ServerOptions(**{**RELAYING, "users": {"alice": "p4ss-of-alice"}})) as server:
            url = f"turn:127.0.0.1:{server.address(server.listeners[0].leg)[1]}"
            entry = {"url": url, "username": "alice", "password": "p4ss-of-alice"}
            follows = policy(servers=[entry])
            async with RendezvousServer("127.0.0.1", mailboxes=Known(secrets)) as rendezvous:
                here = f"ws://127.0.0.1:{rendezvous.port}"
                codes: asyncio.Queue[str] = asyncio.Queue()

                async def wait() -> None:
                    async with await_peer(codes.put_nowait, rendezvous=here, policy=follows):
                        pass

                waiting = asyncio.create_task(wait())
                code = await codes.get()
                secrets.extend(["p4ss-of-alice", code.partition("-")[2]])
                async with reach_peer(code, rendezvous=here, policy=follows):
                    pass
                await waiting
            async with Agent(Role.CONTROLLING, policy=follows) as one, Agent(Role.CONTROLLED, policy=follows) as other:
                secrets.extend(each.local_parameters.pwd for each in (one, other))
                await introduced(one, other)
                await asyncio.gather(one.connect(), other.connect())

    run(body)
    text = caplog.text
    assert "the session is connected" in text
    assert "data goes" in text
    assert len(secrets) == 6
    assert not [secret for secret in secrets if secret in text]


# The address


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match=f"metrics .* 127.0.0.1 port {port}: .*in use"):
                async with serve(CollectorRegistry(), "127.0.0.1", port):
                    pass

    run(body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("HEAD", "/metrics", 405),
        ("OPTIONS", "/metrics", 405),
        ("GET", "/metrics?all=1", 200),
    ],
)
def test_nothing_but_the_metrics_is_answered(method: str, path: str, status: int) -> None:
    def ask(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    async def body() -> None:
        async with serve(AgentMetrics().registry, "127.0.0.1", 0) as port:
            found, text = await asyncio.to_thread(ask, port)
        assert found == status
        assert (b"ice_tcp_agents " in text) is (status == 200)

    run(body)


def test_after_its_end_nobody_answers() -> None:
    async def body() -> None:
        async with serve(CollectorRegistry(), "127.0.0.1", 0) as port:
            assert await scraped(port) == {}
        with pytest.raises(OSError, match="refused"):
            await scraped(port)

    run(body)


@pytest.mark.parametrize("command", ["server", "rendezvous"])
@pytest.mark.parametrize("text", ["9464", "127.0.0.1:", ":9464", "127.0.0.1:99999", "127.0.0.1:http"])
def test_a_wrong_address_is_a_wrong_argument(command: str, text: str) -> None:
    result = CliRunner().invoke(main, [command, "--metrics", text])
    assert result.exit_code == 2
    assert "is not HOST:PORT" in result.output


@pytest.mark.parametrize("command", ["server", "rendezvous"])
def test_without_the_client_it_says_what_to_install(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for name in [name for name in sys.modules if name.startswith("ice_tcp.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    arguments = {"server": ["--listen", "127.0.0.1", "--port", "0"], "rendezvous": ["--port", "0"]}[command]
    result = CliRunner().invoke(main, [command, *arguments, "--metrics", "127.0.0.1:0"])
    assert result.exit_code == 1
    assert "pip install 'ice-tcp[metrics]'" in result.output


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@pytest.mark.parametrize("command", [["server", "--listen", "127.0.0.1"], ["rendezvous", "--host", "127.0.0.1"]])
def test_the_commands_answer_beside_their_work(command: list[str], free_port: int) -> None:
    async def body() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ice_tcp.cli", *command, "--port", "0", "--metrics", f"127.0.0.1:{free_port}"),
            stdout=PIPE,
            stderr=PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()  # it says where it listens, once all is there
        numbers = await scraped(free_port)
        assert number(numbers, f"ice_tcp_{command[0]}_connections") == 0
        assert any(name.startswith(f"ice_tcp_{command[0]}_") for name, _ in numbers)
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")

    run(body)


# The document


def every_metric() -> list[tuple[str, str, str, str]]:
    """Name, kind, labels and text of each, as the document's table has them."""
    registry = CollectorRegistry()
    AgentMetrics(registry)
    servers = ServerMetrics(registry)
    servers.watch(Server(ServerOptions(hosts=("127.0.0.1",), port=0)))
    RendezvousMetrics(RendezvousServer("127.0.0.1"), registry)
    rows = []
    collectors: list[Any] = list(registry._collector_to_names)  # noqa: SLF001 - a registry tells them nowhere else
    for collector in collectors:
        for metric in collector.describe():
            names = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
            suffix = "_total" if metric.type == "counter" else ""
            rows.append((f"{metric.name}{suffix}", metric.type, ", ".join(names), metric.documentation))
    return sorted(rows)


def table() -> str:
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in every_metric()]
    return "\n".join(lines)


def test_the_document_has_every_metric() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert f"<!-- metrics -->\n\n{table()}\n" in text, f"the table in docs/metrics.md has to be\n\n{table()}"


def test_no_label_can_name_anybody() -> None:
    used = {label for _, _, labels, _ in every_metric() for label in labels.split(", ") if label}
    assert used <= {
        *("type", "transport", "tcptype", "local", "remote", "relayed", "verdict", "cause", "purpose", "carrier"),
        *("direction", "method", "code", "reason", "how"),
    }


def test_its_program_and_commands_are_so(tmp_path: Path) -> None:
    text = DOCUMENT.read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    script = tmp_path / "metrics.py"
    script.write_text(program, "utf-8")

    async def body() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, script, stdout=PIPE, stderr=PIPE)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors
        assert re.fullmatch(rb"http://127\.0\.0\.1:\d+/metrics tells of \d\d metrics\n", output)

    run(body)
    for line in re.findall(r"^\$ ice-tcp (.*)", text, re.MULTILINE):
        command, *arguments = line.split()
        found = main.get_command(click.Context(main), command)
        assert found is not None
        found.make_context(command, arguments)
