"""A server's core with a clock and a network that answer at once, and users that know its passwords."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from ice_tcp.server.core.actions import (
    Action,
    Address,
    CloseRelay,
    Leg,
    Listener,
    OpenRelay,
    SendDatagram,
    SendStream,
)
from ice_tcp.server.core.machine import ServerCore
from ice_tcp.server.core.trace import MessageDropped, Record, RequestRefused
from ice_tcp.server.options import ServerOptions
from ice_tcp.stun import (
    Attribute,
    ErrorNumber,
    Integrity,
    IntegrityKey,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    decode,
    encode,
    nonce,
    realm,
    requested_transport,
    username,
    xor_peer_address,
)

UDP, TCP = 17, 6
SERVER, SERVER6, SERVER_OTHER = "192.0.2.1", "2001:db8::1", "192.0.2.2"
PEER, OTHER_PEER, PEER6 = ("203.0.113.7", 4000), ("203.0.113.8", 4000), ("2001:db8:1::7", 4000)
LISTENERS = (
    Listener(Leg.UDP, (SERVER, 3478)),
    Listener(Leg.TCP, (SERVER, 3478)),
    Listener(Leg.TLS, (SERVER, 5349)),
    Listener(Leg.UDP, (SERVER6, 3478)),
)
NOON = 1_800_000_000.0
"""Unix time at the start."""

AttributeMaker = Attribute | Callable[[bytes], Attribute]


def options(**changes: object) -> ServerOptions:
    same: dict[str, object] = {
        "hosts": (SERVER, SERVER6),
        "realm": "example.org",
        "users": {"ann": "apple", "bob": "banana"},
    }
    return ServerOptions(**{**same, **changes})  # type: ignore[arg-type]


def peer(address: Address) -> Callable[[bytes], Attribute]:
    return lambda transaction_id: xor_peer_address(*address, transaction_id)


class World:
    """``taken`` are the addresses at which no relay can be opened; ``actions`` what was asked and not yet looked at."""

    def __init__(
        self,
        settings: ServerOptions | None = None,
        *,
        listeners: Iterable[Listener] = LISTENERS,
        can_forbid_fragments: bool = True,
        seed: int = 0,
    ) -> None:
        self.now = 100.0
        self.records: list[Record] = []
        self.actions: list[Action] = []
        self.relays: dict[int, Address] = {}
        self.taken: Callable[[Address], bool] = lambda _: False
        self.answers_at_once = True
        self.core = ServerCore(
            settings or options(),
            tuple(listeners),
            rng=random.Random(seed),
            wall_clock=lambda: NOON + self.now,
            can_forbid_fragments=can_forbid_fragments,
            trace=lambda _, record: self.records.append(record),
        )

    def run(self) -> None:
        """Do what the core asks, as a shell would."""
        while asked := self.core.actions():
            for action in asked:
                self.actions.append(action)
                if isinstance(action, OpenRelay) and self.answers_at_once:
                    self.answer(action)
                elif isinstance(action, CloseRelay):
                    del self.relays[action.relay]

    def answer(self, action: OpenRelay) -> None:
        if self.taken(action.address):
            self.core.relay_failed(action.relay, self.now)
        else:
            assert action.address not in self.relays.values()
            self.relays[action.relay] = action.address
            self.core.relay_opened(action.relay, self.now)

    def take(self) -> list[Action]:
        """What was asked since the last call, relays apart."""
        actions, self.actions = self.actions, []
        return [action for action in actions if not isinstance(action, OpenRelay | CloseRelay)]

    def after(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        while (at := self.core.next_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            self.core.timer_expired(self.now)
            self.run()
        self.now = end

    def relay_at(self, address: Address) -> int:
        return next(relay for relay, bound in self.relays.items() if bound == address)

    def drops(self) -> list[str]:
        """Why messages were dropped, since the last call."""
        found = [record.reason.value for record in self.records if isinstance(record, MessageDropped)]
        self.records = [record for record in self.records if not isinstance(record, MessageDropped)]
        return found

    def refusals(self) -> list[tuple[int, str]]:
        return [(record.code, record.detail) for record in self.records if isinstance(record, RequestRefused)]


class User:
    """A client on its own 5-tuple: by UDP, or with ``leg`` on a connection."""

    def __init__(
        self,
        world: World,
        name: str = "ann",
        password: str = "apple",  # noqa: S107 - of a user in a test
        *,
        address: Address = ("198.51.100.1", 5000),
        leg: Leg = Leg.UDP,
        algorithm: PasswordAlgorithm | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.password = password
        self.address = address
        self.listener = next(
            i
            for i, listener in enumerate(LISTENERS)
            if listener.leg is leg and (":" in listener.address[0]) is (":" in address[0])
        )
        self.stream = None if leg is Leg.UDP else world.core.stream_accepted(self.listener, address, world.now)
        self.integrity = Integrity.SHA1
        self.extra: list[Attribute] = []
        self.realm = self.nonce = b""
        self._count = 0

    def send(self, message: bytes) -> None:
        world = self.world
        if self.stream is None:
            world.core.datagram_received(self.listener, self.address, message, world.now)
        else:
            world.core.stream_received(self.stream, message, world.now)
        world.run()

    def received(self) -> list[bytes]:
        """Messages that came since the last call; other actions stay."""
        mine: list[bytes] = []
        rest: list[Action] = []
        for action in self.world.actions:
            match action:
                case SendDatagram(listener, remote, data) if self.stream is None and (listener, remote) == (
                    self.listener,
                    self.address,
                ):
                    mine.append(data)
                case SendStream(stream, data) if stream == self.stream:
                    mine.append(data)
                case _:
                    rest.append(action)
        self.world.actions = rest
        return mine

    def transaction_id(self) -> bytes:
        self._count += 1
        return f"{self.name[:3]:3}{self.address[1]:5}{self._count:4}".encode()

    def ask(
        self,
        method: Method,
        *attributes: AttributeMaker,
        key: IntegrityKey | None = None,
        transaction_id: bytes | None = None,
    ) -> Message:
        """Send a request as it is, and return the one response."""
        self.put(method, *attributes, key=key, transaction_id=transaction_id)
        (response,) = self.received()
        return decode(response)

    def put(
        self,
        method: Method,
        *attributes: AttributeMaker,
        key: IntegrityKey | None = None,
        transaction_id: bytes | None = None,
    ) -> None:
        id_ = transaction_id or self.transaction_id()
        made = [attribute if isinstance(attribute, tuple) else attribute(id_) for attribute in attributes]
        self.send(encode(MessageClass.REQUEST, method, id_, made, key=key, integrity=self.integrity))

    @property
    def key(self) -> IntegrityKey:
        return IntegrityKey.long_term(self.name, self.realm.decode(), self.password)

    def credentials(self) -> list[AttributeMaker]:
        """What an authenticated request has; asks for realm and nonce the first time."""
        if not self.nonce:
            challenge = self.ask(Method.REFRESH)
            assert challenge.error_code is not None and challenge.error_code.code == 401
            self.learn(challenge)
        return [username(self.name), realm(self.realm.decode()), nonce(self.nonce), *self.extra]

    def learn(self, challenge: Message) -> None:
        self.realm, self.nonce = (challenge.realm or "").encode(), challenge.nonce or b""

    def request(self, method: Method, *attributes: AttributeMaker, transaction_id: bytes | None = None) -> Message:
        """An authenticated request; the response is authenticated as well, except for 401 and 438."""
        credentials = self.credentials()
        response = self.ask(method, *attributes, *credentials, key=self.key, transaction_id=transaction_id)
        error = response.error_code
        if error is None or error.code not in (401, 438):
            assert response.verify(self.key)
        return response

    def refused(self, method: Method, *attributes: AttributeMaker) -> int:
        """The error code of an authenticated request."""
        response = self.request(method, *attributes)
        assert response.message_class is MessageClass.ERROR and response.error_code is not None
        assert response.error_code.reason == ErrorNumber(response.error_code.code).reason
        return response.error_code.code

    def allocate(self, *attributes: AttributeMaker, protocol: int = UDP) -> Address:
        """Allocate, and return the relayed address."""
        response = self.request(Method.ALLOCATE, requested_transport(protocol), *attributes)
        assert response.message_class is MessageClass.SUCCESS, response.error_code
        assert response.xor_mapped_address == self.address
        relayed = response.xor_relayed_address
        assert relayed is not None
        return relayed

    def succeed(self, method: Method, *attributes: AttributeMaker) -> Message:
        response = self.request(method, *attributes)
        assert response.message_class is MessageClass.SUCCESS, response.error_code
        return response
