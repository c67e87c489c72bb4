"""Agents whose servers are coturn: every transport to it, what it refuses, and what becomes of a session without it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from candidates.candidate import CandidateType, TcpType, Transport
from candidates.policy import Policy
from ice_tcp import (
    Agent,
    ConnectError,
    MappingBehaviour,
    Purpose,
    RelayLost,
    Role,
    ServerReport,
    ServerVerdict,
    Verdict,
)
from ice_tcp.core.commands import LegTransport
from ice_tcp.core.exchanges import ServerAnswered
from ice_tcp.core.trace import TraceSink
from ice_tcp.quic import Certificate, connect_quic
from ice_tcp.stun import Method
from ice_tcp.transfer import FileOffer, GeneratedFile, receive_file, send_file
from interop.coturn import Coturn, free_ports
from tests.agents import exchange, signal
from tests.server_clients import make_certificate

pytestmark = pytest.mark.interop

Entry: TypeAlias = dict[str, Any]
PATIENCE = 30.0
"""Seconds until a test that waits in vain fails."""
UDP, TCP, TLS, DTLS = LegTransport
RELAY_ONLY: dict[str, Any] = {"candidate_types": ["relay"]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def turn(coturn: Coturn, leg: LegTransport = UDP, **changes: Any) -> Entry:
    """A server of a policy: this coturn as a TURN server."""
    host = f"[{coturn.host}]" if ":" in coturn.host else coturn.host
    entry: Entry = {"url": f"turn:{host}:{coturn.port}?transport={leg}", "username": "user", "password": "pass"}
    if leg.secure:
        entry |= {"url": f"turns:{host}:{coturn.tls_port}?transport={'tcp' if leg is TLS else 'udp'}"}
    return entry | changes


def policy(*servers: Entry, **sections: Any) -> Policy:
    """On loopback, IPv4 unless told otherwise."""
    return Policy.model_validate(
        {
            "address_families": ["ipv4"],
            "interfaces": {"include": ["lo"], "loopback": True},
            "servers": servers,
            **sections,
        }
    )


@asynccontextmanager
async def agents(one: Policy, two: Policy | None = None, trace: TraceSink | None = None) -> AsyncIterator[list[Agent]]:
    """A controlling agent, which ``trace`` hears, and a controlled one; both follow ``one`` if ``two`` is None."""
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        yield [
            await stack.enter_async_context(Agent(Role.CONTROLLING, policy=one, trace=trace)),
            await stack.enter_async_context(Agent(Role.CONTROLLED, policy=two or one)),
        ]


@asynccontextmanager
async def connected(
    one: Policy, two: Policy | None = None, trace: TraceSink | None = None
) -> AsyncIterator[list[Agent]]:
    async with agents(one, two, trace) as (alice, bob):
        await signal(alice, bob)
        await asyncio.gather(alice.connect(), bob.connect())
        await asyncio.gather(alice.nominated(), bob.nominated())
        yield [alice, bob]


async def reports(policy: Policy) -> tuple[ServerReport, ...]:
    """What became of the servers of a policy."""
    async with Agent(Role.CONTROLLING, policy=policy) as agent, asyncio.timeout(PATIENCE):
        await agent.gather()
        return agent.server_reports()


async def failures(policy: Policy, purpose: Purpose = Purpose.RELAY) -> set[object]:
    """Why nothing was got for a purpose; what was got is None."""
    told = [report for report in await reports(policy) if report.purpose is purpose]
    assert all(report.failure is None or report.failure.remedy for report in told)
    return {report.failure.cause if report.failure else None for report in told}


async def talk(alice: Agent, bob: Agent, count: int = 20) -> None:
    """Messages of many sizes go both ways. Over loopback and one at a time none is lost."""
    for sender, receiver in ((alice, bob), (bob, alice)):
        for number in range(count):
            message = bytes([number]) * (1 + 61 * number)
            await sender.send(message)
            assert await receiver.recv() == message


# Every way to it


@pytest.mark.parametrize("leg", LegTransport)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_data_is_relayed_by_every_leg_in_both_families(
    leg: LegTransport, host: str, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async def scenario(coturn: Coturn) -> None:
        tls = {"tls": {"ca_file": str(certificate[0]), "server_name": "localhost"}} if leg.secure else {}
        families = {"address_families": ["ipv6" if ":" in host else "ipv4"]}
        followed = policy(turn(coturn, leg, **tls), transports=["udp"], **RELAY_ONLY, **families)
        async with connected(followed) as (alice, bob):
            for agent in (alice, bob):
                path = agent.selected_path()
                assert path is not None and path.is_relayed
                assert path.local.type is CandidateType.RELAY and path.local.address.host == host
                (report,) = agent.server_reports()
                assert report.leg is leg and report.failure is None
            await talk(alice, bob)

    with Coturn(tmp_path, hosts=[host], certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_one_allocation_has_addresses_of_both_families(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        both = policy(turn(coturn), transports=["udp"], address_families=["ipv4", "ipv6"], **RELAY_ONLY)
        (report,) = await reports(both)
        assert [address.host for address in report.found] == ["127.0.0.1", "::1"]
        only_6 = policy(turn(coturn), transports=["udp"], address_families=["ipv6", "ipv4"], **RELAY_ONLY)
        async with connected(both, only_6) as (alice, bob):
            await talk(alice, bob)

    with Coturn(tmp_path, hosts=["127.0.0.1", "::1"]) as coturn:
        asyncio.run(scenario(coturn))


def test_a_server_of_one_family_relays_that_one_and_says_so(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        told = await reports(policy(turn(coturn), transports=["udp"], address_families=["ipv4", "ipv6"], **RELAY_ONLY))
        assert [address.host for report in told for address in report.found] == ["127.0.0.1"]
        (refused,) = [report for report in told if report.failure is not None]
        assert refused.family == 6 and refused.failure is not None
        assert refused.failure.cause is ServerVerdict.FAMILY_NOT_SUPPORTED

    with Coturn(tmp_path) as coturn:
        asyncio.run(scenario(coturn))


def test_how_coturn_sees_each_base(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        async with Agent(Role.CONTROLLING, policy=policy({"url": f"stun:127.0.0.1:{coturn.port}"})) as agent:
            await agent.gather()
            own = [candidate async for candidate in agent.local_candidates()]
            assert {candidate.type for candidate in own} == {CandidateType.HOST}
            seen = {(each.transport, each.tcptype): each.found for each in agent.server_reports()}
            assert seen == {
                (each.transport, each.tcptype): (each.address,) for each in own if each.tcptype is not TcpType.ACTIVE
            }
            assert set(agent.mapping_behaviours().values()) == {MappingBehaviour.NONE}

    with Coturn(tmp_path, hosts=["127.0.0.1", "127.0.0.2"]) as coturn:
        asyncio.run(scenario(coturn))


# RFC 6062


@pytest.mark.parametrize("leg", [TCP, TLS])
@pytest.mark.parametrize("ours", [TcpType.ACTIVE, TcpType.PASSIVE])
def test_tcp_is_relayed_both_ways(
    leg: LegTransport, ours: TcpType, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """Active: the server connects to the peer's listener. Passive: the peer connects to the relay."""

    async def scenario(coturn: Coturn) -> None:
        tls = {"tls": {"ca_file": str(certificate[0]), "server_name": "localhost"}} if leg.secure else {}
        theirs = "passive" if ours is TcpType.ACTIVE else "active"
        relayed = policy(turn(coturn, leg, **tls), transports=["tcp"], tcp_types=[ours.value], **RELAY_ONLY)
        direct = policy(transports=["tcp"], tcp_types=[theirs])
        async with connected(relayed, direct) as (alice, bob):
            path = alice.selected_path()
            assert path is not None and path.local.type is CandidateType.RELAY and path.local.tcptype is ours
            await talk(alice, bob)

    with Coturn(tmp_path, certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_a_byte_stream_goes_from_relay_to_relay(tmp_path: Path) -> None:
    """The receiver says that it has all: coturn makes a reset of an end, and drops what it has not sent by then."""
    data = os.urandom(4 << 20)

    async def scenario(coturn: Coturn) -> None:
        followed = policy(turn(coturn, TCP), transports=["tcp"], **RELAY_ONLY)
        async with connected(followed) as (alice, bob):
            (answers, writer), (reader, other) = await asyncio.gather(alice.open_stream(), bob.open_stream())

            async def write() -> None:
                writer.write(data)
                assert await answers.readexactly(4) == b"done"
                writer.close()

            async def read() -> None:
                arrived = await reader.readexactly(len(data))
                assert hashlib.sha256(arrived).digest() == hashlib.sha256(data).digest()
                other.write(b"done")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                other.close()

            await asyncio.gather(write(), read())

    with Coturn(tmp_path) as coturn:
        asyncio.run(scenario(coturn))


def test_where_no_tcp_is_relayed_udp_is(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        followed = policy(turn(coturn, TCP), transports=["tcp"], **RELAY_ONLY)
        assert await failures(followed) == {ServerVerdict.TRANSPORT_NOT_SUPPORTED, None}
        async with connected(followed) as (alice, bob):
            path = alice.selected_path()
            assert path is not None and path.local.transport is Transport.UDP
            await talk(alice, bob)

    with Coturn(tmp_path, extra=["no-tcp-relay"]) as coturn:
        asyncio.run(scenario(coturn))


# QUIC through the relay


class Sink:
    """Where a file arrives: only its checksum is kept. ``begun`` is set with the first part."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.begun = asyncio.Event()

    def write(self, data: bytes, /) -> None:
        self.hash.update(data)
        self.begun.set()


async def transfer(alice: Agent, bob: Agent, size: int, sink: Sink) -> None:
    """Send a file by QUIC; it is whole at the other end."""
    offer = FileOffer("generated data", size)
    ours, theirs = Certificate.generate(), Certificate.generate()
    client, server = await asyncio.gather(
        connect_quic(alice, is_client=True, certificate=ours, peer_fingerprint=theirs.fingerprint),
        connect_quic(bob, is_client=False, certificate=theirs, peer_fingerprint=ours.fingerprint),
    )

    async def send() -> str:
        reader, writer = await client.open_stream()
        receipt = await send_file(reader, writer, GeneratedFile(offer.size, 7), offer)
        writer.close()
        return receipt.sha256_sent

    async def receive() -> str:
        reader, writer = await server.accept_stream()
        receipt = await receive_file(reader, writer, lambda _: sink)
        writer.close()
        return receipt.sha256_received

    async with client, server:
        sent, received = await asyncio.gather(send(), receive())
    assert sent == received == sink.hash.hexdigest()


@pytest.mark.parametrize("leg", [UDP, TLS, DTLS])
def test_a_file_goes_through_the_relay_by_quic(
    leg: LegTransport, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async def scenario(coturn: Coturn) -> None:
        tls = {"tls": {"ca_file": str(certificate[0]), "server_name": "localhost"}} if leg.secure else {}
        async with connected(policy(turn(coturn, leg, **tls), transports=["udp"], **RELAY_ONLY)) as (alice, bob):
            await transfer(alice, bob, 4 << 20, Sink())

    with Coturn(tmp_path, certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_a_file_survives_the_death_of_its_relay(tmp_path: Path) -> None:
    """The server is killed and started again in the middle of a transfer, and nothing of the file is lost."""

    async def scenario(coturn: Coturn) -> None:
        async with connected(policy(turn(coturn), transports=["udp"], **RELAY_ONLY)) as (alice, bob):
            lost = [asyncio.create_task(next_of(agent, RelayLost)) for agent in (alice, bob)]
            sink = Sink()
            sending = asyncio.create_task(transfer(alice, bob, 64 << 20, sink))
            await sink.begun.wait()
            coturn.kill()
            await asyncio.gather(*lost)
            assert not sending.done()
            coturn.start()
            await again(alice, bob)
            await sending

    with Coturn(tmp_path) as coturn:
        asyncio.run(scenario(coturn))


# Credentials


def test_wrong_credentials_are_told(tmp_path: Path) -> None:
    key = hashlib.md5(b"stranger:elsewhere.example:pass", usedforsecurity=False).hexdigest()

    async def scenario(coturn: Coturn) -> None:
        for changes in (
            {"password": "wrong"},
            {"username": "nobody"},
            {"username": "stranger"},  # whom the server knows in another realm only
        ):
            followed = policy(turn(coturn, UDP, **changes), transports=["udp"], **RELAY_ONLY)
            assert await failures(followed) == {ServerVerdict.UNAUTHENTICATED}, changes

    with Coturn(tmp_path, extra=[f"user=stranger:0x{key}"]) as coturn:
        asyncio.run(scenario(coturn))


def test_short_lived_credentials(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        entry = turn(coturn)
        del entry["password"]
        good, bad = (
            policy(entry | {"username": "ann", "secret": secret}, transports=["udp"], **RELAY_ONLY)
            for secret in ("sesame", "simsim")
        )
        assert await failures(good) == {None}
        assert await failures(bad) == {ServerVerdict.UNAUTHENTICATED}

    with Coturn(tmp_path, secret="sesame") as coturn:
        asyncio.run(scenario(coturn))


def test_an_allocation_of_seconds_is_renewed_with_a_new_nonce_while_data_flows(tmp_path: Path) -> None:
    """coturn grants a few seconds when asked to by its configuration, but only once: a refresh gives ten minutes."""
    lifetime = 5
    codes: list[int | None] = []
    begun: list[float] = []

    def trace(at: float, record: object) -> None:
        if isinstance(record, ServerAnswered) and record.method == Method.ALLOCATE:
            begun.append(at)
        elif isinstance(record, ServerAnswered) and record.method == Method.REFRESH:
            codes.append(record.code)
        now.append(at)

    now: list[float] = []

    async def scenario(coturn: Coturn) -> None:
        followed = policy(turn(coturn), transports=["udp"], **RELAY_ONLY)
        async with connected(followed, trace=trace) as (alice, bob):
            lost = asyncio.create_task(next_of(alice, RelayLost))
            while now[-1] < begun[-1] + lifetime + 0.5:
                await talk(alice, bob, 2)
                await asyncio.sleep(0.1)
            assert codes == [438, None]
            assert not lost.done()
            lost.cancel()

    with Coturn(tmp_path, extra=[f"max-allocate-lifetime={lifetime}", "stale-nonce=1"]) as coturn:
        asyncio.run(scenario(coturn))


# What it refuses


def test_the_quota_is_told(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        followed = policy(turn(coturn), transports=["udp"], **RELAY_ONLY)
        async with agents(followed) as (alice, bob):
            await alice.gather()
            await bob.gather()
            (first,), (second,) = alice.server_reports(), bob.server_reports()
            assert first.failure is None
            assert second.failure is not None and second.failure.cause is ServerVerdict.QUOTA_REACHED
        async with asyncio.timeout(PATIENCE):
            while await failures(followed) != {None}:
                pass  # what was deleted counts for up to a second yet

    with Coturn(tmp_path, extra=["user-quota=1"]) as coturn:
        asyncio.run(scenario(coturn))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_forbidden_peer_is_told(transport: str, tmp_path: Path) -> None:
    async def scenario(coturn: Coturn) -> None:
        followed = policy(
            turn(coturn, TCP), transports=[transport], timeouts={"patience": 1.0, "connect": 1.0}, **RELAY_ONLY
        )
        async with agents(followed) as (alice, bob):
            await signal(alice, bob)
            ends = await asyncio.gather(alice.connect(), bob.connect(), return_exceptions=True)
            assert all(isinstance(end, ConnectError) for end in ends)
            assert {pair.verdict for pair in alice.stats().pairs} == {Verdict.NO_PERMISSION}

    with Coturn(tmp_path, loopback_peers=False) as coturn:
        asyncio.run(scenario(coturn))


def test_tls_to_a_server_that_has_none_ends_in_time(tmp_path: Path) -> None:
    """coturn without TLS waits for the rest of what it takes for a message, and may close then."""

    async def scenario(coturn: Coturn) -> None:
        tls_to_plain = turn(coturn, TLS, url=f"turns:{coturn.host}:{coturn.port}")
        followed = policy(tls_to_plain, transports=["udp"], timeouts={"gather": 0.5}, **RELAY_ONLY)
        assert await failures(followed) in ({Verdict.TIMED_OUT}, {Verdict.TLS})

    with Coturn(tmp_path) as coturn:
        asyncio.run(scenario(coturn))


def test_coturn_knows_tls_from_plain_messages_on_each_port(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async def scenario(coturn: Coturn) -> None:
        trusted = {"tls": {"ca_file": str(certificate[0]), "server_name": "localhost"}}
        for entry in (
            turn(coturn, TLS, url=f"turns:{coturn.host}:{coturn.port}", **trusted),
            turn(coturn, TCP, url=f"turn:{coturn.host}:{coturn.tls_port}?transport=tcp"),
        ):
            assert await failures(policy(entry, transports=["udp"], **RELAY_ONLY)) == {None}, entry

    with Coturn(tmp_path, certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async def scenario(coturn: Coturn) -> None:
        trusted = {"ca_file": str(certificate[0])}
        for tls, expected in (
            ({}, Verdict.TLS_CERTIFICATE),
            ({**trusted, "server_name": "turn.example.org"}, Verdict.TLS_CERTIFICATE),
            (trusted, None),
            ({"verify": False}, None),
        ):
            followed = policy(turn(coturn, TLS, tls=tls), transports=["udp"], **RELAY_ONLY)
            assert await failures(followed) == {expected}, tls

    with Coturn(tmp_path, certificate=certificate) as coturn:
        asyncio.run(scenario(coturn))


def test_what_cannot_be_reached_is_told_and_delays_nobody(tmp_path: Path) -> None:
    async def scenario(coturn: Coturn, other: Coturn) -> None:
        closed = free_ports("127.0.0.1")[0]
        servers = [
            turn(coturn),
            turn(coturn, url="turn:turn.invalid"),
            turn(other),
            turn(coturn, TCP, url=f"turn:127.0.0.1:{closed}?transport=tcp"),
        ]
        told = await reports(policy(*servers, transports=["udp"], **RELAY_ONLY))
        outcomes = {report.server: report.failure.cause if report.failure else None for report in told}
        assert list(outcomes.values()).count(None) == 1
        assert outcomes[servers[0]["url"]] is None
        assert outcomes["turn:turn.invalid"] is Verdict.NO_ADDRESS
        assert outcomes[f"turn:[::1]:{other.port}?transport=udp"] is Verdict.NO_ADDRESS
        assert outcomes[f"turn:127.0.0.1:{closed}?transport=tcp"] is Verdict.REFUSED

    (tmp_path / "other").mkdir()
    with Coturn(tmp_path) as coturn, Coturn(tmp_path / "other", hosts=["::1"]) as other:
        asyncio.run(scenario(coturn, other))


def test_a_redirection_is_followed(tmp_path: Path) -> None:
    (tmp_path / "front").mkdir()

    async def scenario(front: Coturn, behind: Coturn) -> None:
        async with connected(policy(turn(front), transports=["udp"], **RELAY_ONLY)) as (alice, bob):
            (report,) = alice.server_reports()
            assert report.address is not None and report.address.port == behind.port
            await talk(alice, bob)

    with Coturn(tmp_path) as behind:
        lines = [f"alternate-server=127.0.0.1:{behind.port}"]
        with Coturn(tmp_path / "front", extra=lines) as front:
            asyncio.run(scenario(front, behind))


# What becomes of a session without it


async def next_of(agent: Agent, *kinds: type) -> Any:
    """The next event of one of these kinds."""
    async for event in agent.events():
        if isinstance(event, kinds):
            return event
    raise AssertionError(f"the agent ended without {kinds}")


@pytest.mark.parametrize(("leg", "transport"), [(UDP, "udp"), (TCP, "udp"), (TCP, "tcp")])
def test_a_server_that_is_killed_and_started_again_carries_the_data_on(
    leg: LegTransport, transport: str, tmp_path: Path
) -> None:
    async def scenario(coturn: Coturn) -> None:
        followed = policy(turn(coturn, leg), transports=[transport], **RELAY_ONLY)
        async with connected(followed) as (alice, bob):
            await talk(alice, bob)
            events = [asyncio.create_task(next_of(each, RelayLost)) for each in (alice, bob)]
            await asyncio.sleep(0)
            coturn.kill()
            while not all(event.done() for event in events):
                for agent in (alice, bob):
                    agent.send_nowait(b"into the void")
                await asyncio.sleep(0.05)
            for event in events:
                assert event.result().server == followed.servers[0].url.__str__()
            coturn.start()
            await again(alice, bob)
            await talk(alice, bob)

    with Coturn(tmp_path) as coturn:
        asyncio.run(scenario(coturn))


async def again(alice: Agent, bob: Agent) -> None:
    """What an application does after RelayLost: restart, and signal anew."""
    await alice.restart()
    await exchange(alice, bob)
    await asyncio.gather(alice.nominated(), bob.nominated())
