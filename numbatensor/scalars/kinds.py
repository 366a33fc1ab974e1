"""The types of the numbers that a user's scalar function is compiled for: a float, or a float with its slope."""

from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.extending import models, register_model

LEVELS = 1 << 30  # more than there are


class Scalar(types.Type):
    """A float of one width that stays so: what it meets, constants and integers included, takes its width."""

    def can_convert_from(self, typingctx, other):
        if is_number(other):
            return Conversion.safe
        return Conversion.safe if self.is_kin(other) and common(self, other) == self else None

    def unify(self, typingctx, other):
        if is_number(other):
            return self
        return common(self, other) if self.is_kin(other) else None

    def is_kin(self, other):
        """Whether a type is for the same kernel."""
        return isinstance(other, Scalar) and other.real == self.real


class Real(Scalar):
    """A float. `exact`: functions that the library's kernels approximate within bounds are the C library's.

    `apart`: the level from which on slopes are those of a gradient, which have no slopes in each other's directions. `there`: it is a
    CUDA device's.
    """

    level = -1

    def __init__(self, base, exact=False, apart=LEVELS, there=False):
        self.base, self.exact, self.apart, self.there, self.real = base, exact, apart, there, self
        several = "" if apart == LEVELS else f", all slopes from {apart} on,"
        place = " on a CUDA device" if there else ""
        super().__init__(f"{base}{' (exact)' if exact else ''}{several} of a pointwise function{place}")

    @property
    def key(self):
        return self.base, self.exact, self.apart, self.there


class Dual(Scalar):
    """A value, and its slope in one direction, which is number `level`: of a lower level are the directions of value and slope.

    So a number has slopes only in the directions that it depends on, and what is constant in one costs nothing there.
    """

    def __init__(self, level, value, slope):
        self.level, self.value, self.slope = level, value, slope
        self.base, self.exact, self.real = value.base, value.exact, value.real
        super().__init__(f"dual {level} ({value}, {slope})")

    @property
    def key(self):
        return self.level, self.value, self.slope


@register_model(Real)
class RealModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, manager[kind.base].get_value_type())


@register_model(Dual)
class DualModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("value", kind.value), ("slope", kind.slope)])


def is_number(kind):
    """Whether a type is that of a constant of a scalar function."""
    kind = getattr(kind, "literal_type", kind)
    return isinstance(kind, (types.Float, types.Integer, types.Boolean))


def common(x, y):
    """The smallest type that has all the slopes of two."""
    if x == y or is_number(y):
        return x
    if is_number(x):
        return y
    level = max(x.level, y.level)
    values = [k.value if k.level == level else k for k in (x, y)]
    slopes = [k.slope for k in (x, y) if k.level == level]
    return Dual(level, common(*values), common(slopes[0], slopes[-1]))


def part(builder, structure, k):
    return builder.extract_value(structure, k)


def joined(context, builder, kind, value, slope):
    """The code of a dual number of its parts."""
    made = cgutils.get_null_value(context.get_value_type(kind))
    return builder.insert_value(builder.insert_value(made, value, 0), slope, 1)
