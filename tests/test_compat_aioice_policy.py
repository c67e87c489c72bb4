"""What our `Connection` does beyond aioice's: TCP, verdicts, servers of the policy, names under .local."""

from __future__ import annotations

import asyncio
from typing import Any

import aioice
import pytest

from candidates.candidate import CandidateType
from candidates.policy import AddressFamily, Policy
from ice_tcp import ConnectError, Verdict
from ice_tcp.compat.aioice import ConnectionClosed, TransportPolicy, settings
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions
from tests.agents import SO, TCP, UDP, policy
from tests.connections import (
    HOST,
    attempt,
    connect,
    open_connections,
    ours,
    talk,
    tell,
    udp_port,
)
from tests.loops import Runner, on_loop, run
from tests.test_driver import turns

__all__ = ["on_loop"]

PASSWORD = "a+password/of+characters"
HIDDEN = ("0.0.0.0", 9)  # noqa: S104 - it is not bound


# What is ours alone


KINDS = pytest.mark.parametrize("kind", [TCP, SO, ""], ids=["tcp", "so", "all"])


@KINDS
def test_connections_talk_over_what_the_policy_says(kind: str, on_loop: Runner) -> None:
    async def main() -> None:
        async with open_connections(ours(True, extra=kind), ours(False, extra=kind)) as (one, two):
            await connect(one, two)
            await talk(one, two)
            transports = {each.transport for each in one.local_candidates}
            assert transports == ({"tcp"} if kind else {"udp", "tcp"})

    on_loop(main())


def test_udp_comes_first_and_is_the_default() -> None:
    """RFC 6544 s4.3: for real-time streams the default candidates are UDP-based."""

    async def main() -> None:
        async with open_connections(ours(True, components=2)) as (one,):
            await one.gather_candidates()
            told = [(each.component, each.transport, each.tcptype) for each in one.local_candidates]
            for component in (1, 2):
                of_component = [each[1:] for each in told if each[0] == component]
                assert of_component == [("udp", None), ("tcp", "active"), ("tcp", "passive"), ("tcp", "so")]
                default = one.get_default_candidate(component)
                assert default is not None
                assert default.transport == "udp"
            assert told == sorted(told, key=lambda each: each[0])

    run(main())


def test_several_receivers_are_served_in_turn() -> None:
    async def main() -> None:
        async with open_connections(ours(True), ours(False)) as (one, two):
            await connect(one, two)
            waiting = [asyncio.ensure_future(two.recv()) for _ in range(3)]
            await turns(3)
            waiting.pop(1).cancel()
            for message in (b"a", b"b"):
                await one.send(message)
            assert [await each for each in waiting] == [b"a", b"b"]

    run(main())


def test_a_receiver_that_gives_up_loses_no_message() -> None:
    async def main() -> None:
        async with open_connections(ours(True, components=2), ours(False, components=2)) as (one, two):
            await connect(one, two)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(two.recvfrom(), 0.01)
            await one.sendto(b"one", 2)
            await one.sendto(b"two", 1)
            assert {await two.recvfrom(), await two.recvfrom()} == {(b"one", 2), (b"two", 1)}

    run(main())


def test_a_wrong_password_fails_with_the_verdict_as_cause() -> None:
    async def main() -> None:
        impatient = UDP + "timeouts: {patience: 0.2}\nnomination: {grace: 0.1}\n"
        async with open_connections(ours(True, extra=impatient), ours(False, extra=impatient)) as (one, two):
            await asyncio.gather(one.gather_candidates(), two.gather_candidates())
            await tell(one, two)
            await tell(two, one)
            one.remote_password = PASSWORD
            with pytest.raises(ConnectionError, match=r"^ICE negotiation failed$") as failure:
                await one.connect()
            assert isinstance(failure.value.__cause__, ConnectError)
            assert failure.value.__cause__.verdict is Verdict.ALL_PAIRS_FAILED

    run(main())


@pytest.mark.parametrize("wrong", [("ab", PASSWORD), ("user", "short")])
def test_credentials_of_the_peer_that_break_the_grammar_fail(wrong: tuple[str, str]) -> None:
    async def main() -> None:
        async with open_connections(ours(True, extra=UDP)) as (one,):
            await one.gather_candidates()
            one.remote_username, one.remote_password = wrong
            with pytest.raises(ConnectionError, match="ICE negotiation failed"):
                await one.connect()

    run(main())


def test_failure_waits_for_the_end_of_candidates() -> None:
    async def main() -> None:
        impatient = UDP + "timeouts: {patience: 0.2}\nnomination: {grace: 0.1}\n"
        async with open_connections(ours(True, extra=impatient), ours(False, extra=UDP)) as (one, two):
            await asyncio.gather(one.gather_candidates(), two.gather_candidates())
            one.remote_username, one.remote_password = two.local_username, two.local_password
            connecting = asyncio.ensure_future(one.connect())
            await asyncio.sleep(0.3)
            assert not connecting.done()
            await tell(one, two)
            await tell(two, one)
            await asyncio.gather(connecting, two.connect())
            await talk(one, two)

    run(main())


def test_a_peer_that_vanishes_closes_the_connection() -> None:
    async def main() -> None:
        impatient = UDP + "consent: {interval: 0.1, timeout: 0.4}\n"
        async with open_connections(ours(True, extra=impatient), ours(False)) as (one, two):
            await connect(one, two)
            receiving = asyncio.ensure_future(attempt(one.recv()))
            await two.close()
            assert isinstance(await one.get_event(), ConnectionClosed)
            assert await receiving == ("ConnectionError", "Connection lost while receiving data")
            assert await attempt(one.send(b"x")) == ("ConnectionError", "Cannot send data, not connected")
            assert await one.get_event() is None

    run(main())


def test_while_a_lost_path_is_won_back_messages_are_lost_as_datagrams_are() -> None:
    async def main() -> None:
        only_dials = TCP + "tcp_types: [active]\n"
        only_listens = TCP + "tcp_types: [passive]\n"
        async with open_connections(ours(True, extra=only_dials), ours(False, extra=only_listens)) as (one, two):
            await connect(one, two)
            await two.close()
            for _ in range(50):
                await one.send(b"into the void")
                await asyncio.sleep(0.01)

    run(main())


def test_messages_that_no_datagram_holds_are_misuse() -> None:
    async def main() -> None:
        async with open_connections(ours(True, extra=UDP), ours(False, extra=UDP)) as (one, two):
            await connect(one, two)
            with pytest.raises(ValueError, match="65536"):
                await one.send(bytes(65536))

    run(main())


def test_a_remote_lite_agent_is_nominated_to() -> None:
    lite = "candidate_types: [host]\ntcp_types: [passive]\nlite: true\n"

    async def main() -> None:
        async with open_connections(ours(False), ours(False, extra=lite)) as (one, two):
            await asyncio.gather(one.gather_candidates(), two.gather_candidates())
            await tell(one, two)
            await tell(two, one)
            one.remote_is_lite = True
            await asyncio.gather(one.connect(), two.connect())
            await talk(one, two)
            assert one.ice_controlling

    run(main())


# Servers


def server(**more: Any) -> Server:
    return Server(ServerOptions(hosts=(HOST,), port=0, users={"user": "pass"}, peers=PeerPolicy(loopback=True), **more))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_turn_server_of_the_arguments_relays(transport: str) -> None:
    async def main() -> None:
        async with server() as relay:
            how: dict[str, Any] = {
                "turn_server": relay.address(Leg.UDP if transport == "udp" else Leg.TCP),
                "turn_username": "user",
                "turn_password": "pass",
                "turn_transport": transport,
                "transport_policy": TransportPolicy.RELAY,
            }
            async with open_connections(ours(True, extra=UDP, **how), ours(False, extra=UDP)) as (one, two):
                await connect(one, two)
                await talk(one, two)
                assert {each.type for each in one.local_candidates} == {"relay"}
                assert {(each.related_address, each.related_port) for each in one.local_candidates} == {HIDDEN}

    run(main())


SERVERS = policy("servers: [{url: 'stun:192.0.2.7'}]\n")
FAMILIES = [AddressFamily.IPV4, AddressFamily.IPV6]


def test_servers_of_the_arguments_are_asked_before_those_of_the_policy() -> None:
    servers = settings.stun(("192.0.2.8", 3479))
    servers += settings.turn(("turn.example.org", 443), "user", "pass", ssl=True, transport="tcp")
    servers += settings.turn(("2001:db8::7", 3478), "user", "pass", ssl=True, transport="udp")
    narrowed = settings.narrowed(SERVERS, servers, families=FAMILIES, relay_only=False)
    assert narrowed is not None
    assert [str(each.url) for each in narrowed.servers] == [
        "stun:192.0.2.8:3479",
        "turns:turn.example.org:443?transport=tcp",
        "turn:[2001:db8::7]:3478?transport=udp",
        "stun:192.0.2.7",
    ]
    assert narrowed.servers[1].password is not None
    assert narrowed.servers[1].password.get_secret_value() == "pass"


def test_a_server_that_cannot_be_one_is_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert settings.stun(("no name", 3478)) == []
    assert "'no name'" in caplog.text
    assert settings.turn(("192.0.2.8", 3478), "user", None, ssl=False, transport="udp") == []
    assert "needs a user name and a password" in caplog.text
    assert settings.turn(("192.0.2.8", 3478), "user", "pass", ssl=False, transport="sctp") == []
    assert "'sctp'" in caplog.text


def test_a_relay_is_awaited_as_long_as_the_policy_says_else_as_anything() -> None:
    for timeouts, relay in (({}, 5.0), ({"gather": 3.0}, 3.0), ({"gather": 3.0, "relay": 9.0}, 9.0)):
        policy = Policy.default().revised(timeouts=timeouts)
        narrowed = settings.narrowed(policy, [], families=FAMILIES, relay_only=False)
        assert narrowed is not None
        assert narrowed.timeouts.relay == relay


def test_what_arguments_and_policy_leave() -> None:
    default = Policy.default()
    assert settings.narrowed(default, [], families=FAMILIES, relay_only=False) == default.revised(
        timeouts={"relay": default.timeouts.gather}
    )
    ipv6 = settings.narrowed(default, [], families=[AddressFamily.IPV6], relay_only=False)
    assert ipv6 is not None
    assert ipv6.address_families == (AddressFamily.IPV6,)
    relays = settings.turn(("192.0.2.8", 3478), "user", "pass", ssl=False, transport="udp")
    relay_only = settings.narrowed(default, relays, families=FAMILIES, relay_only=True)
    assert relay_only is not None
    assert relay_only.candidate_types == (CandidateType.RELAY,)


@pytest.mark.parametrize(
    ("base", "families", "relay_only"),
    [
        (Policy.default(), [], False),
        (policy(), [AddressFamily.IPV6], False),
        (SERVERS, FAMILIES, True),
        (policy("candidate_types: [host]\n"), FAMILIES, True),
    ],
    ids=["no family", "none of the policy's families", "relays only and no TURN server", "no relays in the policy"],
)
def test_nothing_may_be_left(base: Policy, families: list[AddressFamily], relay_only: bool) -> None:
    assert settings.narrowed(base, [], families=families, relay_only=relay_only) is None


# Names


def test_a_name_that_nobody_knows_is_ignored_and_the_end_waits_for_the_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        asked: list[str] = []
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        async def resolve(_: object, name: str) -> str | None:
            asked.append(name)
            return await answer

        monkeypatch.setattr("ice_tcp.mdns.MdnsNames.resolve", resolve)
        async with open_connections(ours(True, extra=UDP), ours(False, extra=UDP)) as (one, two):
            await asyncio.gather(one.gather_candidates(), two.gather_candidates())
            named = aioice.Candidate.from_sdp(f"1 1 udp 2130706431 abc-1.local {udp_port(two)} typ host")
            adding = asyncio.ensure_future(one.add_remote_candidate(named))
            await turns(2)
            await one.add_remote_candidate(None)
            assert asked == ["abc-1.local"]
            await tell(one, two)
            one.remote_username, one.remote_password = two.local_username, two.local_password
            answer.set_result(HOST)
            await adding
            await asyncio.gather(one.connect(), two.connect())
            await talk(one, two)
            assert [each.host for each in one.remote_candidates] == ["abc-1.local"]

    run(main())


@pytest.mark.parametrize("why", ["unknown", "relay only", "policy"])
def test_names_that_are_not_looked_up_are_ignored(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def resolve(*_: object) -> str | None:
            assert why == "unknown"
            return None

        monkeypatch.setattr("ice_tcp.mdns.MdnsNames.resolve", resolve)
        extra = "mdns: {resolve: false}\n" if why == "policy" else ""
        how = {"transport_policy": TransportPolicy.RELAY} if why == "relay only" else {}
        async with open_connections(ours(True, extra=extra, **how)) as (one,):
            await one.add_remote_candidate(aioice.Candidate.from_sdp("1 1 udp 5 abc-1.local 5000 typ host"))
            assert one.remote_candidates == []

    run(main())


def test_by_policy_addresses_are_told_as_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """draft-ietf-mmusic-mdns-ice-candidates s3.1: host addresses, and those behind reflexive and relayed ones."""
    monkeypatch.setattr("ice_tcp.mdns.MdnsNames.publish", lambda _, host: f"name-of-{host.replace('.', '-')}.local")

    async def main() -> None:
        async with server() as relay:
            how: dict[str, Any] = {"turn_server": relay.address(Leg.UDP)}
            how |= {"turn_username": "user", "turn_password": "pass"}
            async with open_connections(ours(True, extra=UDP + "mdns: {publish: true}\n", **how)) as (one,):
                await one.gather_candidates()
                told = {each.type: each for each in one.local_candidates}
                assert told["host"].host == "name-of-127-0-0-1.local"
                assert told["relay"].host == HOST
                assert (told["relay"].related_address, told["relay"].related_port) == HIDDEN

    run(main())
