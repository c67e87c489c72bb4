"""A session recorded so that it can be run again: inputs, draws and credentials of the core, in one private file.

`Capsule` is the file, `RecordingAgent` the core that writes it, `open_capsule` and `Replay` run it through the core of
this version and find the first difference. A capsule holds secrets; the trace, which does not, is apart from it.
"""

from ice_tcp.capsule.reading import CapsuleError, Reader, Step, open_capsule
from ice_tcp.capsule.recorder import RecordingAgent
from ice_tcp.capsule.replay import Difference, Replay, Replayed
from ice_tcp.capsule.writer import Capsule

__all__ = [
    "Capsule",
    "CapsuleError",
    "Difference",
    "Reader",
    "RecordingAgent",
    "Replay",
    "Replayed",
    "Step",
    "open_capsule",
]
