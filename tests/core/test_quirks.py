"""What other implementations do that RFC 6544 does not expect, or only just allows; see `docs/peers.md`."""

from __future__ import annotations

from candidates.candidate import TcpType
from ice_tcp.core.commands import Failure, Path
from ice_tcp.core.events import Role
from ice_tcp.core.trace import DialStarted
from tests.core.net import Net, Node, tcp_candidate, tcp_only
from tests.core.peer import Peer


def controlled(*tcptypes: str) -> tuple[Net, Node, Peer]:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only(*tcptypes))
    node.gather()
    return net, node, Peer(node)


def is_nominated(node: Node, path: Path) -> bool:
    selected = node.agent.selected_path()
    return selected is not None and selected.nominated and node.used == path


def test_a_peer_that_dials_from_each_of_its_networks_is_answered_everywhere_and_one_connection_carries() -> None:
    net, node, peer = controlled("passive")
    peer.introduce(end=False)
    places = ((50_000, "198.51.100.2"), (50_001, "198.51.100.3"), (50_002, "198.51.100.4"))
    paths = [peer.dials(node, node.listener(TcpType.PASSIVE), *place) for place in places]
    for path in paths:
        assert peer.asks(path) is not None
    peer.answers_all()
    peer.asks(paths[1], use_candidate=True)
    net.run(1)
    assert is_nominated(node, paths[1])
    for path in paths:
        assert peer.asks(path) is not None  # those that lost are answered until they are closed


def test_a_peer_that_is_passive_and_dials_all_the_same_is_met_on_the_connection_that_it_nominates() -> None:
    net, node, peer = controlled("active", "passive")
    peer.introduce(tcp_candidate(TcpType.PASSIVE), end=False)
    net.run(0.5)
    node.connected(node.traced(DialStarted)[0].stream)
    theirs = peer.dials(node, node.listener(TcpType.PASSIVE))
    assert peer.asks(theirs, use_candidate=True) is not None
    peer.answers_all()
    net.run(1)
    assert is_nominated(node, theirs)


def test_a_peer_that_binds_and_neither_listens_nor_redials_is_redialled() -> None:
    net, node, peer = controlled("so")
    peer.introduce(tcp_candidate(TcpType.SO), end=False)
    net.run(0.1)
    (first,) = node.traced(DialStarted)
    node.fails(first.stream, Failure.REFUSED)  # its kernel's answer to a SYN that comes before its own
    net.run(0.5)
    second = node.traced(DialStarted)[1]
    assert (second.pair, second.remote, second.attempt) == (first.pair, first.remote, 2)
    path = peer.dials(node, node.listener(TcpType.SO), 6000)  # now SYNs have crossed
    assert peer.asks(path, use_candidate=True) is not None
    peer.answers_all()
    net.run(1)
    assert is_nominated(node, path)
