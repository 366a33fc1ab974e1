"""Steps of optimisers: what a gradient does to a parameter, in one pass over both and over what the optimiser remembers.

A kernel is ``kernel(addresses, n)``: `addresses` holds the address of the parameter's elements, of the gradient's, of the arrays
that are remembered, and last that of the settings, which are float64. They are brought into the parameters' type once, so no
float32 kernel computes in float64. One pass moves a third of the memory that an operation at a time does.
"""

import math

from kernels_cpu.arrays import array, setting
from kernels_cpu.pointers import wide, word_at


def sgd(kind):
    """``p[i] -= rate * (sign * g[i] + decay * p[i])``

    Settings: rate, sign, decay.
    """
    (get_p, put_p), (get_g, _) = (array(kind, k, 2) for k in range(2))

    def kernel(addresses, n):
        wide()
        p, g, settings = word_at(addresses, 0), word_at(addresses, 1), word_at(addresses, 2)
        rate, sign, decay = kind(setting(settings, 0)), kind(setting(settings, 1)), kind(setting(settings, 2))
        zero = kind(0)
        for i in range(n):
            x = get_p(p, i)
            d = sign * get_g(g, i)
            if decay != zero:  # without it an infinite parameter would become NaN
                d += decay * x
            put_p(p, i, x - rate * d)
        return 0

    return kernel


def momentum(kind):
    """``d = sign * g[i] + decay * p[i]; b[i] = keep * b[i] + add * d; p[i] -= rate * (b[i], or d + look * b[i])``

    Settings: rate, sign, decay, keep, add, look; `look` 0 is momentum (Polyak, 1964), else Nesterov's (1983).
    """
    (get_p, put_p), (get_g, _), (get_b, put_b) = (array(kind, k, 3) for k in range(3))

    def kernel(addresses, n):
        wide()
        p, g, b, settings = word_at(addresses, 0), word_at(addresses, 1), word_at(addresses, 2), word_at(addresses, 3)
        rate, sign, decay = kind(setting(settings, 0)), kind(setting(settings, 1)), kind(setting(settings, 2))
        keep, add, look = kind(setting(settings, 3)), kind(setting(settings, 4)), kind(setting(settings, 5))
        zero = kind(0)
        for i in range(n):
            x = get_p(p, i)
            d = sign * get_g(g, i)
            if decay != zero:
                d += decay * x
            moving = keep * get_b(b, i) + add * d
            put_b(b, i, moving)
            put_p(p, i, x - rate * (d + look * moving if look != zero else moving))
        return 0

    return kernel


def moments(kind, largest):
    """Adam's step, with or without `s`, the largest second moments so far."""
    arrays = 5 if largest else 4
    (get_p, put_p), (get_g, _), (get_m, put_m), (get_v, put_v) = (array(kind, k, arrays) for k in range(4))
    get_s, put_s = array(kind, arrays - 1, arrays)

    def kernel(addresses, n):
        wide()
        p, g, m, v = word_at(addresses, 0), word_at(addresses, 1), word_at(addresses, 2), word_at(addresses, 3)
        s, settings = word_at(addresses, arrays - 1), word_at(addresses, arrays)
        rate, sign, decay = kind(setting(settings, 0)), kind(setting(settings, 1)), kind(setting(settings, 2))
        shrink, first = kind(setting(settings, 3)), kind(setting(settings, 4))
        second, square, scale, eps = (
            kind(setting(settings, 5)),
            kind(setting(settings, 6)),
            kind(setting(settings, 7)),
            kind(setting(settings, 8)),
        )
        zero, one = kind(0), kind(1)
        for i in range(n):
            x = get_p(p, i)
            d = sign * get_g(g, i)
            if decay != zero:
                d += decay * x
            if shrink != one:
                x *= shrink
            mean = get_m(m, i)
            mean += first * (d - mean)
            put_m(m, i, mean)
            power = second * get_v(v, i) + square * d * d
            put_v(v, i, power)
            if largest:
                before = get_s(s, i)
                power = power if power > before or power != power else before
                put_s(s, i, power)
            put_p(p, i, x - rate * mean / (math.sqrt(power) * scale + eps))
        return 0

    return kernel


def adam(kind):
    """``m[i] += first * (d - m[i]); v[i] = second * v[i] + square * d * d; p[i] -= rate * m[i] / (sqrt(v[i]) * scale + eps)``

    with ``d = sign * g[i] + decay * p[i]`` and p[i] first multiplied by `shrink` (Kingma and Ba, 2015; Loshchilov and Hutter,
    2019). Settings: rate, sign, decay, shrink, first, second, square, scale, eps.
    """
    return moments(kind, False)


def amsgrad(kind):
    """`adam` with ``s[i] = maximum(s[i], v[i])`` in place of v[i] under the root (Reddi et al., 2018)."""
    return moments(kind, True)
