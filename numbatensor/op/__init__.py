"""The kinds of op, and how one declaration becomes a row of the dispatch table."""

from numbatensor.core.calls import INT, TENSOR
from numbatensor.core.promotion import DTYPES
from numbatensor.core.table import ON_CPU, ON_DEVICES
from numbatensor.op.base import (
    ALL,
    BY_ADDRESS,
    BY_INDEX,
    DIMS,
    EVERYWHERE,
    FLAG,
    FLOATING,
    INDEX,
    INTEGRAL,
    NUMBA,
    NUMBER,
    NUMERIC,
    OPS,
    OPTIONAL,
    SIZES,
    Op,
    kind_there,
    name_of,
    needs_of,
    same,
)
from numbatensor.op.callbacks import decoded, plain
from numbatensor.op.formulas import EXACT, is_ours, itself, scalar
from numbatensor.op.pointwise_ops import Pointwise, pointwise
from numbatensor.op.recorded_ops import Recorded
from numbatensor.op.reductions import Reduction, boolean, reduction, summed, widened
from numbatensor.op.structured_ops import Joined, Structured, View, structured, view

__all__ = [
    "ALL",
    "BY_ADDRESS",
    "BY_INDEX",
    "DIMS",
    "DTYPES",
    "EVERYWHERE",
    "EXACT",
    "FLAG",
    "FLOATING",
    "INDEX",
    "INT",
    "INTEGRAL",
    "Joined",
    "NUMBA",
    "NUMBER",
    "NUMERIC",
    "ON_CPU",
    "ON_DEVICES",
    "OPS",
    "OPTIONAL",
    "Op",
    "Pointwise",
    "Recorded",
    "Reduction",
    "SIZES",
    "Structured",
    "TENSOR",
    "View",
    "boolean",
    "decoded",
    "is_ours",
    "itself",
    "kind_there",
    "name_of",
    "needs_of",
    "plain",
    "pointwise",
    "reduction",
    "same",
    "scalar",
    "structured",
    "summed",
    "view",
    "widened",
]
