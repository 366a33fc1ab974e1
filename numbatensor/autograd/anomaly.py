"""Anomaly mode: the forward call behind a failing gradient is told, and NaN in a gradient is an error."""

import contextlib
import warnings

from numbatensor.core.modes import ANOMALY, CHECK_NAN, get_mode, set_mode


class set_detect_anomaly(contextlib.ContextDecorator):
    """Turn anomaly mode on or off on this thread; as a context manager, inside only.

    Parameters
    ----------
    mode : bool
        Whether ops note where they were called, so that an error in their gradient can tell.
    check_nan : bool
        Whether a gradient with NaN is an error.
    """

    def __init__(self, mode, check_nan=True):
        self.before = [(set_mode(ANOMALY, int(bool(mode))), set_mode(CHECK_NAN, int(bool(check_nan))))]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        mode, check_nan = self.before.pop()
        set_mode(ANOMALY, mode)
        set_mode(CHECK_NAN, check_nan)


class detect_anomaly(contextlib.ContextDecorator):
    """Anomaly mode inside: see `set_detect_anomaly`. Slow, for finding errors."""

    def __init__(self, check_nan=True):
        self.check_nan, self.inner = check_nan, []
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.",
            stacklevel=2,
        )

    def __enter__(self):
        self.inner.append(set_detect_anomaly(True, self.check_nan))
        return self

    def __exit__(self, *error):
        self.inner.pop().__exit__(*error)


def is_anomaly_enabled():
    """Whether this thread is in anomaly mode."""
    return bool(get_mode(ANOMALY))


def is_anomaly_check_nan_enabled():
    """Whether NaN in a gradient is an error in anomaly mode."""
    return bool(get_mode(CHECK_NAN))
