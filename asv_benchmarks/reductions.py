"""Reductions, softmax and layer norm."""

from asv_benchmarks.cases import timed

Reductions = timed("reductions")
