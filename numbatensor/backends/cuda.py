"""Settings of what is computed on CUDA devices."""

from numbatensor.core.device_libraries import library
from numbatensor.core.device_sort import sorters

PRECISIONS = ("highest", "high", "medium")
CHOICES = ("auto", "numbatensor")
SORTERS = ("auto", "cub", "numbatensor")
precision = "highest"


def get_float32_matmul_precision():
    """How exactly devices multiply matrices of float32: "highest", "high" or "medium"."""
    return precision


def set_float32_matmul_precision(wanted):
    """Say how exactly devices may multiply matrices of float32: in float32 ("highest"), or as TF32, with 10 bits of each factor ("high", "medium")."""
    global precision
    if wanted not in PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: expected one of {', '.join(PRECISIONS)}, not {wanted!r}")
    precision = wanted
    library[0]["tf32"] = wanted != "highest"


def known(choice, choices):
    """A library that was chosen, if it is one that can be."""
    if choice not in choices:
        raise ValueError(f"library: expected one of {', '.join(choices)}, not {choice!r}")
    return choice


class Matmul:
    """Products of matrices on CUDA devices."""

    __slots__ = ()

    @property
    def allow_tf32(self):
        """Whether matrices of float32 may be multiplied as TF32, with 10 bits of each factor. It sets `set_float32_matmul_precision`."""
        return bool(library[0]["tf32"])

    @allow_tf32.setter
    def allow_tf32(self, allowed):
        set_float32_matmul_precision("high" if allowed else "highest")

    @property
    def library(self):
        """Who multiplies: "auto" is cuBLASLt where it can, "numbatensor" our own kernels always."""
        return CHOICES[int(library[0]["off"])]

    @library.setter
    def library(self, choice):
        library[0]["off"] = CHOICES.index(known(choice, CHOICES))

    def why_not(self, device=None):
        """Why cuBLASLt does not multiply on a device, in one line; None where it does."""
        if self.library == "numbatensor":
            return 'backends.cuda.matmul.library is "numbatensor"'
        from numbatensor.cuda import cublas  # devices are loaded when one is asked for

        return cublas.why_not(device)


class Sort:
    """Sorting of long rows on CUDA devices."""

    __slots__ = ()
    chosen = SORTERS[0]

    @property
    def library(self):
        """Who sorts rows of 262,144 elements and more.

        "cub" is CUB where it is installed: it is compiled for a device when it first sorts there, and kept on the disk. "auto" is CUB where the disk
        has it, "numbatensor" our own kernels always, which sort what CUB does not.
        """
        return Sort.chosen

    @library.setter
    def library(self, choice):
        Sort.chosen = known(choice, SORTERS)
        sorters[0]["off"] = choice == "numbatensor"
        from numbatensor.cuda import cub

        cub.choose(choice)

    def why_not(self, device=None):
        """Why CUB does not sort on a device, in one line; None where it does. It is compiled now where that was chosen."""
        if self.library == "numbatensor":
            return 'backends.cuda.sort.library is "numbatensor"'
        from numbatensor.cuda import cub

        return cub.why_not(device)


matmul, sort = Matmul(), Sort()
