"""Matrix products."""

from asv_benchmarks.cases import timed

Linalg = timed("linalg")
