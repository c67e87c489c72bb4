"""Two ends in one program, written for aioice: with the import changed, they may use TCP.

python aioice_hello.py                  # over UDP, as before, for UDP is preferred
python aioice_hello.py tcp_only.yaml    # as a policy file says
"""

from __future__ import annotations

import asyncio
import sys

# import aioice
from ice_tcp import read_policy
from ice_tcp.compat import aioice

POLICY = read_policy(sys.argv[1]) if len(sys.argv) > 1 else None


async def tell(one: aioice.Connection, other: aioice.Connection) -> None:
    """Signaling: in an application, this goes through a server that both can reach."""
    for candidate in one.local_candidates:
        await other.add_remote_candidate(candidate)
    await other.add_remote_candidate(None)
    other.remote_username, other.remote_password = one.local_username, one.local_password


async def main() -> None:
    alice, bob = (aioice.Connection(ice_controlling=controls, policy=POLICY) for controls in (True, False))
    await asyncio.gather(alice.gather_candidates(), bob.gather_candidates())
    await tell(alice, bob)
    await tell(bob, alice)
    await asyncio.gather(alice.connect(), bob.connect())
    await alice.send(b"hello")
    print(await bob.recv())
    await bob.close()
    await alice.close()


if __name__ == "__main__":
    asyncio.run(main())
