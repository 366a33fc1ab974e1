"""Soft dynamic time warping: the typical solar cycle, as the barycentre of cycles of different lengths.

Dynamic time warping aligns two series at the least cost; its recursion over all pairs of times fills a table. With a smooth minimum in
the place of `min` the cost has a gradient (Cuturi and Blondel, 2017, https://arxiv.org/abs/1703.01541), so a series can be fitted.

The table is filled by diagonals: all cells of one depend only on the two before it, so the loop has n + m steps, each a few ops on a
Tensor, in the place of n * m steps on numbers.
"""

import sys

import numpy as np
from compare import compare
from numba import njit

import numbatensor as nt

FAR = 1e10  # the cost outside of the table
SUNSPOTS = [  # yearly means (Wolf numbers), from minimum to minimum: 1933, 1944, 1954, 1964, 1976
    [5.7, 8.7, 36.1, 79.7, 114.4, 109.6, 88.8, 67.8, 47.5, 30.6, 16.3],
    [9.6, 33.2, 92.6, 151.6, 136.3, 134.7, 83.9, 69.4, 31.5, 13.9],
    [4.4, 38.0, 141.7, 190.2, 184.8, 159.0, 112.3, 53.9, 37.5, 27.9],
    [10.2, 15.1, 47.0, 93.8, 105.9, 105.5, 104.5, 66.6, 68.9, 38.0, 34.5, 15.5],
    [12.6, 27.5, 92.5, 155.4, 154.7, 140.5, 115.9, 66.6, 45.9, 17.9],
]


@njit
def diagonals(cost):
    """Row d holds the cells (i, d - i) of a table, by i: each row of the table is moved one further than the row above."""
    n, m = cost.size(0), cost.size(1)
    wide = nt.cat((cost, nt.full((n, n), FAR, dtype=cost.dtype)), 1)
    return wide.reshape(n * (n + m))[: n * (n + m - 1)].reshape(n, n + m - 1).T


@njit
def soft_dtw(x, y, gamma):
    """The smooth cost of aligning two series."""
    n, m = x.size(0), y.size(0)
    cost = diagonals((x.unsqueeze(1) - y) ** 2) / -gamma
    start = nt.full((n + 1,), -FAR, dtype=x.dtype)
    edge = start[:1]  # what lies left of the table
    before, last = start.clone(), start.clone()
    before[0] = 0.0
    for d in range(n + m - 1):
        best = nt.logaddexp(nt.logaddexp(last[1:], last[:-1]), before[:-1])
        before, last = last, nt.cat((edge, cost[d] + best))
    return last[n] * -gamma


@njit
def spread(barycentre, series, gamma):
    """The mean cost of aligning some series with one."""
    total = soft_dtw(barycentre, series[0], gamma)
    for s in series[1:]:
        total = total + soft_dtw(barycentre, s, gamma)
    return total / len(series)


@njit(nogil=True)
def fit(barycentre, series, gamma, steps, rate):
    """Move a series to where the mean cost is least."""
    for _ in range(steps):
        spread(barycentre, series, gamma).backward()
        g = barycentre.grad
        if g is not None:
            with nt.no_grad():
                barycentre -= rate * g
            g.zero_()


def main(steps=300, gamma=0.02):
    cycles = tuple(nt.tensor(c, dtype=nt.float64) / 100.0 for c in SUNSPOTS)
    barycentre = cycles[0].clone().requires_grad_()
    first = spread(barycentre, cycles, gamma).item()
    fit(barycentre, cycles, gamma, steps, 0.05)
    last = spread(barycentre, cycles, gamma).item()
    print(f"mean cost of aligning the cycles with the first of them: {first:.3f}, with their barycentre: {last:.3f}")
    for year, spots in enumerate(100.0 * barycentre.detach().numpy()):
        print(f"year {year:2} {'#' * round(spots / 3)} {spots:.0f}")
    return first, last


if __name__ == "__main__":
    main()
    if "--compare" in sys.argv:
        x, y = (nt.tensor(np.random.default_rng(k).normal(size=100).cumsum(), requires_grad=True) for k in range(2))
        compare(soft_dtw, x, y, 1.0)
