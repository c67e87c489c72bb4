"""The trace of a session as a file: one JSON object a line, written as things happen and read back as objects.

Write one with `TraceFile`, an agent's sink; `read_trace` reads it.
"""

from ice_tcp.tracefile.format import MAX_LINE_BYTES, VERSION, Header, TraceEnded, TraceError
from ice_tcp.tracefile.reader import Trace, read_trace
from ice_tcp.tracefile.redaction import Redactor, redacted
from ice_tcp.tracefile.writer import Clock, TraceFile

__all__ = [
    "MAX_LINE_BYTES",
    "VERSION",
    "Clock",
    "Header",
    "Redactor",
    "Trace",
    "TraceEnded",
    "TraceError",
    "TraceFile",
    "read_trace",
    "redacted",
]
