"""Nomination, the end of checks, data, keepalives and restarts (RFC 8445 s8, s9, s11, s12)."""

from __future__ import annotations

from contextlib import suppress

from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, DATA, NOMINATION, STUN
from interop.conformance.stun import Attr, Draft, Kind
from interop.conformance.target import Capability, TargetError
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import Matcher, UdpPort

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

_TR = 15.0
"""Seconds: keepalives are at most so far apart, and not nearer (RFC 8445 s11)."""
_BETTER = 2000
_WORSE = 1000


async def _two_pairs(trial: Trial, *, controlling: bool) -> tuple[UdpPort, UdpPort]:
    """Two polite ports of the peer, the better one first; the agent checks both."""
    await trial.create(UDP, controlling=controlling)
    better, worse = trial.udp(), trial.udp()
    for port in (better, worse):
        trial.peer.answers(port)
    await trial.introduce(
        trial.peer.candidate(better, priority=_BETTER, foundation="1"),
        trial.peer.candidate(worse, priority=_WORSE, foundation="2"),
    )
    return better, worse


async def _valid(trial: Trial, *ports: UdpPort) -> None:
    """Both sides' checks on these ports have succeeded."""
    for port in ports:
        await trial.succeeds(port)
        await trial.check_on(port)


# Nomination (RFC 8445 s8.1.1)


@case(
    8445,
    "8.1.1",
    MUST,
    "The only requirement is that the agent MUST eventually pick one and only one candidate pair and generate a check "
    "for that pair with the USE-CANDIDATE attribute set.",
)
async def one_and_only_one_nomination(trial: Trial) -> None:
    """Of two pairs that both work a controlling agent nominates one."""
    better, worse = await _two_pairs(trial, controlling=True)
    for port in (better, worse):
        await trial.succeeds(port)
    await trial.pause(1.5)
    nominated = [port.near[1] for port in (better, worse) if port.received(NOMINATION)]
    require(len(nominated) == 1, f"{len(nominated)} pairs were nominated")


@case(
    8445,
    "8.1.1",
    MUST,
    "Once the controlling agent has picked a valid pair for nomination, it repeats the connectivity check that "
    "produced this valid pair",
)
async def a_valid_pair_is_nominated(trial: Trial) -> None:
    """USE-CANDIDATE comes only after a check of the pair without it was answered: no aggressive nomination."""
    port = await trial.meet(controlling=True)
    await trial.succeeds(port)
    nomination = await port.expect(NOMINATION)
    before = [packet for packet in port.received(CHECK) if packet.at < nomination.at]
    require(before, "the first check of the pair has it already")


@case(
    8445,
    "8.1.1",
    MUST,
    "the agent MUST NOT nominate another pair for same component of the data stream within the ICE session.",
    needs=(Capability.UDP, Capability.TRICKLE),
)
async def no_second_nomination(trial: Trial) -> None:
    """A better candidate that comes after the nomination is not nominated."""
    await trial.create(UDP, controlling=True)
    port, late = trial.udp(), trial.udp()
    for each in (port, late):
        trial.peer.answers(each)
    await trial.introduce(trial.peer.candidate(port, priority=_WORSE), end=False)
    await trial.succeeds(port)
    await port.expect(NOMINATION)
    await trial.pause()
    await trial.agent.add_remote_candidate(trial.peer.candidate(late, priority=_BETTER, foundation="2"))
    late.send(trial.peer.request())
    await late.refuse(NOMINATION, 1.0)


@case(
    8445,
    "8.1.1",
    MUST,
    "If more than one candidate pair is nominated by the controlling agent, and if the controlled agent accepts "
    "multiple nominations requests, the agents MUST produce the selected pairs and use the pairs with the highest "
    "priority.",
)
async def the_best_of_several_nominations_counts(trial: Trial) -> None:
    """Where an old peer nominates two pairs, the worse one first, data goes on the better one."""
    better, worse = await _two_pairs(trial, controlling=False)
    await _valid(trial, better, worse)
    for port in (worse, better):
        await trial.succeeds(port, trial.peer.request(use_candidate=True))
    await trial.connected()
    await trial.pause(0.2)
    await trial.agent.send(b"which way", 1)
    await better.expect(DATA)


@case(
    8445,
    "8.1.2",
    MUST,
    "Cancellation means that the agent will not retransmit the Binding requests associated with the connectivity-check "
    "transaction, will not treat the lack of response to be a failure, but will wait the duration of the transaction "
    "timeout for a response.",
)
async def checks_end_with_the_nomination(trial: Trial) -> None:
    """When a pair is nominated, the checks of the others end."""
    await trial.create(UDP)
    port, silent = trial.udp(), trial.udp()
    trial.peer.answers(port)
    await trial.introduce(
        trial.peer.candidate(silent, priority=_BETTER, foundation="2"),
        trial.peer.candidate(port, priority=_WORSE),
    )
    await trial.check_on(silent)
    await trial.select(port)
    await trial.pause(0.1)
    await silent.refuse(CHECK, 1.6)


@case(
    8445,
    "8.1.2",
    MUST,
    "Once a candidate pair for a component of a data stream has been nominated, an agent MUST continue to respond to "
    "any Binding request it might still receive for the nominated pair and for any remaining candidate pairs in the "
    "checklist associated with the data stream.",
)
async def answers_go_on_after_nomination(trial: Trial) -> None:
    """Requests on the nominated pair are still answered."""
    port = await trial.join()
    await trial.succeeds(port)
    await trial.succeeds(port, trial.peer.request(use_candidate=True))


@case(
    8445,
    "8.3.1",
    SHOULD,
    "Once a checklist has reached the Completed state, the agent SHOULD wait an additional three seconds, and then it "
    "can cease responding to checks or generating triggered checks on all local candidates other than the ones that "
    "became selected candidates.",
)
async def other_sources_are_answered_for_a_while(trial: Trial) -> None:
    """One second after the nomination a check from the peer's other candidate is still answered."""
    better, worse = await _two_pairs(trial, controlling=False)
    await _valid(trial, better, worse)
    await trial.select(better)
    await trial.pause(1.0)
    await trial.succeeds(worse)


# Data (RFC 8445 s12)


@case(
    8445,
    "12.1",
    MAY,
    "An ICE agent MAY send data on any valid pair before selected pairs have been produced for the data stream.",
)
async def data_before_nomination(trial: Trial) -> None:
    """A controlled agent sends data on a valid pair that nobody has nominated yet."""
    port = await trial.meet()
    await trial.check_on(port)
    await trial.connected(2.0)
    await trial.agent.send(b"early", 1)
    await port.expect(DATA)


@case(
    8445,
    "12.1",
    MUST,
    "Once selected pairs have been produced for a data stream, an agent MUST send data on those pairs only.",
)
async def data_goes_on_the_selected_pair(trial: Trial) -> None:
    """Of two valid pairs the one that was nominated, though it is the worse one, carries the data."""
    better, worse = await _two_pairs(trial, controlling=False)
    await _valid(trial, better, worse)
    await trial.select(worse)
    await trial.pause(0.2)
    for n in range(5):
        await trial.agent.send(b"selected %d" % n, 1)
    await worse.expect(DATA)
    await better.refuse(DATA)


@case(
    8445,
    "12.1",
    MUST,
    "An agent sends data from the base of the local candidate to the remote candidate.",
)
async def data_comes_from_the_base(trial: Trial) -> None:
    """Data comes from the candidate's address, whole and unchanged."""
    port = await trial.join()
    await trial.agent.send(bytes(range(256)), 1)
    data = await port.expect(DATA)
    require(data.far == trial.candidate(UDP).address, f"it comes from {data.far}")
    require(data.data == bytes(range(256)), "it is not what was sent")


@case(
    8445,
    "12.1.1",
    MUST,
    "A lite implementation MUST NOT send data until it has a valid list that contains a candidate pair for each "
    "component of that data stream.",
    needs=(Capability.UDP, Capability.LITE),
)
async def a_lite_agent_sends_no_data_before(trial: Trial) -> None:
    """What the application of a lite agent sends before the nomination does not reach the peer."""
    await trial.create(UDP, lite=True)
    port = trial.udp()
    await trial.introduce(trial.peer.candidate(port))
    await trial.succeeds(port)
    with suppress(TargetError):
        await trial.agent.send(b"too early", 1)
    await port.refuse(DATA)


@case(
    8445,
    "12.2",
    SHOULD,
    "ICE implementations SHOULD by default be prepared to receive data on any of the candidates provided in the most "
    "recent candidate exchange with the peer.",
)
async def data_of_the_other_pair_is_received(trial: Trial) -> None:
    """Data that comes on a valid pair other than the selected one reaches the application."""
    better, worse = await _two_pairs(trial, controlling=False)
    await _valid(trial, better, worse)
    await trial.select(better)
    worse.send(b"from the other side")
    await trial.receives(b"from the other side")


@case(
    8445,
    "5.3",
    MUST,
    "Once an agent has sent its candidate information, it MUST be prepared to receive both STUN and data packets on "
    "each candidate.",
)
async def data_that_looks_like_stun(trial: Trial) -> None:
    """Data whose first bits are zero, but that is no STUN, reaches the application."""
    port = await trial.join()
    almost = Draft(Kind.REQUEST).add(Attr.PRIORITY, bytes(4)).encode(cookie=b"data")
    port.send(almost)
    await trial.receives(almost)


# Keepalives (RFC 8445 s11)


@case(
    8445,
    "11",
    MUST,
    "An agent MUST send a keepalive on each candidate pair that is used for sending data if no packet has been sent on "
    "that pair in the last Tr seconds.",
    limit=60,
)
async def a_keepalive(trial: Trial) -> str:
    """Without data a STUN message comes on the selected pair within Tr, 15 seconds."""
    port = await trial.join()
    await trial.pause(0.3)
    port.skip()
    began_at = port.inbox[-1].at
    packet = await port.expect(STUN, _TR + 1.0)
    assert packet.message is not None
    return f"a Binding {packet.message.kind.name.lower()} came after {packet.at - began_at:.1f} s"


@case(
    8445,
    "11",
    MUST,
    "If a connectivity check is received, a response is generated as discussed in [RFC5389], but there is no impact on "
    "ICE processing otherwise.",
)
async def checks_after_the_end_change_nothing(trial: Trial) -> None:
    """Checks after the conclusion are answered, and data flows as before."""
    port = await trial.join()
    for _ in range(5):
        await trial.succeeds(port)
    port.send(Draft(Kind.INDICATION).fingerprint())
    await trial.flows(port)


# Restarts (RFC 8445 s9)

_RESTART = (Capability.UDP, Capability.RESTART)


async def _restarted(trial: Trial, *, controlling: bool = False) -> tuple[UdpPort, UdpPort]:
    """A selected pair, and a port of the peer for the new generation, which has new credentials on both sides."""
    port = await trial.join(controlling=controlling)
    await trial.restart()
    return port, trial.udp()


async def _reintroduce(trial: Trial, port: UdpPort) -> None:
    trial.peer.answers(port)
    await trial.introduce(trial.peer.candidate(port), connect=False)


@case(
    8445,
    "9",
    MUST,
    "To restart ICE, an agent MUST change both the password and the username fragment for the data stream(s) being "
    "restarted.",
    needs=_RESTART,
)
async def a_restart_changes_both_credentials(trial: Trial) -> None:
    """A restart gives another fragment and another password."""
    await trial.join()
    before, after = trial.told, await trial.agent.restart()
    require(after.ufrag != before.ufrag, "the fragment is the old one")
    require(after.pwd != before.pwd, "the password is the old one")


@case(
    8445,
    "9",
    MUST,
    "The only difference between an ICE restart and a brand new data session is that during the restart, data can "
    "continue to be sent using existing data sessions, and a new data session always requires the roles to be "
    "determined.",
    needs=_RESTART,
)
async def data_flows_during_a_restart(trial: Trial) -> None:
    """Until the restart has found a path, data flows on the old one, both ways."""
    port, _ = await _restarted(trial)
    await trial.flows(port)


@case(
    8445,
    "9",
    MUST,
    "An ICE restart causes all previous states of the data streams, excluding the roles of the agents, to be flushed.",
    needs=_RESTART,
)
async def a_restart_checks_anew(trial: Trial) -> None:
    """After a restart the peer's new candidate is checked with the new credentials."""
    _, port = await _restarted(trial)
    await _reintroduce(trial, port)
    check = (await trial.check_on(port)).message
    expected = f"{trial.peer.ufrag}:{trial.told.ufrag}"
    require(check is not None and check.username == expected, "the check has other fragments")
    require(check is not None and check.integrity_holds(trial.peer.pwd), "the check has another password")


@case(
    8445,
    "9",
    MUST,
    "agents MUST NOT redetermine the roles as part as an ICE restart, unless certain criteria that require the roles "
    "to be redetermined are fulfilled.",
    needs=_RESTART,
)
async def roles_survive_a_restart(trial: Trial) -> None:
    """After a restart the agent has the role that it had."""
    _, port = await _restarted(trial, controlling=True)
    await _reintroduce(trial, port)
    check = (await trial.check_on(port)).message
    require(check is not None and check.has(Attr.ICE_CONTROLLING), "it says that it is controlled")


@case(
    8445,
    "12.1",
    MUST,
    "equal to the previous selected pair for a component of a data stream if the state of the checklist for that data "
    "stream is Running, and there was a previous selected pair for that component due to an ICE restart",
    needs=_RESTART,
)
async def data_moves_to_the_new_pair(trial: Trial) -> None:
    """Data goes on the old pair until the new one is nominated, and then on the new one."""
    old, new = await _restarted(trial)
    await trial.agent.send(b"before", 1)
    await old.expect(Matcher("data sent before", lambda packet: packet.data == b"before"))
    await _reintroduce(trial, new)
    await trial.check_on(new)
    await trial.succeeds(new, trial.peer.request(use_candidate=True))
    await trial.pause()
    await trial.agent.send(b"after", 1)
    await new.expect(Matcher("data sent after", lambda packet: packet.data == b"after"))


@case(
    8445,
    "9",
    MUST,
    "An ICE restart causes all previous states of the data streams, excluding the roles of the agents, to be flushed.",
    needs=_RESTART,
)
async def the_new_credentials_are_answered(trial: Trial) -> None:
    """After a restart requests with the new credentials are answered."""
    port, _ = await _restarted(trial)
    await trial.succeeds(port)
