"""Activations of neural networks."""

import math

from kernels_cpu import mathematics
from numbatensor.core.autocast import FULL
from numbatensor.op import FLOATING, pointwise
from numbatensor.ops.elementary import exp, sigmoid, where
from numbatensor.ops.transcendental import erf
from numbatensor.samples import reals


@pointwise(tensors=1, dtypes=FLOATING, samples=[(reals(),), (reals(), 0.2)])
def leaky_relu(x, negative_slope=0.01):
    """Each element, times a slope where it is negative."""
    return x if x > 0.0 else x * negative_slope


leaky_relu.backward(x=lambda grad, x, negative_slope: where(x > 0.0, grad, grad * negative_slope))


@pointwise(tensors=1, dtypes=FLOATING, cost=5, samples=[(reals(),), (reals(), 0.5)])
def elu(x, alpha=1.0):
    """Each element, or ``alpha * (exp(x) - 1)`` where it is negative."""
    return x if x > 0.0 else alpha * math.expm1(x)


elu.backward(x=lambda grad, x, alpha: where(x > 0.0, grad, grad * alpha * exp(x)))
elu.formula(x=lambda grad, x, alpha: where(x > 0.0, grad, grad * alpha * exp(where(x < 0.0, x, 0.0))))


@pointwise(dtypes=FLOATING, cost=5)
def selu(x):
    """Scaled exponential linear unit (Klambauer et al., 2017)."""
    return 1.0507009873554805 * x if x > 0.0 else 1.7580993408473766 * math.expm1(x)


selu.backward(x=lambda grad, x: where(x > 0.0, grad * 1.0507009873554805, grad * 1.7580993408473766 * exp(x)))
selu.formula(
    x=lambda grad, x: where(x > 0.0, grad * 1.0507009873554805, grad * 1.7580993408473766 * exp(where(x < 0.0, x, 0.0)))
)


@pointwise(dtypes=FLOATING, cost=5)
def silu(x):
    """Each element times its logistic function."""
    return x * mathematics.sigmoid(x)


silu.backward(x=lambda grad, x: grad * sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))))


@pointwise(dtypes=FLOATING, cost=8)
def gelu_erf(x):
    """Each element times the normal distribution function at it, which is 0 long before -40."""
    return -0.0 if x < -40.0 else 0.5 * x * (1.0 + math.erf(x * 0.7071067811865476))


gelu_erf.backward(
    x=lambda grad, x: grad * (0.5 * (1.0 + erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * exp(-0.5 * x * x))
)


@pointwise(dtypes=FLOATING, cost=6)
def gelu_tanh(x):
    """The normal distribution's activation, by its tanh approximation (Hendrycks and Gimpel, 2016): ``(1 + tanh(u)) / 2`` is
    ``sigmoid(2 * u)``."""
    return x * mathematics.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


def gelu_tanh_slope(grad, x):
    s = sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    return grad * s * (1.0 + x * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * x * x))


gelu_tanh.backward(x=gelu_tanh_slope)


@pointwise(tensors=1, dtypes=FLOATING, cost=8, samples=[(reals(),), (reals(), 2.0, 1.0)])
def softplus(x, beta=1.0, threshold=20.0):
    """``log(1 + exp(beta * x)) / beta``, or x where ``beta * x`` is above a threshold."""
    return x if x * beta > threshold else mathematics.softplus(x * beta) / beta


softplus.backward(x=lambda grad, x, beta, threshold: where(x * beta > threshold, grad, grad * sigmoid(x * beta)))
softplus.formula(
    x=lambda grad, x, beta, threshold: where(
        x * beta > threshold, grad, grad * sigmoid(where(x * beta < threshold, x * beta, threshold))
    )
)


@pointwise(tensors=1, dtypes=FLOATING, samples=[(reals(),), (reals(), -0.5, 1.5)])
def hardtanh(x, min_val=-1.0, max_val=1.0):
    """Each element, kept between two bounds."""
    return min_val if x < min_val else max_val if x > max_val else x


hardtanh.backward(x=lambda grad, x, min_val, max_val: where(x > min_val, where(x < max_val, grad, 0.0), 0.0))


@pointwise(dtypes=FLOATING, cost=5)
def mish(x):
    """Each element times the tanh of its softplus (Misra, 2019): that is ``q / (2 - q)`` with ``q = s * (2 - s)``, s the sigmoid."""
    s = mathematics.sigmoid(x)
    q = s * (2.0 - s)
    return x * (q / (2.0 - q))


def mish_slope(grad, x):
    s = sigmoid(x)
    q = s * (2.0 - s)
    t = q / (2.0 - q)
    return grad * (t + x * s * (1.0 - t * t))


mish.backward(x=mish_slope)
for op in (gelu_erf, gelu_tanh):
    op.internal()
for op in (softplus,):
    op.under_autocast(cuda=FULL)
