"""The operations, each declared once."""

from numbatensor.ops import elementary, reductions, structured, views

__all__ = ["elementary", "reductions", "structured", "views"]
