"""Optimisers: how gradients change parameters."""

from numbatensor.optim.adam import Adam, AdamW
from numbatensor.optim.optimizer import Optimizer
from numbatensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
