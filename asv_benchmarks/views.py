"""Views, broadcasts and copies."""

from asv_benchmarks.cases import timed

Views = timed("views")
