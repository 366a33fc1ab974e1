"""Fit a differential equation through its solver: the lynx and the hare.

How many pelts of each the Hudson's Bay Company bought, year by year, follows the model of Lotka and Volterra: hares u multiply and are
eaten by lynxes v, which starve without hares,

    du/dt = (alpha - beta v) u        dv/dt = (delta u - gamma) v.

With z = (log u, log v) this is dz/dt = growth + effect @ exp(z). The method of Runge and Kutta is a compiled loop that records what it
does, so the gradient is that of the solution as it was computed, whatever the equation is.
"""

import sys

from compare import compare
from numba import njit

import numbatensor as nt

PELTS = """30 4  47.2 6.1  70.2 9.8  77.4 35.2  36.3 59.4  20.6 41.7  18.1 19  21.4 13  22 8.3  25.4 9.1  27.1 7.4  40.3 8  57 12.3
    76.6 19.5  52.3 45.7  19.5 51.1  11.2 29.7  7.6 15.8  14.6 9.7  16.2 10.1  24.7 8.6"""  # hares and lynxes, thousands, 1900 to 1920


@njit
def lotka_volterra(rates):
    """The growth of hares and lynxes, and what each has of the other, from the logarithms of ((alpha, gamma), (beta, delta))."""
    r = nt.exp(rates)
    growth = r[0] * nt.tensor((1.0, -1.0), dtype=rates.dtype)
    effect = r[1].unsqueeze(1) * nt.tensor(((0.0, -1.0), (1.0, 0.0)), dtype=rates.dtype)
    return growth, effect


@njit
def slope(z, growth, effect):
    return growth + effect @ nt.exp(z)


@njit
def solve(z, rates, years, steps):
    """The logarithms of both populations, a row for each year, with some steps in each."""
    growth, effect = lotka_volterra(rates)
    h = 1.0 / steps
    path = nt.zeros((years, 2), dtype=z.dtype)
    path[0] = z
    for year in range(1, years):
        for _ in range(steps):
            a = slope(z, growth, effect)
            b = slope(z + 0.5 * h * a, growth, effect)
            c = slope(z + 0.5 * h * b, growth, effect)
            d = slope(z + h * c, growth, effect)
            z = z + (h / 6.0) * (a + 2.0 * (b + c) + d)
        path[year] = z
    return path


@njit
def misfit(z, rates, observed, steps):
    """Mean squared error of the logarithms."""
    return ((solve(z, rates, observed.size(0), steps) - observed) ** 2).mean()


def main(epochs=300, steps=4):
    observed = nt.tensor([float(n) for n in PELTS.split()], dtype=nt.float64).reshape(-1, 2).log()
    z = observed[0].clone().requires_grad_()
    rates = nt.tensor([[0.5, 0.5], [0.02, 0.02]], dtype=nt.float64).log().requires_grad_()
    optimizer = nt.optim.Adam([z, rates], lr=0.03)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = misfit(z, rates, observed, steps)
        loss.backward()
        optimizer.step()
        if epoch % 100 == 0 or epoch == epochs - 1:
            print(f"epoch {epoch}: the model is off by a factor of {loss.sqrt().exp().item():.3f}")
    (alpha, gamma), (beta, delta) = rates.exp().tolist()
    print(f"hares grow by {alpha:.3f} a year, less {beta:.4f} a lynx; lynxes by {delta:.4f} a hare, less {gamma:.3f}")
    hares = solve(z, rates, 21, steps).exp().tolist()
    for year, ((u, v), (x, y)) in enumerate(zip(hares, observed.exp().tolist(), strict=True)):
        if year % 4 == 0:
            print(f"{1900 + year}: hares {x:4.1f}, model {u:4.1f}; lynxes {y:4.1f}, model {v:4.1f}")
    return loss.item(), z, rates, observed


if __name__ == "__main__":
    _, *arguments = main()
    if "--compare" in sys.argv:
        compare(misfit, *arguments, 4)
