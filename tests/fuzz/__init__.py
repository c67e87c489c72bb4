"""Parsers of what others send, each with an invariant that holds for any bytes.

``python -m tests.fuzz.fuzz_NAME`` looks for a counterexample: with atheris if it is installed (its options follow),
else with hypothesis, for ``--seconds N``. `test_fuzz.py` does so briefly in every test run.
"""
