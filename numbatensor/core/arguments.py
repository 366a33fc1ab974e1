"""The argument record of an op, as its code reads it."""

from numba import njit

from numbatensor.core.memory import decref, load, memset, number, store
from numbatensor.core.records import OPERANDS, Arguments, arguments_at

LISTS, NUMBERS = Arguments.fields["lists"][1], Arguments.fields["numbers"][1]


@njit
def arguments_room(a, k, n):
    """Make argument k a list of n ints; gives the place of the first."""
    a.tensors[k], a.kinds[k], a.numbers[k], a.lengths[k] = 0, 5, a.room, n
    a.room += n
    return a.numbers[k]


@njit
def hold_nothing(held):
    """Begin a list of tensors that take the places of arguments: an op may put converted ones into the arguments meanwhile."""
    memset(held, 0, 8 * OPERANDS)


@njit
def put_in_place(a, k, t, held):
    """Make a tensor argument k, for as long as `held` owns it; takes the reference."""
    a.tensors[k] = t
    store(held + 8 * k, t)


@njit
def let_go(held):
    """Let go of the tensors that took the places of arguments."""
    for k in range(OPERANDS):
        decref(load(held + 8 * k))


@njit
def wrap(dim, n):
    """A dimension counted from the front, or -1 where there is none of that number."""
    n = max(n, 1)
    return dim if 0 <= dim < n else dim + n if -n <= dim < 0 else -1


@njit
def number_argument(arguments, k):
    return arguments_at(arguments).numbers[k]


@njit
def float_argument(arguments, k):
    """A number as a float64."""
    a = arguments_at(arguments)
    return number(a.numbers[k]) if a.kinds[k] == 3 else float(a.numbers[k])


@njit
def list_argument(arguments, k):
    """The address and length of a list, or of one int; the length is -1 where None was given."""
    a = arguments_at(arguments)
    if a.kinds[k] == 5:
        return arguments + LISTS + 8 * a.numbers[k], a.lengths[k]
    if a.kinds[k] == 2:
        return arguments + NUMBERS + 8 * k, 1
    return 0, -1


@njit
def item(numbers, i):
    return load(numbers[0] + 8 * i)
