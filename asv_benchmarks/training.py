"""Timings of the cases called `training`, for us and for the peers that are installed."""

from cases import suite

Time = suite("training")
