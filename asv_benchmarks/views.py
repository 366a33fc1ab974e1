"""Timings of the cases called `views`, for us and for the peers that are installed."""

from cases import suite

Time = suite("views")
