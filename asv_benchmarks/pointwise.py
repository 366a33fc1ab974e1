"""Pointwise ops, with and without `out`."""

from asv_benchmarks.cases import timed

Pointwise = timed("pointwise")
