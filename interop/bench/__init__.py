"""Side-by-side measurements: ``python -m interop.bench [ITEM...] [--json FILE] [--quick]``.

Every figure of `interop.bench.figures` is a ratio to a peer taken in the same run, or a bound. Each sample comes from
a fresh interpreter, samples of the two sides alternate, and each variant (both agents in one process and in two, the
allocator cold and warm) is measured apart: the worst variant counts.
"""
