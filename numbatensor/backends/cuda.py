"""Settings of what is computed on CUDA devices."""

from numbatensor.core.device_libraries import library

PRECISIONS = ("highest", "high", "medium")
CHOICES = ("auto", "numbatensor")
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
        if choice not in CHOICES:
            raise ValueError(f"library: expected one of {', '.join(CHOICES)}, not {choice!r}")
        library[0]["off"] = CHOICES.index(choice)

    def why_not(self, device=None):
        """Why cuBLASLt does not multiply on a device, in one line; None where it does."""
        if self.library == "numbatensor":
            return 'backends.cuda.matmul.library is "numbatensor"'
        from numbatensor.cuda import cublas  # devices are loaded when one is asked for

        return cublas.why_not(device)


matmul = Matmul()
