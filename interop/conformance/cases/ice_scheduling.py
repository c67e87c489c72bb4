"""Which pairs the agent checks, in which order, and how fast (RFC 8445 s6.1, s14)."""

from __future__ import annotations

from collections.abc import Sequence

from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK
from interop.conformance.stun import Attr
from interop.conformance.target import Capability
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import Packet, UdpPort

MUST, SHOULD = Level.MUST, Level.SHOULD

_TA = 0.05
"""Seconds: the default (RFC 8445 s14.2)."""
_LIMIT = 100
"""Pairs of a check list, by default (RFC 8445 s6.1.2.5)."""


async def _silent(trial: Trial, *pairs: tuple[str, int], pacing: int | None = None) -> list[UdpPort]:
    """Ports of the peer that answer nothing, each a candidate with this foundation and priority."""
    await trial.create(UDP)
    ports = [trial.udp() for _ in pairs]
    lines = [
        trial.peer.candidate(port, foundation=foundation, priority=priority)
        for port, (foundation, priority) in zip(ports, pairs, strict=True)
    ]
    await trial.introduce(*lines, pacing=pacing)
    return ports


def _apart(number: int) -> list[tuple[str, int]]:
    """So many candidates of different foundations, the best last."""
    return [(f"f{n}", 1000 + n) for n in range(number)]


async def _order(trial: Trial, ports: Sequence[UdpPort]) -> list[int]:
    """In which order the ports got their first checks, by index."""
    checks = [await trial.check_on(port) for port in ports]
    return sorted(range(len(ports)), key=lambda index: checks[index].at)


async def _starts(trial: Trial, ports: Sequence[UdpPort]) -> list[float]:
    """When the first check of each port came, in order."""
    return sorted([(await trial.check_on(port)).at for port in ports])


def _gaps(instants: Sequence[float], over: int = 1) -> list[float]:
    return [later - earlier for earlier, later in zip(instants, instants[over:], strict=False)]


# Roles (RFC 8445 s6.1.1)


@case(
    8445,
    "6.1.1",
    MUST,
    "The full agent MUST take the controlling role, and the lite agent MUST take the controlled role.",
    needs=(Capability.UDP, Capability.LITE_PEER),
)
async def the_full_agent_controls_a_lite_one(trial: Trial) -> None:
    """An agent that was to be controlled controls when its peer is lite."""
    port = await trial.meet(lite_peer=True)
    check = (await trial.check_on(port)).message
    require(check is not None and check.has(Attr.ICE_CONTROLLING), "its check has no ICE-CONTROLLING")


# Pairs (RFC 8445 s6.1.2)


@case(
    8445,
    "6.1.2.2",
    MUST,
    "The ICE agent pairs each local candidate with each remote candidate for the same component of the same data "
    "stream with the same IP address family.",
    needs=(Capability.UDP, Capability.COMPONENTS),
)
async def pairs_are_of_one_component(trial: Trial) -> None:
    """Each component's candidate is checked from that component's base only."""
    await trial.create(UDP, components=2)
    ports = {component: trial.udp(component) for component in (1, 2)}
    await trial.introduce(*(trial.peer.candidate(port, component=number) for number, port in ports.items()))
    for port in ports.values():
        await trial.check_on(port)
    await trial.pause()
    for number, port in ports.items():
        sources = {packet.far for packet in port.received(CHECK)}
        expected = {trial.candidate(UDP, number).address}
        require(sources == expected, f"component {number} of the peer was checked from {sources}")


@case(
    8445,
    "6.1.2.2",
    MUST,
    "The ICE agent pairs each local candidate with each remote candidate for the same component of the same data "
    "stream with the same IP address family.",
)
async def pairs_are_of_one_address_family(trial: Trial) -> None:
    """A candidate of another address family does no harm: the other one is checked and selected."""
    await trial.create(UDP)
    port = trial.udp()
    trial.peer.answers(port)
    better = trial.peer.candidate(("::1", port.near[1]), foundation="6", priority=2**31 - 1)
    await trial.introduce(better, trial.peer.candidate(port))
    await trial.select(port)


@case(
    8445,
    "6.1.2.3",
    MUST,
    "The agent sorts each checklist in decreasing order of candidate pair priority.",
)
async def checks_go_by_priority(trial: Trial) -> None:
    """Of five candidates, told in another order, the better one is always checked first."""
    priorities = [3000, 5000, 1000, 4000, 2000]
    ports = await _silent(trial, *((f"f{priority}", priority) for priority in priorities))
    order = [priorities[index] for index in await _order(trial, ports)]
    require(order == sorted(priorities, reverse=True), f"the order was {order}")


@case(
    8445,
    "6.1.2.4",
    MUST,
    "This is done by removing a candidate pair if it is redundant with a higher-priority candidate pair in the same "
    "checklist.",
)
async def redundant_pairs_are_pruned(trial: Trial) -> None:
    """A candidate that is told twice, with two foundations and priorities, is checked once."""
    await trial.create(UDP)
    port = trial.udp()
    await trial.introduce(
        trial.peer.candidate(port, foundation="1", priority=1000),
        trial.peer.candidate(port, foundation="2", priority=2000),
    )
    await trial.check_on(port)
    await trial.pause(0.8)
    transactions = {packet.data[8:20] for packet in port.received(CHECK)}
    require(len(transactions) == 1, f"there were {len(transactions)} checks")


@case(
    8445,
    "6.1.2.5",
    MUST,
    "The default limit of candidate pairs for the checklist set is 100, but the value MUST be configurable.",
)
async def the_list_has_a_limit(trial: Trial) -> str:
    """Of 130 candidates at most 100 are checked."""
    ports = await _silent(trial, *_apart(130), pacing=5)
    checked = await _settled(trial, ports)
    require(0 < checked <= _LIMIT, f"{checked} were checked")
    return f"{checked} were checked"


@case(
    8445,
    "6.1.2.5",
    MUST,
    "The limit is enforced by, within in each checklist, discarding lower-priority candidate pairs until the total "
    "number of candidate pairs in the checklist set is smaller than the limit value.",
)
async def the_worst_pairs_are_discarded(trial: Trial) -> None:
    """Of 130 candidates the best ones are checked."""
    ports = await _silent(trial, *_apart(130), pacing=5)
    await _settled(trial, ports)
    checked = sum(bool(port.received(CHECK)) for port in ports[-50:])
    require(checked == 50, f"of the best 50 {checked} were checked")


async def _settled(trial: Trial, ports: Sequence[UdpPort]) -> int:
    """How many of the ports have been checked, when no more are checked for half a second."""
    checked, before = 0, -1
    while checked > before:
        before = checked
        await trial.pause(0.5)
        checked = sum(bool(port.received(CHECK)) for port in ports)
    return checked


@case(
    8445,
    "6.1.2.6",
    MUST,
    "Frozen: A check for this pair has not been sent, and it cannot be sent until the pair is unfrozen and moved into "
    "the Waiting state.",
)
async def one_pair_of_a_foundation_first(trial: Trial) -> None:
    """Of two foundations each has one check before the first one has its second, whatever the priorities."""
    ports = await _silent(trial, ("a", 4000), ("a", 3000), ("b", 1000))
    order = await _order(trial, ports)
    require(order == [0, 2, 1], f"the order was {order}")


@case(
    8445,
    "6.1.4.2",
    MUST,
    "For a given foundation, if there is no pair (in any checklist in the checklist set) in the Waiting or In-Progress "
    "state, the agent puts the candidate pair state to Waiting and continues with the next step.",
)
async def a_foundation_waits_for_its_check(trial: Trial) -> None:
    """While the first pair of a foundation is in progress, its second one stays frozen."""
    first, second = await _silent(trial, ("a", 4000), ("a", 3000))
    await trial.check_on(first)
    await second.refuse(CHECK, 1.0)


@case(
    8445,
    "7.2.5.3.3",
    MUST,
    "The agent MUST set the states for all other Frozen candidate pairs in all checklists with the same foundation to "
    "Waiting.",
)
async def success_thaws_the_foundation(trial: Trial) -> None:
    """When the first pair of a foundation has succeeded, the second one is checked."""
    await trial.create(UDP)
    first, second = trial.udp(), trial.udp()
    trial.peer.answers(first)
    await trial.introduce(trial.peer.candidate(first, priority=1000), trial.peer.candidate(second, priority=500))
    await trial.check_on(first)
    await trial.check_on(second)


# Triggered checks (RFC 8445 s6.1.4.1)


@case(
    8445,
    "6.1.4.2",
    MUST,
    "If the triggered-check queue associated with the checklist contains one or more candidate pairs, the agent "
    "removes the top pair from the queue, performs a connectivity check on that pair, puts the candidate pair state to "
    "In-Progress, and aborts the subsequent steps.",
)
async def triggered_checks_go_first(trial: Trial) -> str:
    """The worst of twelve pairs is checked at once when the peer checks it."""
    ports = await _silent(trial, *_apart(12))
    await trial.check_on(ports[-1])
    await trial.succeeds(ports[0])
    checks = [await trial.check_on(port) for port in ports]
    before = sum(each.at < checks[0].at for each in checks)
    require(before <= 5, f"{before} others were checked before it")
    return f"{before} others were checked before it"


@case(
    8445,
    "6.1.4.1",
    MUST,
    "For triggered connectivity checks, the agent maintains a FIFO queue for each checklist, referred to as the "
    '"triggered-check queue", which contains candidate pairs for which checks are to be sent at the next available '
    "opportunity.",
)
async def triggered_checks_keep_their_order(trial: Trial) -> None:
    """Pairs that the peer has checked are checked in the order of its checks, not of their priorities."""
    ports = await _silent(trial, *_apart(12))
    await trial.check_on(ports[-1])
    asked = [ports[0], ports[2], ports[1]]
    for port in asked:
        await trial.succeeds(port)
    order = await _order(trial, asked)
    require(order == [0, 1, 2], f"the order was {order}")


# Pacing (RFC 8445 s14)


@case(8445, "14.2", SHOULD, "ICE agents SHOULD use a default Ta value, 50 ms")
async def checks_are_50_ms_apart(trial: Trial) -> str:
    """Without a word about pacing from the peer, new checks are 50 ms apart."""
    gaps = _gaps(await _starts(trial, await _silent(trial, *_apart(8))))
    require(min(gaps) >= 0.85 * _TA, f"two are {1000 * min(gaps):.1f} ms apart")
    return f"they are {1000 * min(gaps):.1f} to {1000 * max(gaps):.1f} ms apart"


@case(
    8445,
    "14.2",
    MUST,
    "Both agents MUST use the higher value of the proposed values.",
    needs=(Capability.UDP, Capability.PACING),
)
async def the_slower_pace_is_kept(trial: Trial) -> str:
    """When the peer proposes 120 ms, new checks are 120 ms apart."""
    gaps = _gaps(await _starts(trial, await _silent(trial, *_apart(6), pacing=120)))
    require(min(gaps) >= 0.9 * 0.12, f"two are {1000 * min(gaps):.1f} ms apart")
    return f"they are {1000 * min(gaps):.1f} to {1000 * max(gaps):.1f} ms apart"


@case(
    8445,
    "14.2",
    MUST,
    "Regardless of the Ta value chosen for each agent, the combination of all transactions from all agents (if a given "
    "implementation runs several concurrent agents) MUST NOT be sent more often than once every 5 ms (as though there "
    "were one global Ta value for pacing all agents).",
    needs=(Capability.UDP, Capability.PACING),
)
async def never_faster_than_5_ms(trial: Trial) -> str:
    """When the peer proposes no pause at all, ten new checks still take 45 ms."""
    spans = _gaps(await _starts(trial, await _silent(trial, *_apart(25), pacing=0)), over=9)
    require(min(spans) >= 0.92 * 0.045, f"ten took {1000 * min(spans):.1f} ms")
    return f"ten took {1000 * min(spans):.1f} ms or more"


@case(8445, "14.3", MUST, "Agents MUST NOT use an RTO value smaller than 500 ms.")
async def the_first_retransmission_takes_500_ms(trial: Trial) -> str:
    """The first retransmission comes 500 ms after the request, or later."""
    port = await trial.meet(polite=False)
    first = await trial.check_on(port)
    second = await _again(trial, port, first)
    gap = second.at - first.at
    require(gap >= 0.48, f"it came after {1000 * gap:.0f} ms")
    return f"it came after {1000 * gap:.0f} ms"


async def _again(trial: Trial, port: UdpPort, check: Packet) -> Packet:
    while (packet := await trial.check_on(port)).data[8:20] != check.data[8:20]:
        pass
    return packet
