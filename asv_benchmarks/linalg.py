"""Timings of the cases called `linalg`, for us and for the peers that are installed."""

from cases import suite

Time = suite("linalg")
