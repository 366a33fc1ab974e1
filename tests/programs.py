"""Programs of random steps on tensors, run on a library and on the tape (tape.py) side by side."""

import operator

import numpy as np
import tape
from hypothesis import strategies as st

import numbatensor as nt

MOST = 64  # elements of a tensor
SHAPES = [(3,), (2, 3), (), (1,), (3, 1), (2, 1, 3), (4,), (0,), (2, 2)]
NUMBERS = [2.0, -0.5, 0.0, 1.5]
apart = lambda d: (d == 0) | (abs(d) > 1e-9)  # on a kink, or clearly off it
# name: value, slope from x and the output, what is saved, and where it is defined and tame
UNARY = {
    "neg": (np.negative, lambda x, y: -1.0, None, lambda x: True),
    "exp": (np.exp, lambda x, y: y, "out", lambda x: abs(x) < 3),
    "sin": (np.sin, lambda x, y: np.cos(x), "x", lambda x: True),
    "tanh": (np.tanh, lambda x, y: 1 - y * y, "out", lambda x: True),
    "log": (np.log, lambda x, y: 1 / x, "x", lambda x: x > 0.1),
    "sqrt": (np.sqrt, lambda x, y: 0.5 / y, "out", lambda x: x > 0.1),
    "square": (np.square, lambda x, y: 2 * x, "x", lambda x: abs(x) < 100),
    "abs": (np.abs, lambda x, y: np.sign(x), "x", apart),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x, y: y > 0, "out", apart),
    "reciprocal": (lambda x: 1 / x, lambda x, y: -y * y, "out", lambda x: abs(x) > 0.1),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x, y: y * (1 - y), "out", lambda x: abs(x) < 30),
}
larger, smaller = lambda x, y: (x > y) + 0.5 * (x == y), lambda x, y: (x < y) + 0.5 * (x == y)
square = lambda x, y: x * x + y * y
# name: value, slope of each input, what each slope saves, where it is tame
BINARY = {
    "add": (np.add, [lambda x, y: 1.0, lambda x, y: 1.0], ["", ""], lambda x, y: True),
    "sub": (np.subtract, [lambda x, y: 1.0, lambda x, y: -1.0], ["", ""], lambda x, y: True),
    "mul": (np.multiply, [lambda x, y: y, lambda x, y: x], ["y", "x"], lambda x, y: abs(x * y) < 1e3),
    "div": (np.divide, [lambda x, y: 1 / y, lambda x, y: -x / y**2], ["y", "xy"], lambda x, y: abs(y) > 0.1),
    "atan2": (
        np.arctan2,
        [lambda x, y: y / square(x, y), lambda x, y: -x / square(x, y)],
        ["xy", "xy"],
        lambda x, y: (square(x, y) > 0.1) & ((abs(x) > 1e-9) | (y > 0)),
    ),
    "maximum": (np.maximum, [larger, smaller], ["xy", "xy"], lambda x, y: apart(x - y)),
    "minimum": (np.minimum, [smaller, larger], ["xy", "xy"], lambda x, y: apart(x - y)),
}
OPERATORS = {"add": operator.iadd, "mul": operator.imul, "sub": operator.isub, "div": operator.itruediv}
KINDS = ["leaf", "unary", "binary", "number", "view", "view", "view", "detach", "clone", "sum", "cat", "pick", "drop"]
KINDS += ["unary_", "binary_", "binary_", "number_", "copy_", "fill_", "put_", "slot_", "slot_", "backward", "backward"]
instructions = st.tuples(st.sampled_from(KINDS), *[st.integers(0, 11)] * 4, st.sampled_from([False] * 5 + [True]))


def view_of(shape, b, c, d):
    """A view: as a function of a tensor of the library, as one of cell numbers, and in words; None where it makes no sense."""
    ndim = len(shape)
    p, q = (b % ndim, c % ndim) if ndim else (0, 0)
    n = shape[p] if ndim else 0
    start = c % n if n else 0
    fitted = (2,) * (c % 2) + tuple(2 if m == 1 else m for m in shape)
    step = [2, -1, -2][c % 3]
    cut, last = (slice(None),) * p + (slice(None, None, step),), (slice(None),) * p + (-1,)
    offset = c % 3 - 1
    ways = [
        ndim and (lambda t: t.transpose(p, q), lambda i: i.swapaxes(p, q), f"transpose({p}, {q})"),
        ndim
        and (
            lambda t: t.narrow(p, start, n - start),
            lambda i: i.take(range(start, n), p),
            f"narrow({p}, {start}, ...)",
        ),
        n and (lambda t: t.select(p, start), lambda i: i.take(start, p), f"select({p}, {start})"),
        n and (lambda t: t[last], lambda i: i[last], f"[{last}]"),
        (lambda t: t.expand(fitted), lambda i: np.broadcast_to(i, fitted), f"expand({fitted})"),
        (lambda t: t.unsqueeze(p), lambda i: np.expand_dims(i, p), f"unsqueeze({p})"),
        (lambda t: t.squeeze(), lambda i: i.squeeze(), "squeeze()"),
        p != q
        and (lambda t: t.diagonal(offset, p, q), lambda i: i.diagonal(offset, p, q), f"diagonal({offset}, {p}, {q})"),
        ndim and (lambda t: t[cut], lambda i: i[cut], f"[::{step}] of dimension {p}"),
        (lambda t: t.permute(tuple(reversed(range(ndim)))), lambda i: i.T, "permute(reversed)"),
        ndim and (lambda t: t.movedim(p, q), lambda i: np.moveaxis(i, p, q), f"movedim({p}, {q})"),
        (lambda t: t.reshape(-1), lambda i: i.reshape(-1), "reshape(-1)"),
        ndim and (lambda t: t.flatten(), lambda i: i.reshape(-1), "flatten()"),
    ]
    return ways[d % len(ways)]


class Program:
    """A pool of pairs: a tensor of the library and its counterpart on the tape."""

    def __init__(self, lib):
        self.lib, self.pool, self.made, self.told = lib, [], 0, []

    def play(self, program):
        try:
            with np.errstate(all="ignore"):
                self.steps([("leaf", 1, 0, 0, 0, False), ("leaf", 0, 1, 0, 0, False), *program])
        except Exception as error:
            error.add_note("\n".join(["The program:", *self.told]))
            raise

    def steps(self, program):
        for kind, a, b, c, d, quiet in program:
            with self.lib.set_grad_enabled(not quiet):
                getattr(self, kind)(a, b, c, d, quiet)
        self.check()
        recorded = [(t, o) for t, o in self.pool if o.requires_grad]
        for theirs, ours in recorded:
            for strict in (True, False) if self.lib is nt else (True,):
                self.differentiate(theirs, ours, retain=True, strict=strict)
        for theirs, ours in recorded:
            if not self.differentiate(theirs, ours, retain=False):
                break  # what a failed pass has freed is not promised
        self.check()

    def check(self):
        for theirs, ours in self.pool:
            np.testing.assert_allclose(theirs.detach().numpy(), ours.values, rtol=1e-9, atol=1e-12, err_msg=ours.name)
            assert theirs._version == ours.memory.version, ours.name
            if ours.tracked:
                assert theirs.requires_grad == ours.requires_grad, ours.name

    def keep(self, theirs, ours, text, quiet):
        """Put a new pair into the pool."""
        ours.name = f"t{len(self.told)}"
        self.told.append(f"{ours.name} = {text}" + "  # no_grad" * quiet)
        np.testing.assert_allclose(theirs.detach().numpy(), ours.values, rtol=1e-9, atol=1e-12)
        if ours.tracked:
            assert theirs.requires_grad == ours.requires_grad
        if len(self.pool) < 12:
            self.pool.append((theirs, ours))

    def usable(self, quiet):
        """What a step may use. Not where it is recorded: a view, made without recording, of what is recorded now.
        PyTorch refuses to use that, and nothing is promised here."""
        return [(t, o) for t, o in self.pool if quiet or o.tracked or o.history.node is None]

    def one(self, a, quiet):
        found = self.usable(quiet)
        return found[a % len(found)]

    def fitting(self, x, b, quiet, into=False):
        """A second operand that broadcasts with the first, or to the first."""
        found = []
        for theirs, ours in self.usable(quiet):
            try:
                shape = np.broadcast_shapes(x.shape, ours.shape)
            except ValueError:
                continue
            if np.prod(shape) <= MOST and (shape == x.shape or not into):
                found.append((theirs, ours))
        return found[b % len(found)] if found else (None, None)

    # new tensors

    def leaf(self, a, b, c, d, quiet):
        shape, wanted = SHAPES[b % len(SHAPES)], bool(a % 3)
        self.made += 1
        values = np.random.default_rng(self.made).uniform(-2, 2, shape)
        made = self.lib.tensor(values, requires_grad=wanted)
        self.keep(made, tape.leaf(values, wanted), f"leaf of shape {shape}, requires_grad={wanted}", quiet)

    def unary(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        name = sorted(UNARY)[b % len(UNARY)]
        f, slope, saved, domain = UNARY[name]
        v = x.values
        if np.all(domain(v)):
            y = f(v)
            saves = {"x": [x], "out": ["out"], None: []}[saved]
            out = tape.apply(y, [x], [lambda g: g * slope(v, y)], saves, not quiet)
            self.keep(getattr(self.lib, name)(theirs), out, f"{name}({x.name})", quiet)

    def binary(self, a, b, c, d, quiet):
        first, x = self.one(a, quiet)
        second, y = self.fitting(x, b, quiet)
        name = sorted(BINARY)[c % len(BINARY)]
        f, slopes, needs, domain = BINARY[name]
        if y is not None and np.all(domain(v := x.values, w := y.values)):
            wanted = "".join(n for n, t in zip(needs, (x, y), strict=True) if t.requires_grad)
            saves = [t for n, t in (("x", x), ("y", y)) if n in wanted]
            out = tape.apply(f(v, w), [x, y], [lambda g, s=s: g * s(v, w) for s in slopes], saves, not quiet)
            self.keep(getattr(self.lib, name)(first, second), out, f"{name}({x.name}, {y.name})", quiet)

    def number(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        number = NUMBERS[b % 4]
        f, factor = [(operator.add, 1.0), (operator.mul, number), (operator.sub, 1.0)][c % 3]
        out = tape.apply(f(x.values, number), [x], [lambda g: g * factor], (), not quiet, keeps=True)
        self.keep(f(theirs, number), out, f"{f.__name__}({x.name}, {number})", quiet)

    def view(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        way = view_of(x.shape, b, c, d) if len(x.shape) < 4 else None
        if not way or way[1](x.index).size > MOST:
            return
        copies = way[2] in ("reshape(-1)", "flatten()") and not theirs.is_contiguous()
        if copies or ("[::-" in way[2] and self.lib is not nt):  # PyTorch has no negative steps
            return
        self.keep(way[0](theirs), x.seen(way[1], tracked=not quiet), f"{x.name}.{way[2]}", quiet)

    def detach(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        self.keep(theirs.detach(), x.detach(), f"{x.name}.detach()", quiet)

    def clone(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        out = tape.apply(x.values, [x], [lambda g: g], (), not quiet)
        self.keep(theirs.clone(), out, f"{x.name}.clone()", quiet)

    def sum(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        if x.shape:
            k = b % len(x.shape)
            n = x.shape[k]
            slope = lambda g: np.repeat(np.expand_dims(g, k), n, k)
            out = tape.apply(x.values.sum(k), [x], [slope], (), not quiet)
            self.keep(theirs.sum(k), out, f"{x.name}.sum({k})", quiet)

    def cat(self, a, b, c, d, quiet):
        first, x = self.one(a, quiet)
        alike = [(t, o) for t, o in self.usable(quiet) if o.shape == x.shape]
        if x.shape and 0 < 2 * x.index.size <= MOST:
            second, y = alike[b % len(alike)]
            k = c % len(x.shape)
            n = x.shape[k]
            slopes = [lambda g: np.split(g, [n], k)[0], lambda g: np.split(g, [n], k)[1]]
            out = tape.apply(np.concatenate([x.values, y.values], k), [x, y], slopes, (), not quiet)
            self.keep(self.lib.cat([first, second], k), out, f"cat([{x.name}, {y.name}], {k})", quiet)

    def pick(self, a, b, c, d, quiet):
        """Elements by an index array: a copy."""
        theirs, x = self.one(a, quiet)
        places = self.places(x, b, c)
        if places:

            def slope(grad):
                found = np.zeros(x.shape)
                np.add.at(found, places, grad)
                return found

            out = tape.apply(x.values[places], [x], [slope], (), not quiet, keeps=True)
            self.keep(theirs[places], out, f"{x.name}[{places}]", quiet)

    @staticmethod
    def places(x, b, c):
        n = x.shape[0] if x.shape else 0
        return [(b + k) % n for k in range(1 + c % n)] if n else []

    def drop(self, a, b, c, d, quiet):
        if len(self.pool) > 2:
            del self.pool[a % len(self.pool)]

    # in-place writes

    def written(self, theirs, x, others, quiet, call, values, slopes, own, saves, text, part=None):
        """Try a write: it fails and changes nothing, or succeeds on both sides. `part`: what of x it writes."""
        recorded = not quiet and (x.requires_grad or any(y.requires_grad for y in others))
        expected = tape.PASSES
        if recorded and not x.tracked:
            expected = tape.FAILS
        elif recorded and x.history.leaf:
            expected = tape.FAILS
        elif np.unique(x.index).size < x.index.size:
            if own is None and self.lib is not nt:  # PyTorch writes, and then computes nonsense
                return
            expected = tape.FAILS
        elif any(overlap(x, y) for y in others):
            if self.lib is not nt:  # PyTorch fails only where it can tell easily
                return
            expected = tape.EITHER
        elif any(x.memory is y.memory and tape.hard_to_tell(x.index, y.index) for y in others):
            expected = tape.EITHER
        self.told.append(text + "  # no_grad" * quiet)
        # until it is asked, PyTorch takes a view for a leaf where its base was recorded after the view was made
        if x.tracked:
            assert theirs.grad_fn is None or x.requires_grad
        try:
            call()
        except RuntimeError as error:
            assert expected != tape.PASSES, error
            self.told[-1] += "  # raised"
            return
        assert expected != tape.FAILS
        tape.write(part or x, values, others, slopes, own, saves, not quiet, x.index)

    def unary_(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        name = sorted(UNARY)[b % len(UNARY)]
        f, slope, saved, domain = UNARY[name]
        v = x.values
        if np.all(domain(v)):
            y = f(v)
            saves = ["out"] if saved == "out" and x.requires_grad else []  # old elements are copied before they go
            own = lambda g: g * slope(v, y)
            self.written(theirs, x, [], quiet, getattr(theirs, name + "_"), y, [], own, saves, f"{x.name}.{name}_()")

    def binary_(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        second, y = self.fitting(x, b, quiet, into=True)
        name = sorted(BINARY)[c % 5]
        (own, other), needs, domain = BINARY[name][1:] if name in OPERATORS else BINARY["atan2"][1:]
        name = name if name in OPERATORS else "atan2"
        if y is not None and np.all(domain(v := x.values, w := y.values)):
            wanted = "".join(n for n, t in zip(needs, (x, y), strict=True) if t.requires_grad)
            call = lambda: getattr(theirs, name + "_")(second)
            if d % 2 and name in OPERATORS:
                call = lambda: OPERATORS[name](theirs, second)
            slopes, old = [lambda g: g * other(v, w)], lambda g: g * own(v, w)
            saves = [y] if "y" in wanted else []
            text = f"{x.name}.{name}_({y.name})"
            self.written(theirs, x, [y], quiet, call, BINARY[name][0](v, w), slopes, old, saves, text)

    def number_(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        number = NUMBERS[b % 4]
        name, factor = [("add", 1.0), ("mul", number), ("sub", 1.0)][c % 3]
        values = getattr(operator, name)(x.values, number)
        if np.all(abs(values) < 1e3):
            call = lambda: getattr(theirs, name + "_")(number)
            self.written(
                theirs, x, [], quiet, call, values, [], lambda g: g * factor, (), f"{x.name}.{name}_({number})"
            )

    def copy_(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        second, y = self.fitting(x, b, quiet, into=True)
        if y is not None:
            call = (lambda: theirs.copy_(second)) if c % 2 else (lambda: theirs.__setitem__(Ellipsis, second))
            values, text = np.broadcast_to(y.values, x.shape), f"{x.name}.copy_({y.name})"
            self.written(theirs, x, [y], quiet, call, values, [lambda g: g], None, (), text)

    def fill_(self, a, b, c, d, quiet):
        theirs, x = self.one(a, quiet)
        number = 0.0 if b % 2 else NUMBERS[c % 4]
        call = theirs.zero_ if b % 2 else lambda: theirs.fill_(number)
        self.written(theirs, x, [], quiet, call, number, [], None, (), f"{x.name}.fill_({number})")

    def put_(self, a, b, c, d, quiet):
        """Elements written by an index array."""
        theirs, x = self.one(a, quiet)
        places, number = self.places(x, b, c), NUMBERS[d % 4]
        if places:
            call = lambda: theirs.__setitem__(places, number)
            text = f"{x.name}[{places}] = {number}"
            self.written(theirs, x, [], quiet, call, number, [], None, (), text, x.seen(lambda i: i[places]))

    def slot_(self, a, b, c, d, quiet):
        """One slice written, as into a ring buffer."""
        theirs, x = self.one(a, quiet)
        if x.shape and x.shape[0]:
            place, number = b % x.shape[0], NUMBERS[d % 4]
            call = lambda: theirs.__setitem__(place, number)
            part = x.seen(lambda i: i[place])
            self.written(theirs[place], part, [], quiet, call, number, [], None, (), f"{x.name}[{place}] = {number}")

    # gradients

    def backward(self, a, b, c, d, quiet):
        candidates = [(t, o) for t, o in self.pool if o.requires_grad]
        if candidates:
            self.differentiate(*candidates[a % len(candidates)], retain=True, strict=self.lib is not nt or d % 4 == 0)

    def differentiate(self, theirs, x, retain, strict=None):
        """Compare the gradients of one tensor, or the error that there must be; whether there were any."""
        strict = self.lib is not nt if strict is None else strict
        leaves = [(t, o) for t, o in self.pool if o.history.leaf and not o.view]
        for t, o in leaves:
            t.grad = o.history.node.grad = None
        expected = tape.verdict(x, strict)
        self.made += 1
        seed = np.random.default_rng(self.made).uniform(-1, 1, x.shape)
        self.told.append(f"{x.name}.backward(retain_graph={retain})" + "  # strict_versions" * strict)
        try:
            with nt.autograd.strict_versions(strict):
                theirs.backward(self.lib.tensor(seed), retain_graph=retain)
        except RuntimeError as error:
            assert expected != tape.PASSES, error
            assert "modified by an inplace operation" in str(error) or "backward through the graph a second" in str(
                error
            )
            self.told[-1] += "  # raised"
            return False
        assert expected != tape.FAILS
        tape.backward(x, seed, retain)
        for t, o in leaves:
            found = np.zeros(o.shape) if t.grad is None else t.grad.numpy()
            wanted = np.zeros(o.shape) if o.history.node.grad is None else o.history.node.grad[o.index]
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9, err_msg=f"the gradient of {o.name}")
        return True


def overlap(x, y):
    """Whether two tensors share memory other than element by element."""
    same = x.shape == y.shape and np.array_equal(x.index, y.index)
    return x.memory is y.memory and not same and np.intersect1d(x.index, y.index).size > 0
