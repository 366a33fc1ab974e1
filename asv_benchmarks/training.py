"""Timings of the cases called `training`, for us and for the peers that are installed."""

from asv_benchmarks.cases import suite

Time = suite("training")
