"""Timings of the cases called `dispatch`, for us and for the peers that are installed."""

from cases import suite

Time = suite("dispatch")
