"""Timings of the cases called `optim`, for us and for the peers that are installed."""

from cases import suite

Time = suite("optim")
