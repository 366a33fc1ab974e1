"""Timings of the cases called `pointwise`, for us and for the peers that are installed."""

from cases import suite

Time = suite("pointwise")
