"""What is observed of the agents while they run: the properties that hold at every instant."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from candidates.candidate import DISCARD_PORT, Candidate, CandidateType, TransportAddress
from candidates.policy import Policy
from ice_tcp.core.commands import Connect, LegId, OpenLeg, Path, RelayPath, StreamId, TcpPath, UdpPath
from tests.sim.ladder import words

TRANSACTION_INTERVAL = 0.005
"""Seconds between two new transactions of a process (RFC 8445 s14.2)."""
CONNECTS_PER_IP = 5
"""Outstanding connection attempts to one address (RFC 6544 s12)."""
INPUTS_PER_SECOND = 3000
TIMERS_PER_INSTANT = 50
TOLERANCE = 1e-9
BINDING_REQUEST = b"\x00\x01"
USERNAME = 0x0006
USE_CANDIDATE = 0x0025
HIDDEN = (TransportAddress("0.0.0.0", DISCARD_PORT), TransportAddress("::", DISCARD_PORT))  # noqa: S104
"""Related addresses that say nothing (RFC 8839 s5.1)."""


class PropertyError(AssertionError):
    """A property does not hold; the message says which and where."""


class ProcessWatch:
    """Watches one process: the pace of new transactions over all its agents."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._started_at = float("-inf")
        self._started = "nothing"

    def transaction(self, what: str, now: float) -> None:
        """A new transaction began."""
        if now - self._started_at < TRANSACTION_INTERVAL - TOLERANCE:
            gap = (now - self._started_at) * 1000
            raise PropertyError(f"pacing: {self.name}: {what} only {gap:.3f} ms after {self._started}")
        self._started_at, self._started = now, what


class AgentWatch:
    """Watches one agent: its transactions, connection attempts and the number of its inputs."""

    def __init__(self, name: str, process: ProcessWatch, policy: Policy, events: Counter[str]) -> None:
        self.name = name
        self._process = process
        self._policy = policy
        self._events = events
        self._verifies = all(server.tls.verify for server in policy.servers)
        self._is_hidden = policy.candidate_types == (CandidateType.RELAY,)
        self._seen: set[bytes] = set()
        self._authenticated: set[Path] = set()
        self._asked: set[Path] = set()
        self._spoken_on: set[LegId] = set()
        self._consent_due: Counter[Path] = Counter()
        self.consent_asked: list[tuple[float, bytes]] = []
        self._outstanding: dict[StreamId, str] = {}
        self._attempts: dict[tuple[object, ...], deque[float]] = {}
        self._nominated: dict[tuple[int, bytes], Path] = {}
        self._confirmed: set[Path] = set()
        self._inputs: deque[float] = deque()
        self._timers_at = (0.0, 0)

    # -- transactions ------------------------------------------------------------------------------------------

    def sent(self, path: Path, component: int, message: bytes, now: float) -> None:
        """A STUN message left. Consent checks and others on an authenticated path make no new NAT binding."""
        if message[:2] != BINDING_REQUEST:
            return
        attributes = dict(_attributes(message))
        if USE_CANDIDATE in attributes:
            self._nominates(path, component, attributes[USERNAME])
        transaction_id = message[8:20]
        first_on_path = path not in self._asked
        if transaction_id in self._seen:
            if isinstance(path, TcpPath):
                raise PropertyError(f"retransmission: {self.name} repeated a request on TCP {path}")
            return
        self._seen.add(transaction_id)
        self._asked.add(path)
        if isinstance(path, TcpPath) and first_on_path:
            return  # on a connection just opened it is the check that began with the Connect
        if self._consent_due[path]:
            self._consent_due[path] -= 1
            self.consent_asked.append((now, transaction_id))
            return
        if path in self._authenticated and not self._policy.pacing.strict:
            return
        self._process.transaction(f"{self.name} asks on {_words(path)}", now)

    def asks_consent(self, path: Path) -> None:
        """The next request on this path is a consent check, which never waits for the pace."""
        self._consent_due[path] += 1

    def _nominates(self, path: Path, component: int, username: bytes) -> None:
        """Regular nomination: one pair a component and generation, another only in place of a lost one."""
        chosen = self._nominated.get((component, username))
        if chosen is not None and chosen != path and chosen in self._confirmed:
            raise PropertyError(f"nomination: {self.name} nominated {_words(path)} after {_words(chosen)}")
        self._nominated[component, username] = path

    def confirmed(self, path: Path) -> None:
        """The agent says that this path is nominated."""
        self._confirmed.add(path)

    def authenticated(self, path: Path) -> None:
        """An authenticated message came on this path."""
        self._authenticated.add(path)

    # -- what shows --------------------------------------------------------------------------------------------

    def exposes(self, command: object) -> None:
        """The core asks for what peers can see of this host: never with relayed candidates only."""
        if self._is_hidden:
            raise PropertyError(f"relay only: {self.name} does {words(command)}")

    def tells(self, candidate: Candidate) -> None:
        """The peer is told of a candidate."""
        is_relayed = candidate.type is CandidateType.RELAY and candidate.related_address in HIDDEN
        if self._is_hidden and not is_relayed:
            raise PropertyError(f"relay only: {self.name} tells of {candidate}")

    # -- servers -----------------------------------------------------------------------------------------------

    def opens_leg(self, command: OpenLeg, now: float) -> None:
        """A conversation with a server begins: over a stream with a SYN, else with its first request."""
        unverified = command.tls is not None and not command.tls.verify
        if command.transport.secure is (command.tls is None) or (unverified and self._verifies):
            raise PropertyError(f"tls: {self.name} opens {words(command)}")
        if command.transport.reliable:
            self._process.transaction(f"{self.name} connects to the server {command.remote}", now)
            self._spoken_on.add(command.leg)

    def asks_server(self, leg: LegId, message: bytes, now: float) -> None:
        """A message for a server left; those after the first make no new NAT binding."""
        if message[0] & 0x01 or message[1] & 0x10 or message[8:20] in self._seen:
            return
        self._seen.add(message[8:20])
        if leg not in self._spoken_on:
            self._spoken_on.add(leg)
            self._process.transaction(f"{self.name} asks a server on leg {leg}", now)

    def leg_gone(self, leg: LegId) -> None:
        self._spoken_on.discard(leg)

    # -- connections -------------------------------------------------------------------------------------------

    def connects(self, command: Connect, now: float) -> None:
        """An attempt begins. One that follows a refusal of the same two ends is a retransmission of its SYN."""
        remote = str(command.remote)
        ends = (command.listener or command.host, remote, command.component)
        earlier = self._attempts.setdefault(ends, deque())
        if command.listener is None or not earlier:
            self._process.transaction(f"{self.name} connects to {remote}", now)
        else:
            self._events["redial"] += 1
            self._bounded(earlier, remote, now)
        earlier.append(now)
        self._outstanding[command.stream] = command.remote.host
        waiting = sum(host == command.remote.host for host in self._outstanding.values())
        if waiting > CONNECTS_PER_IP:
            raise PropertyError(f"connects: {self.name} has {waiting} outstanding attempts to {command.remote.host}")

    def _bounded(self, earlier: deque[float], remote: str, now: float) -> None:
        rules = self._policy.simultaneous_open
        while earlier and earlier[0] < now - 1.0:
            earlier.popleft()
        allowed = rules.burst + rules.rate + 2
        if len(earlier) > allowed:
            raise PropertyError(f"redials: {self.name} sent {len(earlier)} SYNs to {remote} within a second")

    def attempt_over(self, stream: StreamId) -> None:
        self._outstanding.pop(stream, None)

    def stream_gone(self, stream: StreamId) -> None:
        self.attempt_over(stream)
        self._confirmed.discard(TcpPath(stream))

    # -- inputs ------------------------------------------------------------------------------------------------

    def input(self, now: float) -> None:
        """The agent is given an input."""
        self._inputs.append(now)
        while self._inputs[0] < now - 1.0:
            self._inputs.popleft()
        if len(self._inputs) > INPUTS_PER_SECOND:
            raise PropertyError(f"busy: {self.name} took {len(self._inputs)} inputs within a second")

    def timer(self, now: float) -> None:
        """The agent's timer expired."""
        at, count = self._timers_at
        self._timers_at = (now, count + 1 if at == now else 1)
        if count > TIMERS_PER_INSTANT:
            raise PropertyError(f"busy: {self.name} asks for its timer again and again at {now}")


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute of a STUN message (RFC 8489 s14)."""
    position = 20
    while position < len(message):
        kind, length = (
            int.from_bytes(message[position : position + 2]),
            int.from_bytes(message[position + 2 : position + 4]),
        )
        yield kind, message[position + 4 : position + 4 + length]
        position += 4 + length + -length % 4


def _words(path: Path) -> str:
    match path:
        case UdpPath(socket, remote):
            return f"udp {socket} to {remote}"
        case TcpPath(stream):
            return f"stream {stream}"
        case RelayPath(leg, remote):
            return f"relay {leg} to {remote}"
