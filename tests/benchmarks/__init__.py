"""Micro-benchmarks for whoever tunes: ``pytest tests/benchmarks --benchmark-enable``.

In an ordinary test run each is done once, untimed, to show that it still works.
"""
