"""Where the elements of a tensor are."""

from numbatensor.core import entries


class device:
    """The CPU, or a CUDA device by its number; equal to its name: ``x.device == "cpu"``.

    Parameters
    ----------
    type : str or device or int
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; a number means that CUDA device.
    index : int, optional
        The number of a CUDA device; without it, the current one is meant.
    """

    __slots__ = ("index", "type")

    def __init__(self, type, index=None):
        if isinstance(type, device):
            type, index = type.type, type.index if index is None else index
        if isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"a device is named by a string or a number, not by {type.__class__.__name__}")
        name, colon, number = type.partition(":")
        if colon and (index is not None or not number.isdecimal()):
            raise RuntimeError(f"Invalid device string: '{type}'")
        if name not in ("cpu", "cuda"):
            raise RuntimeError(f"Expected one of cpu, cuda device type at start of device string: {name}")
        self.type, self.index = name, int(number) if colon else index

    def __eq__(self, other):
        if isinstance(other, str):
            try:
                other = device(other)
            except RuntimeError:
                return False
        if not isinstance(other, device):
            return NotImplemented
        return self.type == other.type and (self.type == "cpu" or self.index == other.index)

    def __hash__(self):
        return hash((self.type, self.index if self.type == "cuda" else None))

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self):
        shown = f"device(type='{self.type}'"
        return shown + (")" if self.index is None else f", index={self.index})")

    def __reduce__(self):
        return device, (self.type, self.index)


CPU = device("cpu")
known = {0: CPU}
numbers = {"cpu": 0}  # of the names, and the indices, of devices that are open
current = lambda: None  # the index of the thread's CUDA device, once `cuda/runtime.py` is loaded


def number_of(named):
    """The number by which the core knows a device: 0 the CPU, k + 1 the CUDA device k, which is opened."""
    if named is None:
        return 0
    if named.__class__ is str:
        found = numbers.get(current() if named == "cuda" else named)
        if found is not None:
            return found
    if not isinstance(named, device):
        named = device(named)
    if named.type == "cpu":
        return 0
    from numbatensor.cuda import runtime  # loaded by those who have a GPU

    number = runtime.open_device(named.index)
    if named.index is not None:
        numbers[str(named)] = number
    numbers[number - 1] = number
    return number


def device_of(x):
    """The device of a tensor."""
    number = entries.get(x, entries.DEVICE)
    if number not in known:
        known[number] = device("cuda", number - 1)
    return known[number]
