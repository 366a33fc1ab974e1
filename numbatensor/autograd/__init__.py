"""Gradients: backward passes, and the modes that say what is recorded."""

from numbatensor.autograd import graph
from numbatensor.autograd.anomaly import (
    detect_anomaly,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from numbatensor.autograd.backward import backward, grad
from numbatensor.autograd.function import Function, once_differentiable
from numbatensor.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from numbatensor.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    set_source_lines,
    strict_versions,
)
from numbatensor.version_error import VersionError

__all__ = [
    "Function",
    "GradcheckError",
    "VersionError",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
    "set_source_lines",
    "strict_versions",
]
