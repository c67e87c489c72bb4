"""What must hold at the end of each phase of a run."""

from __future__ import annotations

from candidates.candidate import Candidate, TcpType
from ice_tcp.core.commands import TcpPath
from ice_tcp.core.events import AgentState
from ice_tcp.core.verdicts import Verdict
from tests.sim.build import Peer, Session
from tests.sim.oracle import Outlook
from tests.sim.paths import is_relayed, meet
from tests.sim.server import SimServer
from tests.sim.watch import PropertyError

LOST = (Verdict.CONSENT_EXPIRED, Verdict.PATH_LOST)
"""Why a session that had a path may fail."""


def require(holds: bool, message: str) -> None:
    if not holds:
        raise PropertyError(message)


def concluded(peer: Peer) -> bool:
    """It has a nominated path for every component, or none is to be had."""
    return peer.state in (AgentState.COMPLETED, AgentState.FAILED)


def check_outcome(session: Session, outlook: Outlook, components: int) -> None:
    """The session ended as the topology says it must."""
    for peer in session.peers:
        require(concluded(peer), f"end: {peer.shell.name} is still {peer.state}")
    completed = [peer.state is AgentState.COMPLETED for peer in session.peers]
    require(completed[0] is completed[1], f"agreement: {[str(peer.state) for peer in session.peers]}")
    if outlook.connects:
        require(completed[0], f"{outlook.name} path: both failed, {[str(peer.verdict) for peer in session.peers]}")
    elif outlook is Outlook.NONE:
        require(not completed[0], "oracle: a path was found where none can be")
    if completed[0]:
        check_same_pair(session, components)
        check_roles(session)
        check_direct(session, outlook, components)
    else:
        check_verdict(session.left, session.right)
        check_verdict(session.right, session.left)


def check_direct(session: Session, outlook: Outlook, components: int) -> None:
    """A relay is the last resort."""
    for component in range(1, components + 1):
        relayed = any(is_relayed(session, peer, component) for peer in session.peers)
        require(not relayed or outlook is not Outlook.DIRECT, f"direct path: component {component} is relayed")
        require(relayed or outlook is not Outlook.RELAY, f"oracle: component {component} has a direct path")


def check_roles(session: Session) -> None:
    """A role conflict has been resolved (RFC 8445 s7.3.1.1)."""
    roles = [peer.shell.agent.role for peer in session.peers]
    require(roles[0] is not roles[1], f"roles: both are {roles[0]}")


def check_same_pair(session: Session, components: int) -> None:
    """Both ends selected, and nominated, the two ends of one path (RFC 8445 s8.1.1)."""
    for component in range(1, components + 1):
        selected = [peer.shell.agent.selected_path(component) for peer in session.peers]
        for peer, path in zip(session.peers, selected, strict=True):
            require(path is not None, f"selection: {peer.shell.name} has no path for component {component}")
            assert path is not None
            require(path.nominated, f"selection: {peer.shell.name}'s path of component {component} is not nominated")
            used = peer.shell.used.get(component)
            require(used == path.path, f"selection: {peer.shell.name} uses {used}, not {path.path}")
        require(
            meet(session, component),
            f"same pair: component {component}: {selected[0]} and {selected[1]}",
        )


def check_released(session: Session, components: int) -> None:
    """What was not selected is closed some seconds after the conclusion (RFC 8445 s8.3, RFC 6544 s8)."""
    for peer in session.peers:
        shell = peer.shell
        kept = {path.stream for path in shell.used.values() if isinstance(path, TcpPath)}
        legs = shell.legs.open_handles
        losers = set(shell.streams) - kept
        require(not losers, f"losers: {shell.name} still has connections {sorted(losers)}, selected are {sorted(kept)}")
        bases = len(shell.udp) + len(shell.listeners)
        require(
            bases + len(legs) <= components,
            f"losers: {shell.name} still has {bases} bases and the legs {legs} for {components} components",
        )


_FITS = {(TcpType.ACTIVE, TcpType.PASSIVE), (TcpType.SO, TcpType.SO), (None, None)}


def check_verdict(peer: Peer, other: Peer) -> None:
    """Where nothing connects the verdict says why."""
    assert other.signaling is not None
    local, remote = peer.shell.agent.local_candidates, other.signaling.told
    if not local:
        expected = Verdict.NO_LOCAL_CANDIDATES
    elif not remote:
        expected = Verdict.NO_REMOTE_CANDIDATES
    elif not any(_pairs(mine, theirs) for mine in local for theirs in remote):
        expected = Verdict.NO_PAIRS
    else:
        expected = Verdict.ALL_PAIRS_FAILED
    require(peer.verdict is expected, f"verdict: {peer.shell.name} failed with {peer.verdict}, not {expected}")


def _pairs(local: Candidate, remote: Candidate) -> bool:
    return (
        local.component == remote.component
        and local.transport is remote.transport
        and local.address.family == remote.address.family
        and (local.tcptype, remote.tcptype) in _FITS
        and local.address != remote.address
    )


def check_held(session: Session, since: float = 0.0) -> None:
    """Nothing went wrong, so nothing may have been lost: consent holds, however slowly the other reads.

    Silence may be noticed. Before the nomination is heard of, losers may be closed by the side that nominated; of a
    restart before ``since`` a slow reader, too, may hear that late.
    """
    for peer in session.peers:
        completed_at = next(at for at, state, _ in peer.states if state is AgentState.COMPLETED)
        for at, state, verdict in peer.states:
            lost = state is AgentState.DISCONNECTED and verdict is not Verdict.NO_RESPONSE
            lost = lost and at > max(completed_at, since)
            if verdict is Verdict.CONSENT_EXPIRED and _lost_by_chance(peer, at):
                continue
            require(
                state is not AgentState.FAILED and not lost,
                f"consent: {peer.shell.name} {state} ({verdict}) at {at:.3f} though nothing happened",
            )


def _lost_by_chance(peer: Peer, at: float) -> bool:
    """Each of the last consent checks, which are sent once (RFC 7675 s5.1), was lost on the way, or its answer was."""
    since = at - peer.shell.policy.consent.timeout
    asked = [transaction_id for sent_at, transaction_id in peer.shell.watch.consent_asked if since <= sent_at < at]
    return bool(asked) and peer.shell.world.internet.stun_lost.issuperset(asked)


def check_lost(peer: Peer) -> None:
    """The peer is gone for good, and the agent noticed, unless it is lite: that one asks for no consent."""
    if peer.side.lite:
        return
    require(peer.state is AgentState.FAILED, f"loss: {peer.shell.name} is {peer.state} though its peer is gone")
    if peer.shell.agent.generation == 0:
        require(peer.verdict in LOST, f"loss: {peer.shell.name} failed with {peer.verdict}")


def check_data(session: Session, components: int) -> None:
    """What was sent on the selected TCP connection has arrived, once nothing waits any more."""
    for sender, receiver in (session.peers, session.peers[::-1]):
        for component in range(1, components + 1):
            sending, receiving = sender.shell.used.get(component), receiver.shell.used.get(component)
            if not isinstance(sending, TcpPath) or not isinstance(receiving, TcpPath):
                continue
            sent = sender.chatter.sent.get(sending, 0)
            got = receiver.chatter.received_on.get(receiving, 0)
            require(sent == got, f"data: {receiver.shell.name} got {got} of {sent} messages of component {component}")


def check_flow(session: Session, components: int, bounds: tuple[float, float]) -> None:
    """Data went on while ICE restarted; ``bounds`` are the seconds of silence that either end may have seen."""
    for receiver, bound in zip(session.peers, bounds, strict=True):
        for component in range(1, components + 1):
            silence = receiver.chatter.longest_silence.get(component)
            require(
                silence is None or silence <= bound,
                f"restart: {receiver.shell.name} heard nothing for {silence} s, component {component}",
            )


def check_closed(peer: Peer) -> None:
    """Nothing is left open after close."""
    agent = peer.shell.agent
    require(agent.state is AgentState.CLOSED, f"close: {peer.shell.name} is {agent.state}")
    require(agent.next_timer() is None, f"close: {peer.shell.name} still has a timer")
    require(not agent.closing, f"close: {peer.shell.name} still deletes an allocation")
    require(not peer.shell.open_handles, f"close: {peer.shell.name} left {peer.shell.open_handles} open")


def check_unused(server: SimServer) -> None:
    """Nothing of a closed agent is left at a server."""
    require(not server.in_use, f"close: {server.name} still has {server.in_use}")
