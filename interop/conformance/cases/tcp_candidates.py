"""TCP candidates and their pairs (RFC 6544 s4 to s6): what there is, and who connects to whom."""

from __future__ import annotations

from typing import Final

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.case import Level, case, require
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, SO, UDP, Trial
from interop.conformance.wire import QUIET

MUST, SHOULD = Level.MUST, Level.SHOULD

_ACTIVE: Final = (Capability.TCP_ACTIVE,)
_PASSIVE: Final = (Capability.TCP_PASSIVE,)
_SO: Final = (Capability.TCP_SO,)
_DISCARD: Final = 9


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
    await trial.create_able(ACTIVE, PASSIVE, SO)
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
    await trial.create_able(ACTIVE, PASSIVE, SO)
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
    await trial.create_able(ACTIVE, PASSIVE, SO)
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
    await trial.create_able(ACTIVE, PASSIVE, SO)
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
    connection, _ = await trial.meet_so()
    require(connection.far == trial.candidate(SO).address, f"the connection comes from {connection.far}")
    await trial.select(connection)
    await trial.flows(connection)


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
