"""How an error of ours crosses users' compiled code."""

from numbatensor.core.cells import raise_again


class Carried(Exception):
    """What Numba carries in the place of a Python error: making it raises the error that was put away."""

    def __new__(cls, *args):
        raise_again()
        return super().__new__(cls, *args)
