"""A function compiled and as Python: it has to give the same."""

from numba import njit


def alike(function, *args):
    """Run a function compiled and as Python; the results have to be equal, as text."""
    found, expected = njit(function)(*args), function(*args)
    assert repr(found) == repr(expected)
    return found
