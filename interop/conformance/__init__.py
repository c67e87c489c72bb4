"""Does an ICE agent do what the RFCs say? Cases that cite their sentence, against any agent behind a small adapter.

A `Target` creates agents; a `Case` drives one of them over real sockets, against a scripted `Peer` that can do what no
well-behaved peer does. The peer has no state machine, and reads and builds STUN by itself: it shares nothing with
ice-tcp's own agent, which is but one of the targets. ``python -m interop conformance`` runs it.
"""
