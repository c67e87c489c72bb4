"""Names under .local in place of addresses, by multicast DNS (RFC 6762, draft-ietf-mmusic-mdns-ice-candidates).

It needs the extra ``mdns``. An `ice_tcp.Agent` takes addresses only: look the names of the peer's candidates up first.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

LOOKUP_TIMEOUT = 1.0
"""Seconds that an answer is waited for."""

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}\.local\.?\Z")


def is_mdns_name(host: str) -> bool:
    """Whether this is one label and .local: nothing else is looked up by multicast."""
    return _NAME.match(host) is not None


class MdnsNames:
    """Looks up the peer's names, and answers for ours, on all links of this machine, until `close`.

    All of an event loop share one responder, which is there while one of them uses it.
    """

    def __init__(self) -> None:
        self._responder: _Responder | None = None
        self._published: dict[str, ServiceInfo] = {}

    async def resolve(self, name: str, timeout: float = LOOKUP_TIMEOUT) -> str | None:  # noqa: ASYNC109 - zeroconf has its own
        """The address of a name, IPv4 before IPv6; None if nobody answers within ``timeout`` seconds.

        None, too, where there is no multicast DNS: without zeroconf, or without a link.
        """
        try:
            responder = self._use()
        except (ModuleNotFoundError, OSError) as error:
            logger.warning("%s cannot be looked up: %s", name, error)
            return None
        return await responder.resolve(name, timeout)

    def publish(self, host: str) -> str:
        """Answer for a new name that stands for ``host``, an IP address; the same one each time.

        It is a random UUID, which tells nothing and needs no probing. Raises ModuleNotFoundError without zeroconf,
        OSError without a link.
        """
        if host not in self._published:
            self._published[host] = self._use().register(f"{uuid.uuid4()}.local.", host)
        return self._published[host].name.rstrip(".")

    async def close(self) -> None:
        """Answer no more. May be called more than once."""
        responder, self._responder = self._responder, None
        if responder is not None:
            await responder.leave(list(self._published.values()))
        self._published.clear()

    def _use(self) -> _Responder:
        if self._responder is None:
            self._responder = _Responder.of_this_loop()
        return self._responder


class _Responder:
    """zeroconf's, for one event loop."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf
        self._users = 0

    @staticmethod
    def of_this_loop() -> _Responder:
        """Join those who use it; each must `leave`."""
        loop = asyncio.get_running_loop()
        responder = _RESPONDERS.get(loop)
        if responder is None:
            try:
                from zeroconf.asyncio import AsyncZeroconf
            except ModuleNotFoundError:
                raise ModuleNotFoundError("zeroconf is missing: pip install 'ice-tcp[mdns]'") from None
            responder = _RESPONDERS[loop] = _Responder(AsyncZeroconf())
        responder._users += 1
        return responder

    async def resolve(self, name: str, timeout: float) -> str | None:  # noqa: ASYNC109 - as above
        from zeroconf import AddressResolver, IPVersion  # type: ignore[attr-defined]  # it is not in their __all__

        resolver = AddressResolver(f"{name.rstrip('.')}.")
        if not await resolver.async_request(self._zeroconf.zeroconf, timeout * 1000):
            return None
        found = resolver.parsed_scoped_addresses(IPVersion.V4Only) or resolver.parsed_scoped_addresses()
        return found[0] if found else None

    def register(self, name: str, host: str) -> ServiceInfo:
        from zeroconf import ServiceInfo

        # No service is offered: only the name's address records are ever asked for.
        info = ServiceInfo(name, name, server=name, parsed_addresses=[host])
        self._zeroconf.zeroconf.registry.async_add(info)
        return info

    async def leave(self, published: list[ServiceInfo]) -> None:
        self._zeroconf.zeroconf.registry.async_remove(published)
        self._users -= 1
        if not self._users:
            _RESPONDERS.pop(asyncio.get_running_loop(), None)
            await self._zeroconf.async_close()


_RESPONDERS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Responder] = WeakKeyDictionary()
