"""TCP candidates (RFC 6544): who connects, on which ports, what is closed, and what is opened again."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path
from typing import Final

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.case import Level, NotObservable, case, require
from interop.conformance.peer import CHECK, DATA, NOMINATION
from interop.conformance.stun import Attr, Draft, Kind
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, SO, UDP, Trial
from interop.conformance.wire import QUIET, Connection, Listener

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

_ACTIVE: Final = (Capability.TCP_ACTIVE,)
_PASSIVE: Final = (Capability.TCP_PASSIVE,)
_SO: Final = (Capability.TCP_SO,)
_TCP: Final = frozenset({ACTIVE, PASSIVE, SO})
_DISCARD: Final = 9
_TA: Final = 0.05
_LINGER: Final = 3.0
"""Seconds that an agent may keep what it no longer needs (RFC 8445 s8.3.1)."""
_SYN_SENT: Final = "02"


async def _all_tcp(trial: Trial) -> None:
    """Every kind of TCP candidate that the target has."""
    await trial.create(*(kind for kind in _TCP if Capability(kind.value) in trial.target.capabilities))


async def _never_dials(trial: Trial, local: CandidateKind, remote: str) -> None:
    """An agent with this kind of candidate alone opens no connection to a peer with that one alone."""
    await trial.create(local)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate(listener, tcptype=remote))
    await listener.refuse(2 * QUIET)


# Candidates (RFC 6544 s4, s5.1)


@case(
    6544,
    "5.1",
    SHOULD,
    "the agent SHOULD obtain two host candidates (each on a different port) for each component of the media stream on "
    "each interface that the host has -- one for the simultaneous-open and one for the passive candidate.",
    needs=(*_PASSIVE, *_SO),
)
async def passive_and_so_have_ports_of_their_own(trial: Trial) -> None:
    """The passive and the simultaneous-open candidate have different ports."""
    await trial.create(PASSIVE, SO)
    passive, so = trial.candidate(PASSIVE), trial.candidate(SO)
    require(passive.port != so.port, f"both have port {so.port}")


@case(
    6544,
    "4.1",
    SHOULD,
    'Then, each agent SHOULD "obtain" (allocate a placeholder for) an active host candidate for each component of each '
    "TCP-capable media stream on each interface that the host has.",
    needs=_ACTIVE,
)
async def an_active_candidate(trial: Trial) -> None:
    """There is an active candidate on the address of the agent."""
    await trial.create(ACTIVE)
    require(trial.candidate(ACTIVE).host == "127.0.0.1", trial.candidate(ACTIVE).text)


@case(
    6544,
    "4.5",
    MUST,
    "The connection-address encoded into the candidate-attribute for active candidates MUST be set to the IP address "
    "that will be used for the attempt, but the port(s) MUST be set to 9 (i.e., Discard).",
    needs=_ACTIVE,
)
async def active_candidates_have_port_9(trial: Trial) -> None:
    """The port of an active candidate is 9."""
    await trial.create(ACTIVE)
    require(trial.candidate(ACTIVE).port == _DISCARD, trial.candidate(ACTIVE).text)


@case(
    6544,
    "4.5",
    MUST,
    "However, the transport protocol (i.e., value of the transport-extension token defined in [RFC5245], Section "
    "15.1) is "
    'set to "TCP" and the connection type (active, passive, or S-O) is encoded using a new extension attribute.',
    needs=_PASSIVE,
)
async def the_tcptype_is_told(trial: Trial) -> None:
    """Every TCP candidate has a tcptype: active, passive or so."""
    await _all_tcp(trial)
    for candidate in trial.candidates:
        require(candidate.transport.upper() == "TCP", candidate.text)
        require(candidate.tcptype in ("active", "passive", "so"), candidate.text)


@case(
    6544,
    "4.5",
    MUST,
    "[SP rel-addr] [SP rel-port] SP tcp-type-ext *(SP extension-att-name SP extension-att-value)",
    needs=_PASSIVE,
)
async def the_tcptype_comes_first(trial: Trial) -> None:
    """The tcptype stands before all other extensions."""
    await _all_tcp(trial)
    for candidate in trial.candidates:
        first = candidate.extensions[:1]
        require(first and first[0][0] == "tcptype", candidate.text)


@case(
    6544,
    "4.2",
    SHOULD,
    "It is RECOMMENDED that the host, UDP-tunneled, and relayed TCP candidates have the direction-pref assigned as "
    "follows: 6 for active, 4 for passive, and 2 for S-O.",
    needs=_PASSIVE,
)
async def direction_preferences(trial: Trial) -> None:
    """The direction preference is 6 for active, 4 for passive and 2 for simultaneous-open host candidates."""
    await _all_tcp(trial)
    wanted = {ACTIVE: 6, PASSIVE: 4, SO: 2}
    for candidate in trial.candidates:
        found = candidate.local_preference >> 13
        require(found == wanted.get(CandidateKind(candidate.kind)), f"it is {found} in {candidate.text}")


@case(
    6544,
    "4.2",
    SHOULD,
    "When there is only a single IP address, this value SHOULD be set to the maximum allowed value (8191).",
    needs=_PASSIVE,
)
async def other_preference_of_one_address(trial: Trial) -> None:
    """With one address the other preference is 8191."""
    await _all_tcp(trial)
    for candidate in trial.candidates:
        found = candidate.local_preference & 0x1FFF
        require(found == 8191, f"it is {found} in {candidate.text}")


@case(
    6544,
    "4.2",
    SHOULD,
    "For RTP-based media streams, it is RECOMMENDED that UDP candidates are preferred over TCP candidates.",
    needs=(Capability.UDP, *_PASSIVE),
)
async def udp_is_preferred(trial: Trial) -> None:
    """The host candidate over UDP has a higher priority than those over TCP."""
    await trial.create(UDP, PASSIVE)
    udp, tcp = trial.candidate(UDP).priority, trial.candidate(PASSIVE).priority
    require(udp > tcp, f"UDP has {udp}, TCP {tcp}")


@case(
    6544,
    "4.4",
    MUST,
    "In the lite mode, for TCP candidates, only passive host candidates are gathered, unless active candidates are "
    "needed as the default candidates.",
    needs=(*_PASSIVE, Capability.UDP, Capability.LITE),
)
async def a_lite_agent_is_passive(trial: Trial) -> None:
    """The TCP candidates of a lite agent are passive host candidates."""
    await trial.create(UDP, PASSIVE, lite=True)
    tcp = [candidate for candidate in trial.candidates if candidate.kind != UDP]
    require(tcp and all(each.kind == PASSIVE and each.type == "host" for each in tcp), f"{trial.told.candidates}")


# Pairs (RFC 6544 s6.2)

_TABLE = "the following types of TCP candidates can be paired with each other:"
_PRUNED = (
    "When the agent prunes the check list, it MUST also remove any pair for which the local candidate is a passive TCP "
    "candidate."
)


@case(6544, "6.2", MUST, f"When forming candidate pairs, {_TABLE}", needs=_ACTIVE)
async def active_connects_to_passive(trial: Trial) -> None:
    """An active candidate connects to a passive one of the peer, and their pair can be selected."""
    connection = await trial.join_tcp(ACTIVE)
    await trial.flows(connection)


@case(6544, "6.2", MUST, f"When forming candidate pairs, {_TABLE}", needs=_SO)
async def so_connects_to_so(trial: Trial) -> None:
    """A simultaneous-open candidate connects from its own port to one of the peer."""
    connection, _ = await _so(trial)
    require(connection.far == trial.candidate(SO).address, f"the connection comes from {connection.far}")
    await trial.select(connection)
    await trial.flows(connection)


async def _so(trial: Trial) -> tuple[Connection, Listener]:
    """A connection between two simultaneous-open candidates, which the agent has opened."""
    await trial.create(SO)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate(listener, tcptype="so"))
    return await listener.accepted(), listener


@case(6544, "6.2", MUST, _TABLE, needs=_ACTIVE)
async def active_does_not_connect_to_active(trial: Trial) -> None:
    """An active candidate makes no pair with an active one, whatever its port."""
    await _never_dials(trial, ACTIVE, "active")


@case(6544, "6.2", MUST, _TABLE, needs=_ACTIVE)
async def active_does_not_connect_to_so(trial: Trial) -> None:
    """An active candidate makes no pair with a simultaneous-open one."""
    await _never_dials(trial, ACTIVE, "so")


@case(6544, "6.2", MUST, _TABLE, needs=_SO)
async def so_does_not_connect_to_passive(trial: Trial) -> None:
    """A simultaneous-open candidate makes no pair with a passive one."""
    await _never_dials(trial, SO, "passive")


@case(6544, "6.2", MUST, _TABLE, needs=_SO)
async def so_does_not_connect_to_active(trial: Trial) -> None:
    """A simultaneous-open candidate makes no pair with an active one, whatever its port."""
    await _never_dials(trial, SO, "active")


@case(6544, "6.2", MUST, _PRUNED, needs=(*_PASSIVE, Capability.TCP_KINDS))
async def passive_does_not_connect_to_active(trial: Trial) -> None:
    """A passive candidate opens no connection to an active one, whatever its port."""
    await _never_dials(trial, PASSIVE, "active")


@case(6544, "6.2", MUST, _PRUNED, needs=(*_PASSIVE, Capability.TCP_KINDS))
async def passive_does_not_connect_to_passive(trial: Trial) -> None:
    """A passive candidate opens no connection to a passive one."""
    await _never_dials(trial, PASSIVE, "passive")


@case(6544, "6.2", MUST, _PRUNED, needs=(*_PASSIVE, Capability.TCP_KINDS))
async def passive_does_not_connect_to_so(trial: Trial) -> None:
    """A passive candidate opens no connection to a simultaneous-open one."""
    await _never_dials(trial, PASSIVE, "so")


# Asking (RFC 6544 s7.1)


@case(
    6544,
    "7.1",
    MUST,
    "When an agent wants to send a TCP-based connectivity check, it first opens a TCP connection, if none yet exists, "
    "for the 5-tuple defined by the candidate pair for which the check is to be sent.",
    needs=_ACTIVE,
)
async def a_check_opens_a_connection(trial: Trial) -> None:
    """A check comes on a connection that the agent has opened, and the first thing on it is the check."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    require(connection.inbox[0] is check, "something came before the check")


@case(
    6544,
    "7.1",
    MUST,
    "If the local candidate is tcp-active, the agent MUST open a connection from the interface associated with that "
    "local candidate.",
    needs=_ACTIVE,
)
async def active_connects_from_its_address(trial: Trial) -> None:
    """The connection of an active candidate comes from the candidate's address."""
    connection = await trial.meet_tcp(ACTIVE)
    require(connection.far[0] == trial.candidate(ACTIVE).host, f"it comes from {connection.far}")


@case(6544, "7.1", SHOULD, "This connection SHOULD be opened from an unallocated port.", needs=_ACTIVE)
async def active_connects_from_a_free_port(trial: Trial) -> None:
    """The connection of an active candidate comes from a port that is no candidate's."""
    await _all_tcp(trial)
    listener = trial.listen()
    await trial.introduce(trial.peer.candidate(listener, tcptype="passive"))
    connection = await listener.accepted()
    taken = {candidate.port for candidate in trial.candidates}
    require(connection.far[1] not in taken, f"it comes from port {connection.far[1]}")


@case(
    6544,
    "7.1",
    MUST,
    "Once the connection is established, the agent MUST utilize the shim defined in RFC 4571 [RFC4571] for the "
    "duration this connection remains open.",
    needs=_ACTIVE,
)
async def checks_are_framed(trial: Trial) -> None:
    """The first bytes on a connection are the length of the first check."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    check = await trial.check_on(connection)
    require(connection.stream[:2] == len(check.data).to_bytes(2, "big"), f"it begins {connection.stream[:4].hex()}")


@case(
    6544,
    "7.1",
    MUST,
    "If the TCP connection cannot be established, the check is considered to have failed, and a full-mode agent MUST "
    "update the pair state to Failed in the check list.",
    needs=_ACTIVE,
)
async def a_refused_connection_fails_its_pair(trial: Trial) -> None:
    """When one candidate of the peer refuses the connection, the next one is taken."""
    await trial.create(ACTIVE)
    gone, listener = trial.listen(), trial.listen()
    gone.close()
    await trial.introduce(
        trial.peer.candidate(gone.near, tcptype="passive", priority=2000, foundation="1"),
        trial.peer.candidate(listener, tcptype="passive", priority=1000, foundation="2"),
    )
    await trial.select(await listener.accepted())


_NOT_STUN = (
    "If the response to the first connectivity check on the established TCP connection is something other than a STUN "
    "message, the remote candidate address apparently was not one of the peer's addresses, and the agent SHOULD close "
    "the connection and consider all pairs with that remote candidate as failed."
)


@case(6544, "7.1", SHOULD, _NOT_STUN, needs=_ACTIVE)
async def what_is_no_stun_ends_the_connection(trial: Trial) -> None:
    """When the first answer on a connection is no STUN, the agent closes it."""
    connection = await trial.meet_tcp(ACTIVE, polite=False)
    await trial.check_on(connection)
    connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    require(await connection.end(2.0), "it stays open")


@case(6544, "7.1", SHOULD, _NOT_STUN, needs=_ACTIVE)
async def what_is_no_stun_fails_the_candidate(trial: Trial) -> None:
    """... and does not connect there again."""
    await trial.create(ACTIVE)
    listener = trial.listen(polite=False)
    await trial.introduce(trial.peer.candidate(listener, tcptype="passive"))
    connection = await listener.accepted()
    await trial.check_on(connection)
    connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await listener.refuse(1.0)


@case(
    6544,
    "4.1",
    MUST,
    "Like its UDP counterparts, TCP-based STUN transactions are paced out at one every Ta milliseconds (see Section "
    "16 of [RFC5245]).",
    needs=_ACTIVE,
)
async def connections_are_paced(trial: Trial) -> str:
    """New connections come one every Ta, 50 ms."""
    await trial.create(ACTIVE)
    listeners = [trial.listen(polite=False) for _ in range(4)]
    lines = [
        trial.peer.candidate(each, tcptype="passive", priority=1000 + n, foundation=str(n))
        for n, each in enumerate(listeners)
    ]
    await trial.introduce(*lines)
    checks = sorted([(await trial.check_on(await each.accepted())).at for each in listeners])
    gaps = [later - earlier for earlier, later in pairwise(checks)]
    require(min(gaps) >= 0.7 * _TA, f"two are {1000 * min(gaps):.1f} ms apart")
    return f"they are {1000 * min(gaps):.1f} to {1000 * max(gaps):.1f} ms apart"


# Answering (RFC 6544 s7.2)

_ACCEPT = (
    "An ICE TCP agent, full or lite, MUST be prepared to receive incoming TCP connection requests on the base of any "
    "TCP candidate that is simultaneous-open or passive. When the connection request is received, the agent MUST "
    "accept it."
)


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def passive_accepts(trial: Trial) -> None:
    """A passive candidate accepts a connection and answers the check on it; the pair can be selected."""
    connection = await trial.join_tcp(PASSIVE)
    await trial.flows(connection)


@case(6544, "7.2", MUST, _ACCEPT, needs=_SO)
async def so_accepts(trial: Trial) -> None:
    """A simultaneous-open candidate accepts a connection and answers the check on it."""
    await trial.create(SO)
    await trial.introduce(end=False, connect=False)
    connection = await trial.dial(SO)
    await trial.succeeds(connection)


@case(6544, "7.2", MUST, _ACCEPT, needs=(*_PASSIVE, Capability.UDP, Capability.LITE))
async def a_lite_agent_accepts(trial: Trial) -> None:
    """A lite agent accepts a connection, answers the check on it, and takes the nomination."""
    await trial.create(UDP, PASSIVE, lite=True)
    await trial.introduce(trial.peer.candidate((trial.candidate(PASSIVE).host, 9), tcptype="active"))
    connection = await trial.dial()
    await trial.succeeds(connection, trial.peer.request(use_candidate=True))
    await trial.connected()
    await trial.flows(connection)


@case(6544, "7.2", MUST, _ACCEPT, needs=_PASSIVE)
async def passive_accepts_before_the_peer_is_known(trial: Trial) -> None:
    """A connection and a check on it that come before the peer's credentials are accepted and answered."""
    await trial.create(PASSIVE)
    connection = await trial.dial()
    mapped = (await trial.succeeds(connection)).mapped
    require(mapped == connection.near, f"it tells {mapped}")


@case(
    6544,
    "7.2",
    MUST,
    "Note that STUN requests received on a passive TCP candidate will typically produce a remote peer reflexive "
    "candidate.",
    needs=_PASSIVE,
)
async def passive_checks_on_the_connection_that_came(trial: Trial) -> None:
    """The triggered check of a passive candidate comes on the connection that the peer has opened."""
    connection = await trial.meet_tcp(PASSIVE)
    await trial.succeeds(connection)
    await trial.check_on(connection)


@case(
    6544,
    "7.2",
    MUST,
    "The agent MUST utilize the framing defined in RFC 4571 [RFC4571] for the lifetime of this connection.",
    needs=_PASSIVE,
)
async def answers_are_framed(trial: Trial) -> None:
    """The answer on a connection that the agent has accepted is framed."""
    await trial.create(PASSIVE)
    connection = await trial.dial()
    request = trial.peer.request()
    connection.send(request)
    await trial.wire.find(lambda: len(connection.stream) >= 22 or None)
    length = int.from_bytes(connection.stream[:2], "big")
    require(connection.stream[2:4] == b"\x01\x01" and length >= 20, f"it begins {connection.stream[:8].hex()}")


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
    connection, listener = await _so(trial)
    await trial.select(connection)
    trial.peer.target = trial.told = await trial.agent.restart()
    trial.peer.ufrag, trial.peer.pwd = trial.peer.ufrag + "2", trial.peer.pwd + "2"
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
    trial.peer.target = trial.told = await trial.agent.restart()
    trial.peer.ufrag, trial.peer.pwd = trial.peer.ufrag + "2", trial.peer.pwd + "2"
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
    connection, listener = await _so(trial)
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


# Attempts (RFC 6544 s12)


@case(
    6544,
    "12",
    SHOULD,
    "Therefore, an ICE agent SHOULD NOT have more than 5 outstanding TCP connection attempts with the same peer to the "
    "same IP address.",
    needs=_ACTIVE,
)
async def five_attempts_at_a_time(trial: Trial) -> str:
    """Of twelve candidates of one address that answer no SYN, five are dialled at a time."""
    await trial.create(ACTIVE)
    full = [_full_listener() for _ in range(12)]
    try:
        ports = [each.getsockname()[1] for each, _ in full]
        lines = [
            trial.peer.candidate(("127.0.0.1", port), tcptype="passive", priority=1000 + n, foundation=str(n))
            for n, port in enumerate(ports)
        ]
        await trial.introduce(*lines)
        most = 0
        for _ in range(30):
            await trial.pause(0.05)
            most = max(most, _attempts_to(ports, but={each.getsockname()[1] for _, fill in full for each in fill}))
    finally:
        for listener, pending in full:
            for each in (*pending, listener):
                each.close()
    require(0 < most <= 5, f"there were {most}")
    return f"there were {most}"


def _full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A port that drops every SYN, since nobody accepts the connections that fill its backlog."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    pending = []
    for _ in range(2):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
        pending.append(waiting)
    return listener, pending


def _attempts_to(ports: list[int], *, but: set[int]) -> int:
    """Connections to these ports whose SYN nobody has answered, but for those from some ports; as Linux tells."""
    try:
        lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    except OSError:
        raise NotObservable("this system does not tell of connection attempts") from None
    count = 0
    for fields in map(str.split, lines):
        near, far = (int(fields[index].split(":")[1], 16) for index in (1, 2))
        count += fields[3] == _SYN_SENT and far in ports and near not in but
    return count
