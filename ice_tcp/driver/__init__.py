"""Runs the core on an asyncio event loop: the only place where it meets the network."""

from ice_tcp.driver.ports import ByteStream, Component, Core, StreamPort
from ice_tcp.driver.pump import PACER, Driver, open_session
from ice_tcp.driver.servers import servers_now

__all__ = ["PACER", "ByteStream", "Component", "Core", "Driver", "StreamPort", "open_session", "servers_now"]
