"""The STUN and TURN server without I/O: requests in, actions out.

`ice_tcp.server.core.machine.ServerCore` is the only class a shell knows; it takes ``now`` and ``rng``.
"""
