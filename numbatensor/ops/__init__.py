"""The operations, each declared once."""

from numbatensor.ops import (
    activations,
    arranging,
    elementary,
    indexing,
    random,
    reductions,
    rounding,
    rows,
    structured,
    transcendental,
    views,
)

__all__ = [
    "activations",
    "arranging",
    "elementary",
    "indexing",
    "random",
    "reductions",
    "rounding",
    "rows",
    "structured",
    "transcendental",
    "views",
]
