"""The life of connections (RFC 6544 s8 to s11): what is closed, kept, reused and opened again, and the data on them."""

from __future__ import annotations

from typing import Final

from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, DATA, NOMINATION
from interop.conformance.stun import Attr, Draft, Kind
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, SO, Trial
from interop.conformance.wire import Connection, Listener

MUST, SHOULD = Level.MUST, Level.SHOULD

_ACTIVE: Final = (Capability.TCP_ACTIVE,)
_PASSIVE: Final = (Capability.TCP_PASSIVE,)
_SO: Final = (Capability.TCP_SO,)
_DISCARD: Final = 9
_LINGER: Final = 3.0
"""Seconds that an agent may keep what it no longer needs (RFC 8445 s8.3.1)."""


# Conclusion (RFC 6544 s8)


@case(
    6544,
    "8",
    MUST,
    "If there are TCP candidates for a media stream, a controlling agent MUST use the regular selection algorithm.",
    needs=_ACTIVE,
)
async def no_aggressive_nomination(trial: Trial) -> None:
    """USE-CANDIDATE comes only after a check without it was answered."""
    connection = await trial.meet_tcp(ACTIVE, controlling=True)
    await trial.succeeds(connection)
    nomination = await connection.expect(NOMINATION)
    require(connection.received(CHECK)[0] is not nomination, "the first check has it already")


@case(
    6544,
    "8",
    SHOULD,
    "When ICE processing for a media stream completes, each agent SHOULD close all TCP connections (that were opened "
    "due to this ICE session) except the ones between the candidate pairs selected by ICE.",
    needs=_ACTIVE,
    scaled=True,
    limit=40,
)
async def the_other_connections_are_closed(trial: Trial) -> None:
    """After the nomination of one connection the other one is closed, and the selected one stays."""
    await trial.create(ACTIVE)
    first, second = trial.listen(), trial.listen()
    await trial.introduce(
        trial.peer.candidate(first, tcptype="passive", priority=2000, foundation="1"),
        trial.peer.candidate(second, tcptype="passive", priority=1000, foundation="2"),
    )
    selected, other = await first.accepted(), await second.accepted()
    for connection in (selected, other):
        await trial.check_on(connection)
    await trial.select(selected)
    require(await other.end(trial.seconds(2 * _LINGER) + 1.0), "the other connection stays open")
    require(not selected.ended, f"the selected connection was {selected.ended}")


@case(
    6544,
    "11.1",
    SHOULD,
    "If that candidate pair is selected by ICE for usage for media, an agent SHOULD keep the connection open until:",
    needs=_ACTIVE,
    scaled=True,
    limit=40,
)
async def the_selected_connection_stays(trial: Trial) -> None:
    """The selected connection stays open, and data flows on it."""
    connection = await trial.join_tcp(ACTIVE)
    require(not await connection.end(trial.seconds(3 * _LINGER)), f"it was {connection.ended}")
    await trial.flows(connection)


# Restarts (RFC 6544 s9.2)

_KEPT = (
    "If an ICE restart occurs for a media stream with TCP candidate pairs that have been selected by ICE, the agents "
    "MUST NOT close the connections after the restart."
)


@case(6544, "9.2", MUST, _KEPT, needs=(*_PASSIVE, Capability.RESTART))
async def a_restart_keeps_the_connection(trial: Trial) -> None:
    """A restart does not close the selected connection, and data flows on it."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.agent.restart()
    require(not await connection.end(1.0), f"it was {connection.ended}")
    await trial.flows(connection)


_REUSED = (
    "In this case, the agents MUST NOT attempt to open a new connection (or start new TLS or DTLS-SRTP procedures). "
    "Instead, that existing connection is reused, and STUN checks are performed."
)


async def _restarted_so(trial: Trial) -> tuple[Connection, Listener]:
    """A simultaneous-open pair that is selected, and that both sides tell again after a restart."""
    connection, listener = await trial.meet_so()
    await trial.select(connection)
    await trial.restart()
    connection.skip()
    await trial.introduce(trial.peer.candidate(listener, tcptype="so"), connect=False)
    return connection, listener


@case(6544, "9.2", MUST, _REUSED, needs=(*_SO, Capability.RESTART))
async def a_restart_reuses_the_connection(trial: Trial) -> None:
    """After a restart with the same simultaneous-open candidates the checks come on the existing connection."""
    connection, _ = await _restarted_so(trial)
    check = (await trial.check_on(connection)).message
    expected = f"{trial.peer.ufrag}:{trial.told.ufrag}"
    require(check is not None and check.username == expected, "the check has the old credentials")


@case(
    6544,
    "9.2",
    MUST,
    "In this case, the agents MUST NOT attempt to open a new connection",
    needs=(*_SO, Capability.RESTART),
)
async def a_restart_opens_no_second_connection(trial: Trial) -> None:
    """... and no other connection is opened."""
    _, listener = await _restarted_so(trial)
    await listener.refuse()


@case(
    6544,
    "9.2",
    SHOULD,
    "Once the restart completes, if the selected pair does not match the previously selected pair, the TCP connection "
    "for the previously selected pair SHOULD be closed by the agent.",
    needs=(*_PASSIVE, Capability.RESTART),
    scaled=True,
    limit=40,
)
async def a_restart_ends_the_old_connection(trial: Trial) -> None:
    """When another pair was selected in the restart, the old connection is closed."""
    old = await trial.join_tcp(PASSIVE)
    await trial.restart()
    await trial.introduce(trial.peer.candidate((old.near[0], _DISCARD), tcptype="active"), connect=False)
    new = await trial.dial()
    trial.peer.answers(new)
    await trial.succeeds(new, trial.peer.request(use_candidate=True))
    await trial.check_on(new)
    require(await old.end(trial.seconds(2 * _LINGER) + 2.0), "it stays open")


# Data (RFC 6544 s10)


@case(
    6544,
    "10.1",
    MUST,
    "When sending media, if the selected candidate pair matches an existing TCP connection, that connection MUST be "
    "used for sending media.",
    needs=_ACTIVE,
)
async def data_goes_on_the_connection(trial: Trial) -> None:
    """Data comes on the connection of the selected pair, and no other one is opened for it."""
    await trial.create(ACTIVE)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate(listener, tcptype="passive"))
    connection = await listener.accepted()
    await trial.select(connection)
    await trial.flows(connection)
    await listener.refuse()


@case(6544, "10.1", MUST, "The framing defined in RFC 4571 MUST be used when sending media.", needs=_PASSIVE)
async def data_is_framed(trial: Trial) -> None:
    """Messages of different sizes come in frames of their own, one after the other."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.pause(0.2)
    messages = [bytes([size % 251]) * size for size in (1, 2, 255, 256, 1400, 20_000)]
    for message in messages:
        await trial.agent.send(message, 1)
    got = [(await connection.expect(DATA)).data for _ in messages]
    require(got == messages, f"frames of {[len(each) for each in got]} bytes came")


@case(
    6544,
    "10.1",
    MUST,
    "If, based on those rules, the bytes would be viewed as a STUN message, the sender MUST utilize a different "
    "number of bytes so that the length checks will fail.",
    needs=(*_PASSIVE, Capability.STREAM),
)
async def stun_in_a_byte_stream_is_cut(trial: Trial) -> None:
    """A byte stream that consists of a STUN message comes in frames none of which is one."""
    connection = await _byte_stream(trial)
    inside = bytes(Draft(Kind.REQUEST).add(Attr.USERNAME, b"a log of others").fingerprint())
    known = len(connection.inbox)
    await trial.agent.send(inside, 1)
    got = await trial.wire.find(
        lambda: b"".join(packet.data for packet in connection.inbox[known:] if DATA.matches(packet)) == inside or None
    )
    require(got, "it came as STUN, or not at all")


@case(
    6544,
    "10.2",
    MUST,
    "For non-STUN data, the agent appends this to the ongoing byte stream collected from the frames.",
    needs=(*_PASSIVE, Capability.STREAM),
)
async def frames_make_a_byte_stream(trial: Trial) -> None:
    """The contents of data frames, with STUN in between, make one byte stream."""
    connection = await _byte_stream(trial)
    for part in (b"one, ", b"two, ", b"three"):
        connection.send(part)
        connection.send(trial.peer.request())
    whole = b"one, two, three"
    got = await trial.wire.find(lambda: b"".join(trial.delivered) == whole or None)
    require(got, f"the application got {b''.join(trial.delivered)!r}")


async def _byte_stream(trial: Trial) -> Connection:
    await trial.create(PASSIVE, stream=True)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, _DISCARD), tcptype="active"))
    connection = await trial.dial()
    trial.peer.answers(connection)
    await trial.select(connection)
    return connection


# Lost connections (RFC 6544 s11.1)

_REOPEN = (
    "If the agent's local candidate is tcp-active or tcp-so, it MUST reopen a connection to the remote candidate of "
    "the selected pair."
)


async def _lost_active(trial: Trial) -> Listener:
    """The selected connection of an active candidate is lost."""
    await trial.create(ACTIVE)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate(listener, tcptype="passive"))
    connection = await listener.accepted()
    await trial.select(connection)
    await trial.pause(0.2)
    connection.close(reset=True)
    return listener


@case(6544, "11.1", MUST, _REOPEN, needs=_ACTIVE)
async def active_reopens(trial: Trial) -> None:
    """An active candidate opens its selected connection again when it is lost."""
    listener = await _lost_active(trial)
    await listener.accepted()


@case(
    6544,
    "11.1",
    MUST,
    "If the agent opened the connection and is a full agent, it MUST send a STUN connectivity check.",
    needs=_ACTIVE,
)
async def active_checks_what_it_reopened(trial: Trial) -> None:
    """... and checks on it."""
    listener = await _lost_active(trial)
    await trial.check_on(await listener.accepted())


@case(
    6544,
    "11.1",
    MUST,
    "Once an agent has sent a check and received a successful response, the connection is considered Valid, and media "
    "can be sent",
    needs=_ACTIVE,
)
async def data_flows_on_what_was_reopened(trial: Trial) -> None:
    """... and when that was answered, data flows on it."""
    listener = await _lost_active(trial)
    connection = await listener.accepted()
    await trial.check_on(connection)
    await trial.pause(0.2)
    await trial.flows(connection)


@case(6544, "11.1", MUST, _REOPEN, needs=_SO)
async def so_reopens(trial: Trial) -> None:
    """A simultaneous-open candidate opens its selected connection again, from the same port."""
    connection, listener = await trial.meet_so()
    await trial.select(connection)
    await trial.pause(0.2)
    connection.close(reset=True)
    again = await listener.accepted()
    require(again.far == trial.candidate(SO).address, f"it comes from {again.far}")


_AWAIT = (
    "If the agent's local candidate is tcp-passive, the agent MUST await an incoming connection request and, "
    "consequently, will not be able to send media until it has been opened."
)


@case(6544, "11.1", MUST, _AWAIT, needs=_PASSIVE)
async def passive_awaits(trial: Trial) -> None:
    """A passive candidate whose selected connection is lost takes another one of the peer, and data flows on it."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.pause(0.2)
    connection.close(reset=True)
    again = await trial.dial()
    trial.peer.answers(again)
    await trial.succeeds(again)
    await trial.check_on(again)
    await trial.pause(0.2)
    await trial.flows(again)


@case(
    6544,
    "11.1",
    MUST,
    "If a full agent receives a connectivity check after re-establishment of the connection, it MUST generate a "
    "triggered check over that connection in response if it has not already sent a check.",
    needs=_PASSIVE,
)
async def passive_checks_what_was_reopened(trial: Trial) -> None:
    """A check on the new connection triggers one on it."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.pause(0.2)
    connection.close()
    again = await trial.dial()
    await trial.succeeds(again)
    await trial.check_on(again)
