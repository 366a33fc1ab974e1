"""How one expression is compared with PyTorch: value, dtype, shape, aliasing, strides of views, gradients, errors."""

import ast
import warnings

import numpy as np
from peer_table import operands

import numbatensor as nt

# Of float16 and bfloat16, four roundings: PyTorch rounds between the parts of some ops, we do between the ops of some rules.
RTOL = {"float32": 2e-5, "float64": 1e-9, "float16": 4 * 2.0**-10, "bfloat16": 4 * 2.0**-7}
ATOL = {"float32": 2e-6, "float64": 1e-12, "float16": 4 * 2.0**-10, "bfloat16": 4 * 2.0**-7}
# What PyTorch cannot do may work here: an operand of another type, a method it lacks, a dtype or derivative it does not implement.
LACKS = (TypeError, AttributeError, NotImplementedError)
GAPS = (
    "is not implemented",
    "INTERNAL ASSERT",
    "returned an invalid gradient",
)  # errors of its backward passes that are its own
ZEROS_OF_ANY_SIGN = ("gelu", "relu", "max", "min", "clamp", "lerp", "remainder", "%", "hardtanh")


class Outcome:
    """What an expression gave: a value or an error, the gradients of its operands, and which parts share memory with an operand."""

    def __init__(self, L, expression, dtype):
        self.L, self.error, self.value, self.grads, self.backward_error = L, None, None, {}, None
        tree = ast.parse(expression, mode="eval")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        scope = operands(L, dtype, names)
        leaves = {n: t for n, t in scope.items() if isinstance(t, L.Tensor)}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                self.value = flat(eval(compile(tree, expression, "eval"), scope))
            except Exception as error:
                self.error = error
                return
            self.shares = [isinstance(v, L.Tensor) and any(overlap(v, t) for t in leaves.values()) for v in self.value]
            self.leaves = {n: array(t) for n, t in leaves.items()}
            self.differentiate({n: t for n, t in leaves.items() if t.requires_grad and t.is_leaf})

    def differentiate(self, leaves):
        roots = [v for v in self.value if isinstance(v, self.L.Tensor) and v.requires_grad and v.grad_fn is not None]
        rng = np.random.default_rng(5)
        try:
            seeds = [self.L.tensor(rng.uniform(-1, 1, tuple(r.shape)), dtype=r.dtype) for r in roots]
            if roots:
                self.L.autograd.backward(roots, seeds)
                self.grads = {n: array(t.grad) for n, t in leaves.items() if t.grad is not None}
        except Exception as error:
            self.backward_error = error


def array(t):
    """A tensor's elements as float64."""
    forced = {} if isinstance(t, nt.Tensor) else {"force": True}  # PyTorch has zeros without memory
    return (t.detach() if t.dtype.itemsize != 2 else t.detach().double()).numpy(**forced).astype(float)


def flat(made):
    """The parts of a result."""
    return [part for one in made for part in flat(one)] if isinstance(made, (tuple, list)) else [made]


def overlap(a, b):
    """Whether the memory of two tensors meets."""
    ends = []
    for t in (a, b):
        if t.numel() == 0:
            return False
        item = t.dtype.itemsize
        reach = [(n - 1) * s * item for n, s in zip(t.shape, t.stride(), strict=True)]
        first = t.data_ptr() + sum(r for r in reach if r < 0)
        ends.append((first, t.data_ptr() + sum(r for r in reach if r > 0)))
    return ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]


def compare(expression, torch, dtypes=("float32", "float64")):
    """How an expression differs from PyTorch's, in words, for some dtypes; an empty list if it does not."""
    found = []
    for dtype in dtypes:
        ours, theirs = Outcome(nt, expression, dtype), Outcome(torch, expression, dtype)
        if ours.error or theirs.error:
            found += of_errors(ours.error, theirs.error)
        elif len(ours.value) != len(theirs.value):
            found.append(f"{len(ours.value)} results, not {len(theirs.value)}")
        else:
            for a, b, *shares in zip(ours.value, theirs.value, ours.shares, theirs.shares, strict=True):
                found += (
                    of_tensors(a, b, shares, dtype, expression)
                    if isinstance(b, torch.Tensor)
                    else of_objects(a, b, dtype)
                )
            found += of_gradients(ours, theirs, dtype)
    return list(dict.fromkeys(found))


def of_errors(ours, theirs):
    if theirs is None:
        return [f"{type(ours).__name__}: {first(ours)}"]
    if ours is None:
        return [] if isinstance(theirs, LACKS) else [f"no error; PyTorch: {type(theirs).__name__}: {first(theirs)}"]
    if isinstance(ours, type(theirs)) or isinstance(theirs, AttributeError) or "must be Tensor" in str(theirs):
        return []
    return [f"{type(ours).__name__} ({first(ours)}); PyTorch: {type(theirs).__name__} ({first(theirs)})"]


def first(error):
    return str(error).split("\n")[0][:140]


def of_objects(a, b, dtype):
    """Of what is not a tensor: numbers, arrays, shapes, dtypes."""
    if isinstance(b, (np.ndarray, float)):
        same = type(a) is type(b) and np.shape(a) == np.shape(b) and np.allclose(a, b, RTOL[dtype], equal_nan=True)
    elif type(b).__name__ in ("dtype", "Size"):
        same = str(a).split(".")[-1] == str(b).split(".")[-1]
    else:
        same = type(a) is type(b) and a == (b.replace("torch.", "numbatensor.") if isinstance(b, str) else b)
    return [] if same else [f"{a!r}, not {b!r}"]


def of_tensors(a, b, shares, dtype, expression):
    if not isinstance(a, nt.Tensor):
        return [f"a {type(a).__name__}, not a Tensor"]
    found = []
    kinds = [str(t.dtype).split(".")[-1] for t in (a, b)]
    if kinds[0] != kinds[1]:
        found.append(f"dtype {kinds[0]}, not {kinds[1]}")
    if tuple(a.shape) != tuple(b.shape):
        return [*found, f"shape {tuple(a.shape)}, not {tuple(b.shape)}"]
    if a.requires_grad != b.requires_grad:
        found.append(f"requires_grad {a.requires_grad}")
    if shares[0] != shares[1]:
        found.append("shares memory" if shares[0] else "shares no memory")
    elif shares[0] and b.numel():
        steps = [[s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1] for t in (a, b)]
        if steps[0] != steps[1] or a.storage_offset() != b.storage_offset():
            found.append(f"strides {steps[0]} at {a.storage_offset()}, not {steps[1]} at {b.storage_offset()}")
    x, y = array(a), array(b)
    if not close(x, y, "float32" if "float32" in kinds else dtype):
        found.append(f"values {show(x)}, not {show(y)}")
    elif np.any((x == 0) & (y == 0) & (np.signbit(x) != np.signbit(y))) and not any(
        n in expression for n in ZEROS_OF_ANY_SIGN
    ):
        found.append(f"signs of zeros {show(x)}, not {show(y)}")
    return found


def close(x, y, kind):
    """Whether arrays agree, to the rounding of the largest element: a small one may be the difference of sums of large ones."""
    finite = np.abs(y[np.isfinite(y)]) if y.dtype.kind == "f" else y[:0]
    return np.allclose(x, y, RTOL[kind], ATOL[kind] * max(1.0, finite.max(initial=0.0)), equal_nan=True)


def show(x):
    return np.array2string(x.reshape(-1), max_line_width=10**6, threshold=12, precision=6)


def of_gradients(ours, theirs, dtype):
    a, b = ours.backward_error, theirs.backward_error
    if b:
        return [] if a or any(gap in str(b) for gap in GAPS) else [f"backward raised nothing; PyTorch: {first(b)}"]
    if a:
        return [f"backward raised {type(a).__name__}: {first(a)}"]
    found = []
    for name in sorted({*ours.grads, *theirs.grads}):
        x, y = ours.grads.get(name), theirs.grads.get(name)
        if x is None or y is None:
            if np.any((y if x is None else x) != 0):  # None will do for zeros
                found.append(f"no gradient of {name}" if x is None else f"a gradient of {name}")
            continue
        # what flows to an element that is infinite or NaN is nobody's concern, and we may know what PyTorch does not
        own = np.isfinite(ours.leaves[name]) & ~np.isnan(y) if x.shape == y.shape else None
        if own is None or not close(x[own], y[own], dtype):
            found.append(f"gradient of {name} {show(x)}, not {show(y)}")
    return found
