"""A step of training."""

from asv_benchmarks.cases import timed

Training = timed("training")
