"""A data channel between two ends in one program, written for aiortc: with the import changed, it may use TCP.

python aiortc_echo.py                  # over UDP, as before, for UDP is preferred
python aiortc_echo.py tcp_only.yaml    # as a policy file says
"""

from __future__ import annotations

import asyncio
import sys

# from aiortc import RTCPeerConnection
from ice_tcp import read_policy
from ice_tcp.compat.aiortc import RTCConfiguration, RTCDataChannel, RTCIceTransportStats, RTCPeerConnection

POLICY = read_policy(sys.argv[1]) if len(sys.argv) > 1 else None
NO_SERVERS = RTCConfiguration(iceServers=[])


async def main() -> None:
    alice, bob = (RTCPeerConnection(NO_SERVERS, policy=POLICY) for _ in range(2))
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel = alice.createDataChannel("echo")
    channel.on("open", lambda: channel.send("hello"))
    channel.on("message", answered.set_result)

    @bob.on("datachannel")
    def echo(theirs: RTCDataChannel) -> None:
        theirs.on("message", theirs.send)

    await alice.setLocalDescription(await alice.createOffer())
    await bob.setRemoteDescription(alice.localDescription)
    await bob.setLocalDescription(await bob.createAnswer())
    await alice.setRemoteDescription(bob.localDescription)
    print(await answered)
    for stats in (await alice.getStats()).values():
        if isinstance(stats, RTCIceTransportStats):
            print("over", stats.protocol, "relayed" if stats.relayed else "direct")
    await alice.close()
    await bob.close()


if __name__ == "__main__":
    asyncio.run(main())
