"""Data loading, and checkpoints that trade time for memory."""

from numbatensor.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
