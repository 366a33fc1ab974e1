"""Timings of the cases called `autograd`, for us and for the peers that are installed."""

from asv_benchmarks.cases import suite

Time = suite("autograd")
