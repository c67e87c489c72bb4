"""Application data and STUN on one UDP socket. No I/O."""

from __future__ import annotations

from collections.abc import Hashable

from ice_tcp.datapath.traffic import COOKIE, EarlyData, Received, Traffic, told_apart


class DatagramPath:
    """The datagrams of one UDP socket, by their source (a hashable address of the caller's making).

    Data of a source that is not admitted waits in a buffer of ``early_limit`` bytes and ``early_count`` datagrams
    for all such sources; the oldest makes room and is counted in ``discarded``. Empty datagrams vanish.
    """

    __slots__ = ("_early", "_traffic")

    def __init__(self, *, early_limit: int, early_count: int = 64) -> None:
        self._early = EarlyData(early_limit, early_count)
        self._traffic: dict[Hashable, Traffic] = {}

    @property
    def discarded(self) -> int:
        """Datagrams dropped because too many waited for an admission."""
        return self._early.discarded

    def receive(self, datagrams: list[bytes], source: Hashable) -> Received:
        """Take datagrams of one source, in their order."""
        stun, data = told_apart(datagrams if all(datagrams) else list(filter(None, datagrams)))
        if not data:
            return Received(stun, data)
        traffic = self._traffic.get(source)
        if traffic is None:
            self._early.keep(data, source)
            return Received(stun, [])
        traffic.packets_received += len(data)
        traffic.bytes_received += sum(map(len, data))
        return Received(stun, data)

    def receive_one(self, datagram: bytes, source: Hashable) -> bool:
        """The short way of a single message: True if it is data of an admitted source; else call `receive`."""
        traffic = self._traffic.get(source)
        if traffic is None or not datagram or datagram[4:8] == COOKIE:
            return False
        traffic.packets_received += 1
        traffic.bytes_received += len(datagram)
        return True

    def admit(self, source: Hashable) -> list[bytes]:
        """An authenticated message came from ``source``: return its data kept so far, deliver it from now on."""
        return self._early.release(source, self._traffic.setdefault(source, Traffic()))

    def traffic(self, source: Hashable) -> Traffic | None:
        """The counters of an admitted source, which is also where data is sent to; None if it is not admitted."""
        return self._traffic.get(source)
