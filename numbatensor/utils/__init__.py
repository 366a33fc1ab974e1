"""Helpers of training."""

from numbatensor.utils import data

__all__ = ["data"]
