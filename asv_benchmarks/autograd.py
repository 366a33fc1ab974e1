"""Recording a graph and walking it back."""

from asv_benchmarks.cases import timed

Autograd = timed("autograd")
