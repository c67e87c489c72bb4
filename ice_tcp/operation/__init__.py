"""What servers share that run for long: files that change under them, certificates, and signals."""

from ice_tcp.operation.certificate import Certificate
from ice_tcp.operation.following import Following, catch_signals, log_to_stderr
from ice_tcp.operation.watch import Watch

__all__ = ["Certificate", "Following", "Watch", "catch_signals", "log_to_stderr"]
