"""Candidates that come later, and patience for them (RFC 8838, RFC 8863); candidates of the peer in SDP (RFC 8839)."""

from __future__ import annotations

from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK
from interop.conformance.target import Capability
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import UdpPort

MUST = Level.MUST

_TRICKLE = (Capability.UDP, Capability.TRICKLE)


async def _polite(trial: Trial) -> UdpPort:
    port = trial.udp()
    trial.peer.answers(port)
    return port


# Trickle (RFC 8838)


@case(
    8838,
    "3",
    MUST,
    "This token MUST be provided either at the session level or, if at the data stream level, for every data stream "
    "(an agent MUST NOT specify Trickle ICE support for some data streams but not others).",
    needs=(*_TRICKLE, Capability.OPTIONS),
)
async def the_trickle_option(trial: Trial) -> None:
    """The options of an agent that trickles have trickle."""
    await trial.create(UDP)
    require("trickle" in trial.told.options, f"they are {' '.join(trial.told.options)}")


@case(
    8838,
    "11",
    MUST,
    "At any time during an ICE session, a Trickle ICE agent might receive new candidates from the remote agent, from "
    "which it will attempt to form a candidate pair",
    needs=_TRICKLE,
)
async def a_late_candidate_is_checked(trial: Trial) -> None:
    """A candidate that comes while the agent connects is checked, and can be selected."""
    await trial.create(UDP)
    port = await _polite(trial)
    await trial.introduce(end=False)
    await trial.pause(0.2)
    await trial.agent.add_remote_candidate(trial.peer.candidate(port))
    await trial.check_on(port)
    await trial.select(port)


@case(
    8838,
    "8",
    MUST,
    "Therefore, a Trickle ICE agent MUST keep each checklist in the Running state as long as it expects candidate "
    "pairs to be incrementally added to the checklist.",
    needs=_TRICKLE,
)
async def failed_pairs_do_not_end_it(trial: Trial) -> None:
    """While more candidates may come, an agent whose only pair has failed goes on, and takes the next one."""
    await trial.create(UDP)
    refusing, port = trial.udp(), await _polite(trial)
    trial.peer.replies(refusing, lambda check: [trial.peer.error(check, 420)])
    await trial.introduce(trial.peer.candidate(refusing), end=False)
    await trial.check_on(refusing)
    await trial.pause(0.7)
    require(trial.outcome == "", trial.outcome)
    await trial.agent.add_remote_candidate(trial.peer.candidate(port, foundation="2"))
    await trial.select(port)


@case(
    8838,
    "7",
    MUST,
    "Every checklist is initially placed in the Running state, even if the checklist is empty",
    needs=_TRICKLE,
)
async def an_empty_list_is_no_failure(trial: Trial) -> None:
    """Without any candidate so far an agent goes on."""
    await trial.create(UDP)
    await trial.introduce(end=False)
    await trial.pause(0.7)
    require(trial.outcome == "", trial.outcome)
    await trial.agent.add_remote_candidate(trial.peer.candidate(port := await _polite(trial)))
    await trial.select(port)


@case(
    8838,
    "14",
    MUST,
    "After an agent has received an end-of-candidates indication, it MUST ignore any newly received candidates for "
    "that data stream or data session.",
    needs=_TRICKLE,
)
async def candidates_after_the_end_are_ignored(trial: Trial) -> None:
    """A candidate after end-of-candidates is not checked."""
    await trial.create(UDP)
    first, late = trial.udp(), trial.udp()
    await trial.introduce(trial.peer.candidate(first))
    await trial.check_on(first)
    await trial.agent.add_remote_candidate(trial.peer.candidate(late, foundation="2"))
    await late.refuse(CHECK, 0.6)


@case(
    8838,
    "9",
    MUST,
    "Also, candidate trickling needs to be correlated to a specific ICE session, so that if there is an ICE restart, "
    "any delayed updates for a previous session can be recognized as such and ignored by the receiving party.",
    needs=(*_TRICKLE, Capability.RESTART),
)
async def candidates_of_the_last_session_are_ignored(trial: Trial) -> None:
    """A candidate that names the peer's old fragment is not checked after a restart."""
    await trial.join()
    old = trial.peer.ufrag
    await trial.restart()
    stale, fresh = trial.udp(), trial.udp()
    await trial.introduce(connect=False, end=False)
    await trial.agent.add_remote_candidate(trial.peer.candidate(stale, extensions=f"ufrag {old}"))
    await trial.agent.add_remote_candidate(
        trial.peer.candidate(fresh, foundation="2", extensions=f"ufrag {trial.peer.ufrag}")
    )
    await trial.check_on(fresh)
    await trial.pause()
    require(not stale.received(CHECK), "it is checked")


@case(
    8838,
    "12",
    MUST,
    "After a local agent has trickled a candidate and formed a candidate pair from that local candidate (Section 9), "
    "or after a remote agent has received a trickled candidate and formed a candidate pair from that remote candidate "
    "(Section 11), a Trickle ICE agent adds the new candidate pair to a checklist as defined in this section.",
    needs=_TRICKLE,
)
async def late_candidates_go_by_priority(trial: Trial) -> None:
    """A better candidate that comes later is checked before worse ones that wait."""
    await trial.create(UDP)
    waiting = [trial.udp() for _ in range(10)]
    best = trial.udp()
    lines = [trial.peer.candidate(port, priority=1000 - n, foundation=f"w{n}") for n, port in enumerate(waiting)]
    await trial.introduce(*lines, end=False)
    await trial.check_on(waiting[0])
    await trial.agent.add_remote_candidate(trial.peer.candidate(best, priority=5000, foundation="b"))
    checks = [await trial.check_on(port) for port in (best, waiting[-1])]
    require(checks[0].at < checks[1].at, "it was checked last")


# Patience (RFC 8863)


@case(
    8863,
    "4",
    MUST,
    "While the timer is still running, the ICE agent MUST NOT update a checklist state from Running to Failed, even if "
    "there are no pairs left in the checklist to check.",
)
async def no_candidates_is_no_failure_yet(trial: Trial) -> None:
    """A peer that says that it has no candidates at all, and then checks, is connected with."""
    await trial.create(UDP)
    port = await _polite(trial)
    await trial.introduce()
    await trial.pause(0.7)
    require(trial.outcome == "", trial.outcome)
    await trial.select(port)


@case(
    8863,
    "4",
    MUST,
    "While the timer is still running, the ICE agent MUST NOT update a checklist state from Running to Failed, even if "
    "there are no pairs left in the checklist to check.",
)
async def failed_pairs_are_no_failure_yet(trial: Trial) -> None:
    """When all pairs have failed at once, a check of the peer from elsewhere still connects."""
    await trial.create(UDP)
    refusing, port = trial.udp(), await _polite(trial)
    trial.peer.replies(refusing, lambda check: [trial.peer.error(check, 420)])
    await trial.introduce(trial.peer.candidate(refusing))
    await trial.check_on(refusing)
    await trial.pause(0.7)
    require(trial.outcome == "", trial.outcome)
    await trial.select(port)


# Candidates of the peer (RFC 8839 s5.1)


async def _beside(trial: Trial, *others: str) -> UdpPort:
    """A good candidate of the peer after others that are to be ignored."""
    await trial.create(UDP)
    port = await _polite(trial)
    await trial.introduce(*others, trial.peer.candidate(port))
    return port


@case(8839, "5.1", MUST, "An implementation MUST ignore any name/value pairs it doesn't understand.")
async def unknown_extensions_are_ignored(trial: Trial) -> None:
    """A candidate with extensions that nobody knows is used."""
    await trial.create(UDP)
    port = await _polite(trial)
    extensions = "generation 0 network-id 1 network-cost 50 x-colour blue"
    await trial.introduce(trial.peer.candidate(port, extensions=extensions))
    await trial.select(port)


@case(
    8839,
    "5.1",
    MUST,
    'An agent processing remote candidates MUST ignore "candidate" lines that include candidates with FQDNs or IP '
    "address versions that are not supported or recognized.",
)
async def names_are_ignored(trial: Trial) -> None:
    """A candidate with a host name is ignored, and the next one used."""
    port = await _beside(trial, "candidate:7 1 UDP 2130706431 peer.example.org 4711 typ host")
    await trial.select(port)


@case(
    8839,
    "5.1",
    MUST,
    "However, extensibility is provided to allow for future transport protocols to be used with ICE",
)
async def unknown_transports_are_ignored(trial: Trial) -> None:
    """A candidate over a transport that nobody knows is ignored, and the next one used."""
    port = await _beside(trial, "candidate:7 1 CARRIER-PIGEON 2130706431 127.0.0.1 4711 typ host")
    await trial.select(port)


@case(
    8839,
    "5.1",
    MUST,
    "Specifications for new candidate types MUST define how, if at all, various steps in the ICE processing differ "
    "from the ones defined by this specification.",
)
async def unknown_types_are_ignored(trial: Trial) -> None:
    """A candidate of a type that nobody knows is ignored, and the next one used."""
    port = await _beside(trial, "candidate:7 1 UDP 2130706431 127.0.0.1 4711 typ dream")
    await trial.select(port)


@case(8839, "5.1", MUST, 'transport = "UDP" / transport-extension')
async def the_case_of_the_transport_does_not_matter(trial: Trial) -> None:
    """A candidate over "udp" in small letters is used: ABNF strings are case-insensitive."""
    await trial.create(UDP)
    port = await _polite(trial)
    await trial.introduce(trial.peer.candidate(port).replace(" UDP ", " udp "))
    await trial.select(port)


@case(
    8839,
    "5.1",
    MUST,
    'In this case the address MUST be set to "0.0.0.0" (for IPv4 candidates) or "::" (for IPv6 candidates) and the '
    'port to "9".',
)
async def hidden_related_addresses_are_taken(trial: Trial) -> None:
    """A server-reflexive candidate that hides its base is used."""
    await trial.create(UDP)
    port = await _polite(trial)
    line = trial.peer.candidate(port, type="srflx")
    await trial.introduce(f"{line.split(' raddr ')[0]} raddr 0.0.0.0 rport 9")
    await trial.select(port)


@case(8839, "5.1", MUST, "<foundation>: is composed of 1 to 32 <ice-char>s.")
async def long_foundations_are_taken(trial: Trial) -> None:
    """A candidate whose foundation has 32 characters, + and / among them, is used."""
    await trial.create(UDP)
    port = await _polite(trial)
    await trial.introduce(trial.peer.candidate(port, foundation="+/" * 16))
    await trial.select(port)


@case(8839, "5.1", MUST, "<priority>: is a positive integer between 1 and (2**31 - 1) inclusive.")
async def extreme_priorities_are_taken(trial: Trial) -> None:
    """Candidates of the smallest and of the largest priority are used."""
    await trial.create(UDP)
    least, greatest = trial.udp(), trial.udp()
    await trial.introduce(
        trial.peer.candidate(least, priority=1, foundation="1"),
        trial.peer.candidate(greatest, priority=2**31 - 1, foundation="2"),
    )
    for port in (greatest, least):
        await trial.check_on(port)


@case(
    8839,
    "5.1",
    MUST,
    "<component-id>: is a positive integer between 1 and 256 (inclusive) that identifies the specific component of the "
    "data stream for which this is a candidate.",
)
async def other_components_are_ignored(trial: Trial) -> None:
    """A candidate of a component that the agent has not is ignored, and the next one used."""
    port = await _beside(trial, "candidate:7 2 UDP 2130706430 127.0.0.1 4711 typ host")
    await trial.select(port)
