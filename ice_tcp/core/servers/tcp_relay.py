"""A relay of TCP connections (RFC 6062): one control connection, and a connection to the server for each peer's."""

from __future__ import annotations

from candidates.candidate import TcpType, Transport, TransportAddress
from ice_tcp.core.commands import Failure, StreamId
from ice_tcp.core.context import Context
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.legs import Leg, LegOwner, Legs
from ice_tcp.core.servers.relay import Place, Relay, RelayOwner
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn import DataConnection, TcpAllocation, Wishes
from ice_tcp.core.verdicts import Verdict, verdict_of

_VERDICTS = {
    ServerVerdict.FORBIDDEN: Verdict.NO_PERMISSION,
    ServerVerdict.PEER_FAMILY_MISMATCH: Verdict.NO_PERMISSION,
}
"""Why a dial failed, where the server's word is more than that it did not work out."""

_MOST_ATTEMPTS = 32
"""Peers' connections that are being bound at one time; what is more is left to the server's thirty seconds."""


class TcpRelay(Relay):
    """Its passive bases take peers' connections, its active ones have the server connect.

    The connection to the server for the first peer is opened as soon as somebody may come: it saves a round trip, or
    three with TLS, when that is what everything waits for.
    """

    __slots__ = ("_bindings", "_dialling", "_spare")

    transport = Transport.TCP
    _allocation: TcpAllocation | None

    def __init__(self, context: Context, legs: Legs, owner: RelayOwner, place: Place, wishes: Wishes) -> None:
        super().__init__(context, legs, owner, place, wishes)
        self._dialling: dict[TransportAddress, _Dialling] = {}
        self._bindings: dict[_Binding, None] = {}
        self._spare: _Spare | None = None

    def keep_only(self, hosts: set[str], now: float) -> None:
        super().keep_only(hosts, now)
        self._end_spare()

    # base.connector

    def connect(self, stream: StreamId, peer: TransportAddress, now: float) -> None:
        """Have the server connect; the owner hears ``dial_succeeded`` or ``dial_failed`` of ``stream``, but not yet."""
        if self._allocation is None or peer in self._dialling:
            # RFC 6062 s4.3: never two at once for a peer
            verdict = Verdict.RELAY_LOST if self._allocation is None else Verdict.RELAY_NOT_CONNECTED
            self._context.timers.set(now, lambda at: self._owner.dial_failed(stream, verdict, at))
            return
        timer = self._context.timers.set(
            now + self._context.policy.timeouts.connect, lambda at: self._give_up(peer, Verdict.TIMED_OUT, at)
        )
        self._dialling[peer] = _Dialling(stream, timer)
        self._allocation.connect(peer, now)

    def abandon(self, stream: StreamId) -> None:
        """Nobody wants the connection any more."""
        for peer, dialling in list(self._dialling.items()):
            if dialling.stream == stream:
                dialling.timer.cancel()
                del self._dialling[peer]
        for binding in list(self._bindings):
            if binding.stream == stream:
                binding.stop()
                del self._bindings[binding]

    # TcpAllocationListener

    def connected(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        dialling = self._dialling.get(peer)
        base = self._base_of(peer, TcpType.ACTIVE)
        if dialling is not None and base is not None:
            self._bind(_Binding(self, base, peer, connection_id, dialling.stream), now)

    def connect_failed(self, peer: TransportAddress, failure: ServerFailure, now: float) -> None:
        verdict = Verdict.RELAY_NOT_CONNECTED
        if isinstance(failure.cause, ServerVerdict):
            verdict = _VERDICTS.get(failure.cause, verdict)
        self._give_up(peer, verdict, now)

    def connection_attempt(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        base = self._base_of(peer, TcpType.PASSIVE)
        if base is not None and len(self._bindings) < _MOST_ATTEMPTS and self._owner.wants_peer(base, peer):
            self._bind(_Binding(self, base, peer, connection_id, None), now)

    # AllocationListener

    def permission_granted(self, host: str, now: float) -> None:
        is_first = not self.permitted
        super().permission_granted(host, now)
        if is_first and self._spare is None:
            self._spare = _Spare()
            self._owner.in_turn(self._open_spare, now)

    # LegOwner

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """There are no channels on a control connection."""

    # -- what the bindings tell

    def bound(self, binding: _Binding, leg: Leg, now: float) -> None:
        """The connection to the server is the peer's from now on."""
        self._bindings.pop(binding, None)
        stream = binding.stream
        if stream is not None:
            self._end_dialling(binding.peer)
            leg.turn_into(stream)
            assert binding.base.address is not None
            self._owner.dial_succeeded(stream, binding.base.address, now)
            return
        stream = self._owner.peer_connected(binding.base, binding.peer, now)
        if stream is None:
            leg.close()
        else:
            leg.turn_into(stream)

    def not_bound(self, binding: _Binding, verdict: Verdict, now: float) -> None:
        self._bindings.pop(binding, None)
        if binding.stream is not None:
            self._give_up(binding.peer, verdict, now)

    # -- inside

    def _bind(self, binding: _Binding, now: float) -> None:
        """The transport, and the way, are those of the control connection (RFC 6062 s4.3)."""

        def begin(_at: float) -> None:
            if binding in self._bindings:
                binding.leg = self._open_leg(binding)

        self._bindings[binding] = None
        spare, self._spare = self._spare, None
        if spare is None or not spare.serve(binding, now):
            self._owner.in_turn(begin, now)

    def _open_spare(self, _now: float) -> None:
        if self._spare is not None:
            self._spare.leg = self._open_leg(self._spare)

    def _end_spare(self) -> None:
        if self._spare is not None:
            self._spare.stop()
            self._spare = None

    def _open_leg(self, owner: LegOwner) -> Leg:
        ports = self._context.policy.ports.tcp
        return self._legs.open(owner, self.component, self.host, self.endpoint, tls=self._tls, ports=ports)

    def new_data_connection(self, binding: _Binding, leg: Leg) -> DataConnection | None:
        """The machine of a connection to the server; None if the control connection is gone."""
        if self._allocation is None:
            return None
        return self._allocation.data_connection(leg, binding.connection_id, binding)

    def _give_up(self, peer: TransportAddress, verdict: Verdict, now: float) -> None:
        dialling = self._end_dialling(peer)
        if dialling is not None:
            self.abandon(dialling.stream)
            self._owner.dial_failed(dialling.stream, verdict, now)

    def _end_dialling(self, peer: TransportAddress) -> _Dialling | None:
        dialling = self._dialling.pop(peer, None)
        if dialling is not None:
            dialling.timer.cancel()
        return dialling

    def _base_of(self, peer: TransportAddress, tcptype: TcpType) -> Base | None:
        return next(
            (
                base
                for base in self.bases
                if base.tcptype is tcptype and base.address is not None and base.address.family == peer.family
            ),
            None,
        )

    def _allocate(self, leg: Leg) -> TcpAllocation:
        return TcpAllocation(
            *(self._context, leg, self),
            credentials=self.server.credentials,
            wishes=self._wishes,
            server=self.server.name,
            note=self._context.note,
        )

    def _bases_of(self, relayed: tuple[TransportAddress, ...]) -> tuple[Base, ...]:
        bases = tuple(
            self._base(address, tcptype)
            for address in relayed
            for tcptype in (TcpType.PASSIVE, TcpType.ACTIVE)
            if tcptype in self._context.policy.tcp_types
        )
        for base in bases:
            base.connector = self
        return bases

    def _stopped(self, now: float) -> None:
        for peer in list(self._dialling):
            self._give_up(peer, Verdict.RELAY_LOST, now)
        for binding in list(self._bindings):
            binding.stop()
        self._bindings.clear()
        self._end_spare()


class _Dialling:
    """A Connect that is under way, and until when."""

    __slots__ = ("stream", "timer")

    def __init__(self, stream: StreamId, timer: Timer) -> None:
        self.stream = stream
        self.timer = timer


class _Spare:
    """A connection to the server for a peer that has not come yet."""

    __slots__ = ("_is_open", "leg")

    def __init__(self) -> None:
        self.leg: Leg | None = None
        self._is_open = False

    def serve(self, binding: _Binding, now: float) -> bool:
        """Hand the connection over, open or not; False if there is none."""
        if self.leg is None:
            return False
        binding.leg = self.leg
        self.leg.owner = binding
        if self._is_open:
            binding.leg_opened(now)
        return True

    def stop(self) -> None:
        if self.leg is not None:
            self.leg.close()

    # LegOwner

    def leg_opened(self, now: float) -> None:  # noqa: ARG002 - the leg's owner
        self._is_open = True

    def leg_received(self, message: bytes, now: float) -> None:
        """Nothing was asked."""

    def leg_lost(self, failure: Failure, text: str, now: float) -> None:  # noqa: ARG002 - the leg's owner
        self.leg = None

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """There are no channels here."""


class _Binding:
    """A connection to the server that is to become a peer's; ``stream`` is None if the peer opened it."""

    __slots__ = ("_data", "_relay", "base", "connection_id", "leg", "peer", "stream")

    def __init__(
        self, relay: TcpRelay, base: Base, peer: TransportAddress, connection_id: int, stream: StreamId | None
    ) -> None:
        self._relay = relay
        self._data: DataConnection | None = None
        self.leg: Leg | None = None
        self.base = base
        self.peer = peer
        self.connection_id = connection_id
        self.stream = stream

    def stop(self) -> None:
        """Nobody wants it; the server closes the peer's connection, too."""
        if self.leg is not None:
            self.leg.close()
        if self._data is not None:
            self._data.cancel()

    # LegOwner

    def leg_opened(self, now: float) -> None:
        assert self.leg is not None
        self._data = self._relay.new_data_connection(self, self.leg)
        if self._data is None:
            self._fail(Verdict.RELAY_LOST, now)
        else:
            self._data.start(now)

    def leg_received(self, message: bytes, now: float) -> None:
        if self._data is not None:
            self._data.received(message, now)

    def leg_lost(self, failure: Failure, text: str, now: float) -> None:  # noqa: ARG002 - the leg's owner
        self.leg = None
        if self._data is not None:
            self._data.cancel()
        self._relay.not_bound(self, verdict_of(failure), now)

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """There are no channels here."""

    # DataConnectionListener

    def data_connection_bound(self, now: float) -> None:
        assert self.leg is not None
        self._relay.bound(self, self.leg, now)

    def data_connection_failed(self, failure: ServerFailure, now: float) -> None:  # noqa: ARG002 - the listener
        self._fail(Verdict.RELAY_NOT_CONNECTED, now)

    def _fail(self, verdict: Verdict, now: float) -> None:
        self.stop()
        self._relay.not_bound(self, verdict, now)
