"""What a call costs on tiny tensors."""

from asv_benchmarks.cases import timed

Dispatch = timed("dispatch")
