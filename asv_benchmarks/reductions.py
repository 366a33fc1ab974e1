"""Timings of the cases called `reductions`, for us and for the peers that are installed."""

from cases import suite

Time = suite("reductions")
