"""A step of the optimisers on 1e6 parameters."""

from asv_benchmarks.cases import timed

Optim = timed("optim")
