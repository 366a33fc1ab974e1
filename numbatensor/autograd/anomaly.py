"""Anomaly mode: the forward call behind a failing gradient is told, and NaN in a gradient is an error."""

import warnings

from numbatensor.autograd.modes import Lasting, Mode
from numbatensor.core.modes import ANOMALY, CHECK_NAN, get_mode


class set_detect_anomaly(Lasting):
    """Turn anomaly mode on or off on this thread; as a context manager, inside only.

    Parameters
    ----------
    mode : bool
        Whether ops note where they were called, so that an error in their gradient can tell.
    check_nan : bool
        Whether a gradient with NaN is an error.
    """

    mask = ANOMALY | CHECK_NAN

    def __init__(self, mode, check_nan=True):
        super().__init__()
        self.begin((ANOMALY if mode else 0) | (CHECK_NAN if check_nan else 0))


class detect_anomaly(Mode):
    """Anomaly mode inside; see `set_detect_anomaly`. A context manager and a decorator. Slow: for finding errors."""

    mask = ANOMALY | CHECK_NAN

    def __init__(self, check_nan=True):
        super().__init__()
        self.bits = ANOMALY | (CHECK_NAN if check_nan else 0)
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.",
            stacklevel=2,
        )


def is_anomaly_enabled():
    """Whether this thread is in anomaly mode."""
    return bool(get_mode() & ANOMALY)


def is_anomaly_check_nan_enabled():
    """Whether NaN in a gradient is an error in anomaly mode."""
    return bool(get_mode() & CHECK_NAN)
