"""Whether the paths of two agents are the two ends of one, whatever NATs and relays stand between."""

from __future__ import annotations

from ice_tcp.core.commands import RelayPath, TcpPath, UdpPath
from tests.sim.build import Peer, Session
from tests.sim.host import Host
from tests.sim.packets import Endpoint, Origin
from tests.sim.server import Ends, SimServer, connection_of, relayed_by


def meet(session: Session, component: int) -> bool:
    """Whether what one agent sends on its path of ``component`` comes to the other on its own, and back."""
    left, right = session.peers
    mine, theirs = left.shell.used[component], right.shell.used[component]
    match mine, theirs:
        case TcpPath(), TcpPath():
            return _ends(right, theirs) in _continued(session.servers, _ends(left, mine))
        case UdpPath(), UdpPath():
            return _heard(left, mine, right, theirs) and _heard(right, theirs, left, mine)
        case RelayPath(), RelayPath():
            return _relayed(left, component) == _endpoint(theirs) and _relayed(right, component) == _endpoint(mine)
        case RelayPath(), UdpPath():
            return _heard_by_relay(session, left, mine, right, theirs, component)
        case UdpPath(), RelayPath():
            return _heard_by_relay(session, right, theirs, left, mine, component)
        case _:
            return False


def is_relayed(session: Session, peer: Peer, component: int) -> bool:
    """Whether the path of an agent leads to a server first."""
    return _first_hop(session, peer, component) is not None


def _first_hop(session: Session, peer: Peer, component: int) -> Host | None:
    """The machine of the server that the packets of an agent go to, if any."""
    path = peer.shell.used.get(component)
    match path:
        case RelayPath(leg):
            remote = peer.shell.legs.remote(leg)
        case UdpPath():
            remote = path.remote.host
        case TcpPath(stream):
            socket = peer.shell.streams[stream].socket
            assert socket is not None
            remote = socket.remote.host
        case None:
            return None
    return next((server.host for server in session.servers if remote in server.host.attachments), None)


def relays_for(session: Session, server: SimServer, components: int) -> bool:
    """Whether a path of the session leads through a server."""
    return any(
        server.host is _first_hop(session, peer, component)
        for peer in session.peers
        for component in range(1, components + 1)
    )


def _ends(peer: Peer, path: TcpPath) -> Ends:
    socket = peer.shell.streams[path.stream].socket
    assert socket is not None
    return connection_of(socket)


def _continued(servers: list[SimServer], ends: Ends) -> set[Ends]:
    """A connection, and those that servers, two at most, spliced to it one after another."""
    found = {ends}
    for _ in range(2):
        found.update(*(splice for server in servers for splice in server.splices if not found.isdisjoint(splice)))
    return found


def _heard(sender: Peer, sending: UdpPath, receiver: Peer, receiving: UdpPath) -> bool:
    """Whether what arrives on the one path was sent on the other."""
    origin = Origin(sender.shell.name, sending.socket, _endpoint(sending))
    return receiver.shell.heard.get((receiving.socket, _endpoint(receiving))) == origin


def _heard_by_relay(
    session: Session, owner: Peer, through: RelayPath, other: Peer, sending: UdpPath, component: int
) -> bool:
    relayed = _relayed(owner, component)
    server = relayed_by(session.servers, relayed)
    origin = Origin(other.shell.name, sending.socket, relayed)
    return (
        relayed == _endpoint(sending)
        and server is not None
        and server.heard.get((relayed, _endpoint(through))) == origin
    )


def _relayed(peer: Peer, component: int) -> Endpoint:
    selected = peer.shell.agent.selected_path(component)
    assert selected is not None
    return Endpoint(selected.local.address.host, selected.local.address.port)


def _endpoint(path: UdpPath | RelayPath) -> Endpoint:
    return Endpoint(path.remote.host, path.remote.port)
