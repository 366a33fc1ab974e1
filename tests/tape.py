"""Reverse-mode differentiation over the cells of flat buffers: what the tests hold the library's autograd against.

A tensor is an array of cell numbers into a flat float64 buffer, so a view is NumPy indexing of that array. All tensors that share
a history (a base and its views) share one node: the last thing that happened to the base. A node's gradient is a flat
array over the base's cells, so a write to a view, or to a base with views, needs no case of its own.
"""

import itertools

import numpy as np

FAILS, PASSES, EITHER = "fails", "passes", "either"
counter = itertools.count()


class Memory:
    """A flat buffer, and its writes: for each the cells that were written, and those of the tensor that was written to."""

    def __init__(self, values):
        self.values, self.writes = np.array(values, np.float64).reshape(-1), []

    @property
    def version(self):
        return len(self.writes)


class Save:
    """Cells of a memory at a version. `same`: the step that saved them wrote them too."""

    def __init__(self, memory, index, version=None, same=False):
        self.memory, self.index, self.same = memory, index, same
        self.version = memory.version if version is None else version

    def overwritten(self, strict):
        """YES, NO, or MAYBE where it takes more than boxes over steps that divide each other to tell."""
        later = self.memory.writes[self.version :]
        if strict:
            return YES if later else NO
        if any(np.intersect1d(self.index, cells).size for cells, _ in later):
            return YES
        return MAYBE if any(hard_to_tell(self.index, region) for _, region in later) else NO


YES, MAYBE, NO = "yes", "maybe", "no"


def hard_to_tell(x, y):
    """Whether two sets of cells cannot be told apart by extent, nor by digits in the mixed base of their steps."""
    if x.size == 0 or y.size == 0 or x.max() < y.min() or y.max() < x.min():
        return False
    steps = sorted({step for i in (x, y) for step in steps_of(i)} - {0})
    nested = all(b % a == 0 for a, b in zip(steps, steps[1:], strict=False))
    return not nested or np.intersect1d(x, y).size > 0


def steps_of(index):
    """Distances between neighbours in each dimension."""
    return {abs(int(d)) for k in range(index.ndim) if index.shape[k] > 1 for d in [np.diff(index, axis=k).flat[0]]}


class Node:
    """A step of a history. `edges`: (node, function from this node's gradient to that node's, whether it can be other than zero).
    `saves`: what the step saved."""

    def __init__(self, size, edges=(), saves=(), keeps=False):
        self.size, self.edges, self.saves, self.number = size, edges, saves, next(counter)
        self.keeps, self.grad = keeps or bool(saves), None
        self.freed = 0  # 1: it may have been, if only zero gradients led here; 2: it has been


class History:
    """What is recorded of a base and its views. A leaf that requires a gradient has a node from the start."""

    def __init__(self, node=None, leaf=False):
        self.node, self.leaf = node, leaf


class Tensor:
    """Cells of a memory under a history. `tracked` is false for views that were made without recording."""

    def __init__(self, memory, history, index, view=False, tracked=True):
        self.memory, self.history, self.index, self.view, self.tracked = memory, history, index, view, tracked

    @property
    def values(self):
        return self.memory.values[self.index]

    @property
    def requires_grad(self):
        return self.tracked and self.history.node is not None

    @property
    def shape(self):
        return self.index.shape

    def seen(self, change, tracked=True):
        """A view: the same cells in another arrangement."""
        return Tensor(self.memory, self.history, change(self.index), True, self.tracked and tracked)

    def detach(self):
        return Tensor(self.memory, History(), self.index)


def fresh(values, node=None, leaf=False):
    """A tensor with memory of its own."""
    values = np.asarray(values, np.float64)
    return Tensor(Memory(values), History(node, leaf), np.arange(values.size).reshape(values.shape))


def leaf(values, requires_grad):
    return fresh(values, Node(np.size(values)) if requires_grad else None, requires_grad)


def unbroadcast(grad, shape):
    """A gradient summed over the dimensions that broadcasting added or stretched."""
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    return grad.sum(tuple(k for k, n in enumerate(shape) if n == 1 != grad.shape[k]), keepdims=True)


def edge(x, index, slope):
    """From the gradient of the cells `index` of an output to the gradient of the cells of an input; `slope` maps one to the other."""
    target, cells = x.history.node, x.index

    def pull(grad):
        found = np.zeros(target.size)
        np.add.at(found, cells, unbroadcast(slope(grad[index]), cells.shape))
        return found

    return target, pull, cells.size > 0


def apply(values, inputs, slopes, saves=(), recording=True, keeps=False):
    """The result of an operation. `slopes[i]`: the gradient of input i; `saves`: the tensors that are saved, or "out"."""
    out = fresh(values)
    wanted = [(x, slope) for x, slope in zip(inputs, slopes, strict=True) if x.requires_grad]
    if recording and wanted:
        edges = [edge(x, out.index, slope) for x, slope in wanted]
        kept = [Save(s.memory, s.index) for s in (out if s == "out" else s for s in saves)]
        out.history.node = Node(out.index.size, edges, kept, keeps)
    return out


def write(x, values, inputs, slopes, own, saves=(), recording=True, region=None):
    """Overwrite a tensor. `own`: the gradient of its old elements, or None where the result does not hang on them.

    `region`: the cells of the tensor that x is a part of, where that part is named by index.
    """
    wanted = [(y, slope) for y, slope in zip(inputs, slopes, strict=True) if y.requires_grad]
    before, cells = x.history.node, x.index
    kept = [Save(s.memory, s.index, same=s.memory is x.memory) for s in saves if s != "out"]
    if recording and (wanted or x.requires_grad):
        edges = [edge(y, cells, slope) for y, slope in wanted]
        if before is not None:

            def pull(grad):
                found = grad.copy()
                found[cells] = 0.0 if own is None else own(grad[cells])
                return found

            covered = own is None and np.unique(cells).size == before.size
            edges.append((before, pull, not covered))
        if "out" in saves:
            kept.append(Save(x.memory, cells, x.memory.version + 1))
        x.history.node = Node(before.size if before else x.memory.values.size, edges, kept, keeps=True)
        x.history.leaf = False
    x.memory.values[cells] = values
    x.memory.writes.append((cells, cells if region is None else region))


def reached(root, dead):
    """The nodes that a pass from a root runs; with `dead`, also those that only zero gradients can reach."""
    found, ready = {root}, [root]
    while ready:
        for target, _, live in ready.pop().edges:
            if target not in found and (live or dead):
                found.add(target)
                ready.append(target)
    return found


def verdict(x, strict=False):
    """Whether a backward pass from a tensor must fail: it does if a value it uses was overwritten, or freed.

    Where only a zero gradient leads to the value, or the write that saved it overwrote it, PyTorch fails, and a right gradient will do too.
    `strict`: any write to the memory counts, as in PyTorch.
    """
    sure = reached(x.history.node, dead=False)
    result = PASSES
    for node in reached(x.history.node, dead=True):
        found = [(save.overwritten(strict), save.same) for save in node.saves]
        if node in sure and ((YES, False) in found or (node.freed == 2 and node.saves)):
            return FAILS
        if any(stale != NO for stale, _ in found) or (node.freed and node.keeps):
            result = EITHER
    return result


def backward(x, seed, retain):
    """Add the gradients of a tensor to the `grad` of leaf nodes."""
    root = x.history.node
    start = np.zeros(root.size)
    np.add.at(start, x.index, seed)
    grads, sure = {root: start}, reached(root, dead=False)
    for node in sorted(reached(root, dead=True), key=lambda n: -n.number):
        for target, pull, _ in node.edges:
            grads[target] = grads.get(target, 0.0) + pull(grads[node])
        if not node.edges:
            node.grad = grads[node] if node.grad is None else node.grad + grads[node]
        if not retain:
            node.freed = max(node.freed, 2 if node in sure else 1)
