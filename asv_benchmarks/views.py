"""Timings of the cases called `views`, for us and for the peers that are installed."""

from asv_benchmarks.cases import suite

Time = suite("views")
