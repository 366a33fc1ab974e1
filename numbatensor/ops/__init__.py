"""The operations, each declared once."""

from numbatensor.ops import activations, elementary, reductions, rounding, rows, structured, transcendental, views

__all__ = ["activations", "elementary", "reductions", "rounding", "rows", "structured", "transcendental", "views"]
