"""A small TURN server in virtual time that keeps RFC 8656 to the letter, and notes every breach of it.

It serves one client on one path, and its peers echo what they get. ``breaches`` names what a client may not do: data
without permission, an unbound channel, a channel bound to another peer, a request after the end of the allocation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.framing import ServerStreamSplitter
from ice_tcp.stun import Attribute, AttributeType, Integrity, IntegrityKey, Message, MessageClass, Method
from tests.core_turn.script import BOTH_ALGORITHMS, KEY, MAPPED, REALM, RELAYED, SHA256_KEY, Clock

DELAY = 0.01
PERMISSION_LIFETIME = 300.0
CHANNEL_LIFETIME = 600.0


class FakeServer:
    def __init__(
        self,
        clock: Clock,
        *,
        reliable: bool,
        lifetime: int = 600,
        nonce_lifetime: float = 1e9,
        algorithms: bool = False,
        loss: float = 0.0,
    ) -> None:
        self.reliable = reliable
        self.deliver: Callable[[bytes, float], None] = lambda _data, _now: None
        self.breaches: list[str] = []
        self.requests: Counter[Method] = Counter()
        self.echoes: Counter[str] = Counter()
        self.alive = True
        self._clock = clock
        self._lifetime = lifetime
        self._nonce_lifetime = nonce_lifetime
        self._algorithms = algorithms
        self._key: IntegrityKey = SHA256_KEY if algorithms else KEY
        self._integrity = Integrity.SHA256 if algorithms else Integrity.SHA1
        self._loss = loss
        self._random = Random(11)
        self._splitter = ServerStreamSplitter()
        self._answers: dict[bytes, bytes] = {}  # a retransmission gets the same answer (RFC 8489 s6.3.1)
        self._expires_at = 0.0
        self._permissions: dict[str, float] = {}
        self._channels: dict[int, tuple[TransportAddress, float]] = {}

    # --- as the client's path

    def send(self, data: bytes) -> None:
        self._later(data, self._received)

    def _later(self, data: bytes, deliver: Callable[[bytes, float], None]) -> None:
        if self._random.random() >= self._loss:
            self._clock.context.timers.set(self._clock.now + DELAY, lambda now: deliver(data, now))

    def _received(self, data: bytes, now: float) -> None:
        if not self.alive:
            return
        for message in self._splitter.feed(data) if self.reliable else [data]:
            if message[0] >= 0x40:
                self._channel_data(message, now)
            else:
                self._stun(stun.decode(message), now)

    def _reply(self, data: bytes) -> None:
        if self.reliable:
            data += bytes(-len(data) % 4)
        self._later(data, lambda received, now: self.deliver(received, now))

    # --- requests

    @property
    def exists(self) -> bool:
        return self._clock.now < self._expires_at

    def _stun(self, message: Message, now: float) -> None:
        if message.message_class is MessageClass.INDICATION:
            if message.method == Method.SEND:
                self._send_indication(message)
            return
        if message.transaction_id not in self._answers:
            self._answers[message.transaction_id] = self._answer(message, now)
        self._reply(self._answers[message.transaction_id])

    def _nonce(self, now: float) -> bytes:
        serial = b"%d" % (now // self._nonce_lifetime)
        features = stun.SecurityFeature.PASSWORD_ALGORITHMS if self._algorithms else stun.SecurityFeature.NONE
        return stun.nonce_cookie(features) + serial

    def _answer(self, message: Message, now: float) -> bytes:
        if not message.has_integrity:
            return self._challenge(message, 401, now)
        assert message.username == "alice" and message.realm == REALM
        if self._algorithms:
            assert message.password_algorithms == BOTH_ALGORITHMS
        assert message.integrity is self._integrity and message.verify(self._key)
        if message.nonce != self._nonce(now):
            return self._challenge(message, 438, now)
        method = Method(message.method)
        self.requests[method] += 1
        handlers = {
            Method.ALLOCATE: self._allocate,
            Method.REFRESH: self._refresh,
            Method.CREATE_PERMISSION: self._create_permission,
            Method.CHANNEL_BIND: self._channel_bind,
        }
        if method is not Method.ALLOCATE and not self.exists:
            self.breaches.append(f"{method.name} without an allocation at {now}")
            return self._error(message, 437)
        return handlers[method](message, now)

    def _challenge(self, message: Message, code: int, now: float) -> bytes:
        attributes = [stun.error_code(code), stun.realm(REALM), stun.nonce(self._nonce(now))]
        if self._algorithms:
            attributes.append(stun.password_algorithms(BOTH_ALGORITHMS))
        return stun.encode(MessageClass.ERROR, message.method, message.transaction_id, attributes)

    def _error(self, message: Message, code: int) -> bytes:
        return self._sealed(MessageClass.ERROR, message, [stun.error_code(code)])

    def _success(self, message: Message, attributes: list[Attribute]) -> bytes:
        return self._sealed(MessageClass.SUCCESS, message, attributes)

    def _sealed(self, message_class: MessageClass, message: Message, attributes: list[Attribute]) -> bytes:
        return stun.encode(
            message_class,
            message.method,
            message.transaction_id,
            attributes,
            key=self._key,
            integrity=self._integrity,
        )

    def _allocate(self, message: Message, now: float) -> bytes:
        assert message.requested_transport == 17
        self._expires_at = now + self._lifetime
        id_ = message.transaction_id
        return self._success(
            message,
            [
                stun.xor_relayed_address(RELAYED.host, RELAYED.port, id_),
                stun.xor_mapped_address(MAPPED.host, MAPPED.port, id_),
                stun.lifetime(self._lifetime),
            ],
        )

    def _refresh(self, message: Message, now: float) -> bytes:
        lifetime = 0 if message.lifetime == 0 else self._lifetime
        self._expires_at = now + lifetime
        return self._success(message, [stun.lifetime(lifetime)])

    def _create_permission(self, message: Message, now: float) -> bytes:
        for host, _ in message.xor_addresses(AttributeType.XOR_PEER_ADDRESS):
            self._permissions[host] = now + PERMISSION_LIFETIME
        return self._success(message, [])

    def _channel_bind(self, message: Message, now: float) -> bytes:
        number, address = message.channel_number, message.xor_peer_address
        assert number is not None and address is not None
        peer = TransportAddress(*address)
        others = [other for other, (bound, end) in self._channels.items() if bound == peer and other != number]
        current = self._channels.get(number)
        # RFC 8656 s12: five minutes after its end a number may be bound to another peer
        if others or (current is not None and current[0] != peer and now < current[1] + 300.0):
            self.breaches.append(f"channel 0x{number:04x} and {peer} are bound otherwise at {now}")
            return self._error(message, 400)
        self._channels[number] = peer, now + CHANNEL_LIFETIME
        self._permissions[peer.host] = now + PERMISSION_LIFETIME
        return self._success(message, [])

    # --- data

    def _send_indication(self, message: Message) -> None:
        assert message.xor_peer_address is not None and message.data is not None
        self._relay(TransportAddress(*message.xor_peer_address), message.data, "indication")

    def _channel_data(self, data: bytes, now: float) -> None:
        number, size = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        peer, end = self._channels.get(number, (None, 0.0))
        if peer is None or now >= end:
            self.breaches.append(f"ChannelData on 0x{number:04x} at {now}")
        else:
            self._relay(peer, data[4 : 4 + size], "channel")

    def _relay(self, peer: TransportAddress, data: bytes, how: str) -> None:
        now = self._clock.now
        if not self.exists or self._permissions.get(peer.host, 0.0) <= now:
            self.breaches.append(f"data to {peer} without permission at {now}")
            return
        self.echoes[how] += 1
        self._echo(peer, data)

    def _echo(self, peer: TransportAddress, data: bytes) -> None:
        for number, (bound, end) in self._channels.items():
            if bound == peer and self._clock.now < end:
                self._reply(number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data)
                return
        id_ = bytes(12)
        attributes = [stun.xor_peer_address(peer.host, peer.port, id_), stun.data(data)]
        self._reply(stun.encode(MessageClass.INDICATION, Method.DATA, id_, attributes))
