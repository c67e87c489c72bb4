"""The other agent, played by the test: it asks and answers what it is told to, right or wrong."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from candidates.candidate import Candidate, TransportAddress
from candidates.parameters import IceParameters
from ice_tcp import stun
from ice_tcp.core.commands import Path, StreamId, TcpPath, UdpPath
from ice_tcp.core.events import Role
from tests.core.net import AWAY, Node, Sent, address

PARAMETERS = IceParameters("peer", "peersPasswordIsLongEnough", ("trickle", "ice2"))
PRFLX_PRIORITY = 1_853_882_367
"""What a peer says in PRIORITY."""


class Peer:
    """Speaks for ``parameters``; its own role is the opposite of the node's, unless told otherwise."""

    def __init__(
        self,
        node: Node,
        *,
        parameters: IceParameters = PARAMETERS,
        role: Role | None = None,
        tie_breaker: int = 2**63,
    ) -> None:
        opposite = Role.CONTROLLED if node.role is Role.CONTROLLING else Role.CONTROLLING
        self.node = node
        self.parameters = parameters
        self.role = role or opposite
        self.tie_breaker = tie_breaker
        self.key = stun.IntegrityKey.short_term(parameters.pwd)
        self._ids = count(1)
        self._answered: set[bytes] = set()

    def introduce(self, *candidates: Candidate, end: bool = True) -> None:
        """Signal parameters and candidates, and, if there are some, their end; then the node begins its checks."""
        self.node.know(self.parameters)
        self.node.hear_of(*candidates)
        if end:
            self.node.hear_end()
        self.node.start()

    # -- asking

    def request(
        self,
        *,
        use_candidate: bool = False,
        priority: int | None = PRFLX_PRIORITY,
        role: Role | None = None,
        username: str | None = None,
        password: str | None = None,
        integrity: bool = True,
        fingerprint: bool = True,
        extra: Iterable[stun.Attribute] = (),
        transaction_id: bytes | None = None,
        generation: IceParameters | None = None,
    ) -> bytes:
        """A Binding request for the node; ``generation`` is that of the node it is meant for."""
        node = generation or self.node.agent.local_parameters
        attributes = [stun.username(username or f"{node.ufrag}:{self.parameters.ufrag}")]
        if priority is not None:
            attributes.append(stun.priority(priority))
        claim = stun.ice_controlling if (role or self.role) is Role.CONTROLLING else stun.ice_controlled
        attributes.append(claim(self.tie_breaker))
        if use_candidate:
            attributes.append(stun.use_candidate())
        key = stun.IntegrityKey.short_term(password or node.pwd) if integrity else None
        return stun.encode(
            stun.MessageClass.REQUEST,
            stun.Method.BINDING,
            transaction_id or self.new_id(),
            [*attributes, *extra],
            key=key,
            fingerprint=fingerprint,
        )

    def new_id(self) -> bytes:
        return b"peer" + next(self._ids).to_bytes(8, "big")

    def udp_path(self, port: int = 5000, host: str = AWAY) -> UdpPath:
        """From an address of the peer to the node's first socket, as the node sees it."""
        return UdpPath(self.node.socket(), address(host, port))

    def asks(self, path: Path, data: bytes | None = None, **how: bool) -> stun.Message | None:
        """A request comes to the node on a path; its answer, or None."""
        request = data if data is not None else self.request(**how)  # type: ignore[arg-type]
        before = len(self.node.responses)
        self.node.receive(path, request)
        answers = [sent for sent in self.node.responses[before:] if sent.path == path]
        assert len(answers) <= 1
        return answers[0].message if answers else None

    # -- answering

    def unanswered(self) -> list[Sent]:
        """The node's requests that nobody answered yet, without retransmissions."""
        return [sent for sent in self.node.new_requests if sent.message.transaction_id not in self._answered]

    def last(self) -> Sent:
        return self.node.requests[-1]

    def response(
        self,
        sent: Sent,
        *,
        code: int | None = None,
        mapped: TransportAddress | None = None,
        password: str | None = None,
        integrity: bool = True,
        extra: Iterable[stun.Attribute] = (),
    ) -> bytes:
        """The answer to a request of the node: success, or an error ``code``."""
        transaction_id = sent.message.transaction_id
        key = stun.IntegrityKey.short_term(password or self.parameters.pwd) if integrity else None
        if code is None:
            seen = mapped or self._address_of_node(sent.path)
            attributes = [stun.xor_mapped_address(seen.host, seen.port, transaction_id)]
            kind = stun.MessageClass.SUCCESS
        else:
            attributes = [stun.error_code(code, "because")]
            kind = stun.MessageClass.ERROR
        return stun.encode(kind, stun.Method.BINDING, transaction_id, [*attributes, *extra], key=key)

    def answers(
        self,
        sent: Sent | None = None,
        *,
        code: int | None = None,
        mapped: TransportAddress | None = None,
        path: Path | None = None,
    ) -> None:
        """Answer a request, by default the node's last one."""
        request = sent or self.last()
        self._answered.add(request.message.transaction_id)
        self.node.receive(path or request.path, self.response(request, code=code, mapped=mapped))

    def answers_all(self) -> None:
        """Answer everything that is open, and what follows from it at once."""
        while open_requests := self.unanswered():
            for sent in open_requests:
                self.answers(sent)

    def plays_along(self, seconds: float, step: float = 0.01) -> None:
        """Answer whatever comes in this time."""
        end = self.node.net.now + seconds
        while self.node.net.now < end - step / 2:
            self.answers_all()
            self.node.net.run(step)
        self.answers_all()

    def _address_of_node(self, path: Path) -> TransportAddress:
        if isinstance(path, UdpPath):
            return self.node.sockets[path.socket]
        assert isinstance(path, TcpPath)
        return self.node.streams[path.stream].local

    # -- connections

    def dials(self, listener_of: Node, listener: int, port: int = 50_000, host: str = AWAY) -> TcpPath:
        """Open a connection to a listener of the node; the node must want it."""
        stream = listener_of.accept(listener, address(host, port))  # type: ignore[arg-type]
        assert stream is not None
        return TcpPath(StreamId(stream))
