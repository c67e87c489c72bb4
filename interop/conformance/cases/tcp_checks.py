"""Checks over TCP (RFC 6544 s7, s12): opening connections, accepting them, and not too many at a time."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path
from typing import Final

from interop.conformance.case import Level, NotObservable, case, require
from interop.conformance.stun import Attr
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, SO, UDP, Trial

MUST, SHOULD = Level.MUST, Level.SHOULD

_ACTIVE: Final = (Capability.TCP_ACTIVE,)
_PASSIVE: Final = (Capability.TCP_PASSIVE,)
_SO: Final = (Capability.TCP_SO,)
_TA: Final = 0.05
_SYN_SENT: Final = "02"


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
    await trial.create_able(ACTIVE, PASSIVE, SO)
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


@case(
    6544,
    "4.2",
    SHOULD,
    "When both UDP and TCP candidates are offered for the same media stream, and one transport protocol should be "
    "preferred over the other, the type preferences for the preferred transport protocol candidates SHOULD be "
    "increased and/or the type preferences for the other transport protocol candidates SHOULD be decreased.",
    needs=(Capability.UDP, *_ACTIVE),
)
async def checks_over_tcp_rank_below_udp(trial: Trial) -> str:
    """PRIORITY of a check over TCP, which a peer-reflexive candidate would have, is below that of one over UDP."""
    await trial.create(UDP, ACTIVE)
    port, listener = trial.udp(), trial.listen(polite=False)
    await trial.introduce(
        trial.peer.candidate(port, priority=2000, foundation="1"),
        trial.peer.candidate(listener, tcptype="passive", priority=1000, foundation="2"),
    )
    checks = [await trial.check_on(port), await trial.check_on(await listener.accepted())]
    udp, tcp = (check.message.number(Attr.PRIORITY) if check.message is not None else None for check in checks)
    require(udp is not None and tcp is not None and udp > tcp, f"UDP has {udp}, TCP {tcp}")
    return f"UDP has {udp}, TCP {tcp}"


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
