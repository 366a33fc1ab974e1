"""What is compared with PyTorch: expressions over the tensors of `operands`, which both libraries evaluate. `L` is the library."""

import copy
import pickle

import numpy as np

rng = np.random.default_rng(7)
FLOATS = {
    "x": rng.uniform(-2, 2, (3, 4)),
    "y": rng.uniform(-2, 2, (3, 4)),
    "p": rng.uniform(0.2, 3, (3, 4)),  # positive
    "u": rng.uniform(0.1, 0.9, (3, 4)),  # in the unit interval
    "o": rng.uniform(1.1, 3, (3, 4)),  # over one
    "q": rng.uniform(-2, 2, (3, 1)),
    "v": rng.uniform(-2, 2, 4),
    "w": rng.uniform(-2, 2, 3),
    "s": rng.uniform(0.2, 0.8, ()),
    "t": rng.uniform(-2, 2, (2, 3, 4)),
    "m": rng.uniform(-2, 2, (4, 2)),
    "g": rng.uniform(-2, 2, (3, 3)),
    "bt": rng.uniform(-2, 2, (2, 4, 5)),
    "e": np.zeros((0, 4)),
    "z": np.array([0.0, -0.0, 1, -1, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, -1e30, 0.5]),
    "zz": np.array([1.0, 0, -0.0, np.inf, 2, -np.inf, -np.inf, np.inf, 1, np.nan, 3, 0.5]),
    "k": np.array([0.0, 0, 1, -1, 1, 2, 2, -2, 0.5, -0.5, 1.5, 2.5]),  # kinks and ties
    "kk": np.array([0.0, 1, 1, -1, 0, 2, -2, -2, 0.5, 0.5, 1.5, -2.5]),
    "kt": np.array([[1.0, 3, 3, 2], [0, 0, 0, 0], [2, 1, 2, 1]]),
    "zt": np.array([[1.0, np.nan, 3, np.nan], [np.inf, 1, -np.inf, 2], [0, 0, 0, 0]]),
}
OTHERS = {
    "i": rng.integers(-3, 6, (3, 4)),
    "j": rng.choice([-2, -1, 1, 2, 3], (3, 4)),
    "h": rng.integers(-3, 6, (3, 4)).astype(np.int32),
    "n": rng.integers(0, 6, (3, 4)).astype(np.uint8),
    "n8": rng.integers(-3, 6, (3, 4)).astype(np.int8),
    "b": rng.random((3, 4)) > 0.5,
    "c": rng.random((3, 4)) > 0.5,
    "i0": np.array(3),
    "ie": np.zeros((0,), np.int64),
    "rows": np.array([2, 0, 0]),
    "cols": np.array([1, 3, 0, 2]),
    "at": rng.integers(0, 3, (2, 4)),
    "col": rng.integers(0, 4, (3, 2)),
    "classes": np.array([1, 3, 0]),
    "vb": np.array([True, False, True, True]),
    "rb": np.array([True, False, True]),
}
PLAIN = {"X": "x", "Y": "y", "V": "v", "P": "p", "T": "t"}  # copies that require no gradient


def operands(L, dtype, names):
    """The tensors, among others, that an expression uses by name. Lower case floats require gradients."""
    d = {"float16": np.float16, "float64": np.float64}.get(dtype, np.float32)
    number = lambda name, **options: L.tensor(FLOATS[name].astype(d), dtype=getattr(L, dtype), **options)
    made = {
        "L": L,
        "F": L.nn.functional,
        "D": getattr(L, dtype),
        "N": d,
        "inf": np.inf,
        "nan": np.nan,
        "put": put,
        "twice": twice,
    }
    made |= {"np_asarray": np.asarray, "pickled": lambda t: pickle.loads(pickle.dumps(t)), "copied": copy.copy}
    made |= {"deep": copy.deepcopy, "shared": shared, "np_row": np.array([1.0, 2.0, 3.0, 4.0], d)}
    made |= {n: number(n, requires_grad=True) for n in FLOATS.keys() & names}
    made |= {n: L.tensor(OTHERS[n]) for n in OTHERS.keys() & names}
    made |= {n: number(PLAIN[n]) for n in PLAIN.keys() & names}
    if "r" in names:  # a view, turned
        made["x"] = made.get("x", number("x", requires_grad=True))
        made["r"] = made["x"].t()
    return made


def twice(L, function, *inputs):
    """The gradient of the square of the gradient of a function."""
    (first,) = L.autograd.grad(function(*inputs).sum(), inputs[:1], create_graph=True)
    if not first.requires_grad:
        return first
    return L.autograd.grad((first * first).sum(), inputs, allow_unused=True)


def put(t, index, value):
    """A copy with what an index names overwritten."""
    t = t.clone()
    t[index] = value
    return t


def split(text):
    """The expressions of a block: two spaces or a line's end part them."""
    return [e.strip() for line in text.strip().split("\n") for e in line.split("  ") if e.strip()]


def shared(L):
    """Whether a tensor of an array sees what is written to the array, and the other way round."""
    array = np.zeros(2)
    made = L.from_numpy(array)
    array[0] = 1
    made[1] = 2
    return made.tolist(), array.tolist()


TABLE: dict = {}

TABLE["creation"] = """
L.tensor(1.5)  L.tensor(3)  L.tensor(True)  L.tensor([])  L.tensor([1, 2])  L.tensor([1, 2.5])  L.tensor([[1], [2]])  L.tensor([True, False])
L.tensor([1, 2], dtype=L.float64)  L.tensor([1.7, -2.7], dtype=L.int32)  L.tensor((1, (2)))  L.tensor([1.5], requires_grad=True)
L.tensor([1, 2], requires_grad=True)  L.tensor(N(1.5))  L.tensor([[1, 2], [3]])  L.tensor("a")  L.tensor([None])  L.tensor(X)
L.tensor([2, True])  L.tensor(2**40)  L.tensor(2**70)  L.tensor([[]])  L.tensor([X[0, 0], X[0, 1]])  L.tensor(range(4))
L.as_tensor([1, 2])  L.as_tensor(X) is X  L.as_tensor(X, dtype=D) is X  L.as_tensor(i, dtype=L.float32)  L.asarray([1.0, 2.0])  L.asarray(X) is X
L.asarray([1, 2], dtype=L.float64)  L.empty(2, 3).shape  L.empty((2, 3)).shape  L.empty(0).shape  L.empty(2, dtype=L.int32).dtype
L.zeros(2, 3)  L.zeros((2, 3))  L.zeros([2, 3], dtype=L.int64)  L.zeros(())  L.zeros(2, requires_grad=True)  L.zeros(-1)  L.zeros(2.5)
L.zeros(size=(2, 3))  L.ones(2, 3)  L.ones((2,), dtype=L.bool)  L.ones(3, dtype=L.uint8)  L.ones(0, 3)
L.full((2, 3), 1.5)  L.full((2,), 3)  L.full((2,), True)  L.full((), 2.0)  L.full((2,), 3, dtype=L.float64)  L.full((2,), 1.5, requires_grad=True)
L.full(size=(2,), fill_value=1)  L.zeros_like(x)  L.ones_like(i)  L.full_like(x, 2)  L.full_like(i, 2.5)  L.empty_like(x).shape
L.zeros_like(x, dtype=L.int64)  L.ones_like(x, requires_grad=True)  L.zeros_like(x).requires_grad
x.new_zeros(2, 3)  x.new_zeros((2, 3))  x.new_ones(2)  x.new_full((2, 2), 7)  x.new_empty(2, 3).shape  x.new_tensor([1, 2])  i.new_zeros(2)
i.new_tensor([1.5, 2.5])  x.new_zeros(2, dtype=L.int64)  x.new_ones(2, requires_grad=True)  i.new_full((2,), 1.5)
L.arange(5)  L.arange(2, 5)  L.arange(1, 10, 3)  L.arange(5.0)  L.arange(0, 1, 0.25)  L.arange(5, 0, -2)  L.arange(0)  L.arange(5, 2)
L.arange(3, dtype=D)  L.arange(0, 5, 0)  L.arange(start=1, end=4)  L.arange(1, 2.5)  L.arange(3, requires_grad=True)  L.arange(3.0, requires_grad=True)
L.arange(0, 5, -1)  L.arange(1, 4, step=2)  L.arange(i0)
L.linspace(0, 1, 5)  L.linspace(1, -1, 4, dtype=D)  L.linspace(0, 10, 1)  L.linspace(0, 1, 0)  L.linspace(3, 7, steps=3)  L.linspace(0, 1, -1)
L.linspace(0, 10, 4, dtype=L.int64)  L.linspace(start=0, end=1, steps=3)
L.eye(3)  L.eye(2, 3)  L.eye(3, dtype=L.int64)  L.eye(0)  L.eye(-1)  L.eye(2, requires_grad=True)  L.eye(n=2, m=3)
L.tril(x)  L.triu(x)  x.tril()  x.triu(1)  x.tril(-1)  x.triu(-1)  L.tril(t, diagonal=1)  L.triu(i)  v.tril()  e.tril()  L.tril(input=x, diagonal=1)
(x * 1).tril_()  (x * 1).triu_(1)  b.tril()
"""

NAMES = "abs neg sign sqrt square exp exp2 expm1 sin cos tan asin atan sinh cosh tanh asinh sigmoid erf erfc floor ceil round trunc frac"
DOMAINED = {name: "x" for name in NAMES.split()}
DOMAINED |= {name: "p" for name in "reciprocal rsqrt log log2 log10 log1p".split()}
DOMAINED |= {"acosh": "o", "atanh": "u", "logit": "u", "asin": "u", "acos": "u", "sqrt": "p"}
unary = []
for name, d in DOMAINED.items():
    unary += [f"L.{name}({d})", f"{d}.{name}()", f"L.{name}(input={d})", f"L.{name}(z)", f"L.{name}(k)", f"L.{name}(e)"]
    unary += [
        f"L.{name}(s)",
        f"L.{name}(i)",
        f"L.{name}(n)",
        f"L.{name}(b)",
        f"({d} * 1).{name}_()",
        f"{d}.t().{name}()",
    ]
    unary += [
        f"L.{name}({d}.detach(), out=L.empty_like(X))",
        f"i.clone().{name}_()",
        f"L.{name}(3.0)",
        f"{d}.{name}(dim=0)",
    ]
TABLE["unary"] = unary
TABLE["activations"] = []
for name in "relu leaky_relu elu selu gelu silu softplus hardtanh mish sigmoid tanh".split():
    TABLE["activations"] += [f"F.{name}({v})" for v in ("x", "z", "k", "e", "s", "i", "r")] + [f"F.{name}(input=x)"]
TABLE["activations"] += split("""
F.leaky_relu(x, 0.2)  F.leaky_relu(x, negative_slope=0.2)  F.elu(x, 2.0)  F.elu(x, alpha=0.5)  F.gelu(x, approximate="tanh")  F.gelu(z, approximate="tanh")
F.gelu(x, approximate="none")  F.gelu(x, approximate="cubic")  F.softplus(x, 2.0)  F.softplus(x, beta=2.0, threshold=1.0)  F.softplus(x * 100)
F.hardtanh(x, -0.5, 0.5)  F.hardtanh(x, min_val=-0.5, max_val=0.5)  F.relu(i)  L.relu(x)  x.relu()  (x * 1).relu_()  L.selu(x)  F.relu(x, inplace=False)
F.leaky_relu(x, inplace=False)  F.softplus(x * 20)  F.mish(x * 100)  F.gelu(x * 100)  F.silu(x * 100)  F.elu(x * 100)
""")

BINARY = "add sub mul div floor_divide remainder fmod pow atan2 maximum minimum fmax fmin hypot logaddexp".split()
COMPARE = "eq ne lt le gt ge logical_and logical_or logical_xor".split()
BITS = "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift".split()
binary = []
for name in BINARY + COMPARE:
    a = "p" if name == "pow" else "x"
    binary += [
        f"L.{name}({a}, y)",
        f"{a}.{name}(y)",
        f"L.{name}({a}, q)",
        f"L.{name}(q, v)",
        f"L.{name}({a}, s)",
        f"L.{name}(z, zz)",
    ]
    binary += [
        f"L.{name}(k, kk)",
        f"L.{name}(i, j)",
        f"L.{name}(n, n)",
        f"L.{name}(b, c)",
        f"L.{name}(i, y)",
        f"L.{name}(h, n)",
    ]
    binary += [
        f"L.{name}(e, e)",
        f"L.{name}(e, v)",
        f"L.{name}({a}, v[:3])",
        f"L.{name}(input={a}, other=y)",
        f"L.{name}(r, q.t())",
    ]
    binary += [
        f"L.{name}(X, Y, out=L.empty_like(X, dtype=L.{'bool' if name in COMPARE else 'float64'}))",
        f"L.{name}(x, X, out=X)",
    ]
    binary += [
        f"({a} * 1).{name}_(y)",
        f"({a} * 1).{name}_(v)",
        f"(v * 1).{name}_({a})",
        f"i.clone().{name}_(j)",
        f"i.clone().{name}_(y)",
    ]
    binary += [
        f"L.{name}(n8, n)",
        f"L.{name}(x, None)",
        f"L.{name}(x)",
        f"L.{name}(i, i0)",
        f"L.{name}(h, i0)",
        f"L.{name}(n, s)",
    ]
for name in ("add sub mul div floor_divide remainder fmod pow eq lt ge maximum fmax atan2 hypot logical_and").split():
    binary += [
        f"L.{name}(p, 2)",
        f"L.{name}(p, 2.5)",
        f"L.{name}(i, 2)",
        f"L.{name}(i, 2.5)",
        f"L.{name}(b, 2)",
        f"L.{name}(n, 300)",
        f"L.{name}(2.5, p)",
    ]
    binary += [
        f"L.{name}(i, True)",
        f"L.{name}(z, 2.0)",
        f"L.{name}(z, 0.0)",
        f"L.{name}(i, -2)",
        f"(i * 1).{name}_(2)",
        f"(i * 1).{name}_(2.5)",
    ]
for name in BITS:
    binary += [
        f"L.{name}(i, j.abs())",
        f"i.{name}(n)",
        f"L.{name}(n, n)",
        f"L.{name}(b, c)",
        f"L.{name}(x, y)",
        f"L.{name}(i, 2)",
        f"i.clone().{name}_(n)",
    ]
    binary += [f"L.{name}(i, 70)", f"L.{name}(h, 2)", f"L.{name}(b, i)", f"L.{name}(2, i)"]
TABLE["binary"] = binary

TABLE["operators"] = """
x + y  x - y  x * y  x / y  p ** y  x // y  x % y  -x  +x  abs(x)  x + 1  1 + x  x - 1  1 - x  2 * x  x / 2  2 / x  p ** 2  2 ** x  x // 2  2 // x  x % 2
2 % x  x + 1.5  1.5 - i  i + 1  i / 2  i / j  i // j  i % j  i // 2  7 // j  7 % j  i ** 2  2 ** n  i ** n  i + True  b + b  b * c  b - c  -b  ~b  ~i  ~x  -n
b & c  b | c  b ^ c  i & 3  i | j  i ^ j  i << 1  i >> 1  3 & i  3 | i  1 << n  x & y  b & True  i & b  x == y  x != 0  x < y  x <= 0  x > y  x >= 1.5  0 < x
i == 1.0  b == True  x == None  x != None  x == "a"  x + "a"  x + None  "a" * x  x @ m  x @ v  v @ m  t @ bt  v @ v  x @ y  s @ s  x @ 2
x ** 0  p ** 0.5  p ** -1  x ** 3  x ** -2  z ** 2  z ** 0.5  z ** 3  z ** 0  z ** -1  0 ** z  2 ** z  (-2) ** k  k ** 2  k ** 0  i ** -1
(x * 1).__iadd__(y)  (x * 1).__isub__(2)  (x * 1).__imul__(y)  (x * 1).__itruediv__(y)  (p * 1).__ipow__(2)  (i * 1).__ifloordiv__(2)  (i * 1).__imod__(3)
b.clone().__iand__(c)  b.clone().__ior__(c)  b.clone().__ixor__(c)  (i * 1).__ilshift__(1)  (i * 1).__irshift__(1)  (i * 1).__itruediv__(2)
(i * 1).__iadd__(1.5)  (x * 1).__iadd__(t)  x.expand(2, 3, 4).__iadd__(1)  h + i  h * 2.5  n + n8  n + 1  n - 7  n * 100  i0 + h  i0 * n  s * i  s + x  s * h
x + i  x * b  i * b  i + b  b / b  b // b  n // n8  x // 0  z // 1  z % 1  z % -2.5  z / 0  i / 0  k / kk  k // kk  k % kk  i + 1j
"""

TABLE["pointwise"] = """
L.add(x, y, alpha=2)  x.add(y, alpha=0.5)  L.sub(x, y, alpha=2)  x.sub(1, alpha=3)  (x * 1).add_(y, alpha=2)  (x * 1).sub_(y, alpha=2)  i.add(j, alpha=2)
i.add(j, alpha=1.5)  b.add(c, alpha=True)  L.add(i, x, alpha=2)  L.add(X, Y, alpha=2, out=L.empty_like(X))  L.add(x, 2, alpha=2)
L.div(x, y, rounding_mode="floor")  L.div(x, y, rounding_mode="trunc")  x.div(y, rounding_mode=None)  L.div(i, j, rounding_mode="floor")
L.div(i, j, rounding_mode="trunc")  L.div(i, 2, rounding_mode="floor")  L.div(z, zz, rounding_mode="floor")  L.div(z, zz, rounding_mode="trunc")
L.div(x, y, rounding_mode="up")  (x * 1).div_(y, rounding_mode="floor")  (i * 1).div_(j, rounding_mode="floor")  (i * 1).div_(j)
L.round(x, decimals=1)  x.round(decimals=2)  (x * 100).round(decimals=-1)  (x * 1).round_(decimals=1)  L.round(k)  i.round()  L.round(z, decimals=2)
i.round(decimals=1)  L.logit(u, eps=0.3)  L.logit(z, eps=0.1)  u.logit(0.2)  L.logit(k, eps=0.25)  L.logit(z)
L.clamp(x, -1, 1)  L.clamp(x, min=0)  L.clamp(x, max=0.5)  x.clamp(min=-0.5, max=0.5)  L.clamp(x, X - 1, X + 1)  L.clamp(x, min=y)  L.clamp(x, max=y)
L.clamp(x, y, y + 0.5)  L.clamp(x, y + 0.5, y)  L.clamp(x)  L.clamp(x, 1, -1)  L.clamp(i, 0, 3)  L.clamp(i, 0.5, 3)  L.clamp(i, max=2)  L.clamp(z, -1, 1)
L.clamp(z, min=nan)  L.clamp(k, -1, 1)  L.clamp(k, 0.0, 2.0)  (x * 1).clamp_(0, 1)  (x * 1).clamp_(min=y)  (i * 1).clamp_(0.5)  L.clip(x, -1, 1)  x.clip(0)
L.clamp(k, kk, kk + 1)  L.clamp(x, min=v)  L.clamp(x, min=None, max=1)  L.clamp(e, 0, 1)  L.clamp(X, 0, 1, out=L.empty_like(X))  L.clamp(n, -1, 3)
L.clamp(i, i0)  L.clamp(i, s)  L.clamp_min(x, 0.5)  L.clamp_max(x, 0.5)  x.clamp_min(0)  x.clamp_max(y)  L.clamp_min(k, 0)  L.clamp_max(k, kk)  (x * 1).clamp_min_(0)
L.clamp_min(i, 1)  L.clamp_min(i, 1.5)  L.clamp_min(z, 0.0)
L.lerp(x, y, 0.3)  L.lerp(x, y, u)  x.lerp(y, 0.7)  x.lerp(y, s)  L.lerp(x, y, weight=0.5)  (x * 1).lerp_(y, 0.3)  L.lerp(i, j, 0.5)  L.lerp(x, q, v)
L.lerp(input=x, end=y, weight=0.5)  L.lerp(z, zz, 0.5)
L.addcmul(x, y, p)  L.addcmul(x, y, p, value=2)  x.addcmul(q, v, value=0.5)  (x * 1).addcmul_(y, p)  L.addcmul(i, j, j)  L.addcmul(i, j, j, value=1.5)
L.addcdiv(x, y, p)  L.addcdiv(x, y, p, value=2)  x.addcdiv(q, p)  (x * 1).addcdiv_(y, p, value=0.1)  L.addcdiv(i, j, j)  L.addcmul(x, i, y)
L.where(b, x, y)  L.where(b, x, 0.0)  L.where(b, 1.0, y)  L.where(b, x, q)  L.where(b, 1, 2)  L.where(b, 1.5, 2)  x.where(b, y)  L.where(b, i, x)  L.where(i, x, y)
L.where(b[0], x, y)  L.where(b)  L.where(rb.unsqueeze(1), x, s)  L.where(condition=b, input=x, other=y)  L.where(b, i, 2.5)  L.where(b, x, i)  L.where(n, x, y)
L.where(x > 0, x, 0)
x.masked_fill(b, 0)  L.masked_fill(x, b, 2.5)  x.masked_fill(b, s)  i.masked_fill(b, 7)  i.masked_fill(b, 1.5)  (x * 1).masked_fill_(b, 1)  x.masked_fill(vb, 0)
x.masked_fill(i, 0)  (i * 1).masked_fill_(b, 1.5)  x.masked_fill(b.unsqueeze(0).expand(2, 3, 4), 0)  x.masked_fill(mask=b, value=1)  (x * 1).masked_fill_(b.unsqueeze(0).expand(2, 3, 4), 0)
L.nan_to_num(z)  L.nan_to_num(z, 1.0)  L.nan_to_num(z, nan=1.0, posinf=2.0, neginf=-2.0)  z.nan_to_num(posinf=5)  L.nan_to_num(i)  (z * 1).nan_to_num_()  L.nan_to_num(z, 0.5, 1, 2)
L.isnan(z)  L.isinf(z)  L.isfinite(z)  z.isnan()  L.isnan(i)  L.isinf(i)  L.isfinite(i)  L.isnan(b)
L.isclose(x, y)  L.isclose(x, x + 1e-9)  L.isclose(z, zz)  L.isclose(z, z, equal_nan=True)  x.isclose(x * 1.001, rtol=0.01)  L.isclose(i, i)  L.isclose(x, q)
L.isclose(x, y, rtol=-1.0)  L.isclose(x, y, atol=10)  L.isclose(b, b)
L.allclose(x, y)  L.allclose(x, x)  x.allclose(x + 1e-10)  L.allclose(z, z, equal_nan=True)  L.allclose(x, q)  L.allclose(x, y, atol=10)
L.equal(x, y)  L.equal(x, x)  x.equal(x.clone())  L.equal(x, q)  L.equal(i, i)  L.equal(z, z)  L.equal(X, i)  L.equal(e, e)
L.logical_not(x)  L.logical_not(b)  i.logical_not()  b.clone().logical_not_()  (x * 1).logical_not_()  L.logical_not(z)  L.bitwise_not(i)  L.bitwise_not(b)
L.bitwise_not(x)  L.bitwise_not(n)  i.clone().bitwise_not_()  L.gt(X, 0, out=L.empty(3, 4, dtype=L.bool))  L.eq(X, Y, out=L.empty(3, 4))
L.hypot(k, kk)  L.atan2(k, kk)  L.logaddexp(z, z)  L.maximum(x, 1.0)  L.max(x, y)  L.min(x, y)  x.max(y)  L.pow(k, kk)  L.pow(L.abs(k), kk)  L.pow(s, x)
L.fmod(z, zz)  L.remainder(z, zz)  L.fmod(i, 0)  L.remainder(i, 0)  L.floor_divide(i, 0)  L.exp(X, out=X)  L.absolute(x)
x.float()  x.double()  x.int()  x.long()  x.bool()  x.short()  x.to(L.int32)  x.to(D) is x  i.float()  x.type_as(i)  x.to(i)  x.to("cpu") is x  x.to(dtype=L.float64)
z.bool()  k.long()  x.to(L.float64, copy=True).dtype  b.float()  n.to(L.int8)
"""

TABLE["double backward"] = [f"twice(L, L.{name}, {d})" for name, d in DOMAINED.items()]
TABLE["double backward"] += [
    f"twice(L, L.{name}, {'p' if name == 'pow' else 'x'}, y)" for name in BINARY if name != "floor_divide"
]
TABLE["double backward"] += [f"twice(L, L.{name}, k)" for name in DOMAINED if name != "logit"]
TABLE["double backward"] += [
    f"twice(L, L.{name}, k, kk)" for name in BINARY if name not in ("floor_divide", "pow", "atan2")
]
TABLE["double backward"] += [
    f"twice(L, lambda x: {e}, k)"
    for e in split("""
F.relu(x)  F.elu(x)  F.selu(x)  F.gelu(x)  F.silu(x)  F.softplus(x * 20)  F.mish(x)  x.clamp(-1, 1)  L.clamp_min(x, 0)  x ** 2  x ** 0  x ** 1
x ** 3  x.abs()  x.prod()  x.cumprod(0)  x.amax()  x.max()  x.std()  x.sort()[0]  (x * 0).norm(p=1)  x.norm(p=3)
""")
]
TABLE["double backward"] += [f"twice(L, lambda x: {e}, kt)" for e in ("x.prod(1)", "x.amax(1)", "x.norm(p=3, dim=1)")]
TABLE["double backward"] += [
    f"twice(L, lambda x: {e}, x)"
    for e in """
x.sum(1)  x.mean()  x.prod(1)  x.amax(1)  x.max(1)[0]  x.var(1)  x.std()  x.norm()  x.logsumexp(1)  x.cumsum(1)  x.cumprod(1)  x.softmax(1)  x.log_softmax(0)  x ** 2  x ** 3  2 / x  x.t() @ x  x.reshape(-1) ** 3
x.clamp(-1, 1) ** 2  F.relu(x) ** 2  F.gelu(x)  F.gelu(x, approximate="tanh")  F.silu(x)  F.elu(x)  F.selu(x)  F.softplus(x)  F.mish(x)  F.leaky_relu(x) ** 2  F.hardtanh(x) ** 2  F.layer_norm(x, (4,))  F.cross_entropy(x, classes)
F.mse_loss(x, Y)  F.binary_cross_entropy_with_logits(x, b.to(D))  L.where(b, x ** 2, x)  x.masked_fill(b, 0) ** 2  L.lerp(x, x * x, 0.3)  x[rows] ** 2  x.gather(1, col) ** 2  x.index_select(0, rows) ** 2  x.scatter(0, at, 0.5) ** 2  x.sort(1)[0] ** 2
L.cat([x, x * x]) ** 2  x.flip(0) ** 3  x.roll(1, 0) ** 3  x.tril() ** 3  x.repeat(2, 1) ** 3  x.expand(2, 3, 4) ** 3  x.diagonal() ** 3  x.unfold(1, 2, 1) ** 3  L.einsum("ij,kj->ik", x, x)  L.stack([x, x]).sum(0) ** 2  put(x, 0, 1.0) ** 2  x.narrow(1, 1, 2) ** 3
""".strip()
    .replace("\n", "  ")
    .split("  ")
]

reductions = []
for name in ("sum", "mean", "prod", "amax", "amin", "all", "any", "max", "min", "argmax", "argmin", "var", "std"):
    for d in ("x", "kt", "zt", "i", "b", "n", "s", "e", "t", "r"):
        reductions += (
            [f"L.{name}({d})"] if d != "b" or name not in ("argmax", "argmin") else []
        )  # bools are welcome here
    for d in ("x", "kt", "zt", "i", "r"):
        reductions += [f"{d}.{name}(1)", f"L.{name}({d}, dim=0)", f"{d}.{name}(dim=-1, keepdim=True)"]
    reductions += [f"{d}.{name}(dim=0)" for d in ("e", "s", "b", "n") if d != "b" or name not in ("argmax", "argmin")]
    reductions += [
        f"e.{name}(dim=1)",
        f"x.{name}(2)",
        f"x.{name}(-3)",
        f"t.{name}((0, 2))",
        f"t.{name}(dim=[0, -1], keepdim=True)",
        f"x.{name}((0, 0))",
    ]
    reductions += [
        f"x.{name}(axis=1)",
        f"x.{name}(axis=1, keepdims=True)",
        f"L.{name}(input=x, dim=1)",
        f"x.{name}(dim=None)",
        f"x.{name}(0, True)",
    ]
    reductions += [f"x.{name}(dim=())"] if name not in ("all", "any", "var", "std") else []
    reductions += [
        f"x.{name}(keepdim=True)",
        f"x.{name}('a')",
        f"x.{name}(1.5)",
        f"t.{name}(1)",
        f"s.{name}(-1)",
        f"s.{name}(0, keepdim=True)",
        "e.sum()",
    ]
TABLE["reductions"] = reductions + split("""
x.sum(dtype=L.float64)  i.sum(dtype=D)  x.sum(1, dtype=L.float64)  i.mean(dtype=D)  x.mean(dtype=L.float64)  i.prod(dtype=L.float64)  b.sum(0)  n.sum()  n8.prod(0)  h.sum()
i.sum(dtype=L.int32)  x.prod(0, dtype=L.float64)  kt.prod(1)  kt.prod()  L.tensor([0.0, 0.0, 2.0]).prod()  x.sum((0, 1))  x.sum([])  t.prod((0, 1))
x.var(unbiased=False)  x.var(1, unbiased=False)  x.std(1, False)  x.var(correction=0)  x.var(dim=0, correction=2)  x.var(dim=0, correction=3)  v[:1].var()  v[:1].std()
kt.std(1)  L.var_mean(x)  L.var_mean(x, 1)  L.var_mean(x, dim=0, keepdim=True, correction=0)  L.std(x, dim=(0, 1))  x.var(0, keepdim=True)  L.var(t, (0, 1))
L.logsumexp(x, 1)  x.logsumexp(dim=0, keepdim=True)  L.logsumexp(t, (0, 2))  L.logsumexp(zt, 1)  L.logsumexp(i, 1)  L.logsumexp(x, dim=-1)  L.logsumexp(x)  L.logsumexp(e, 0)  L.logsumexp(e, 1)
L.logsumexp(s, 0)  L.logsumexp(x * 1000, 1)  L.logsumexp(L.full((2, 2), -inf), 1)
L.norm(x)  x.norm()  x.norm(1)  x.norm(p=3)  x.norm(inf)  x.norm(-inf)  x.norm(0)  x.norm(dim=1)  x.norm(2, 1)  x.norm(p=1, dim=0)  x.norm(p=2, dim=(0, 1))  x.norm(dim=1, keepdim=True)
x.norm("fro")  x.norm(inf, 1)  zt.norm()  (x * 0).norm()  (x * 0).norm(1)  (x * 0).norm(3)  kt.norm(dim=1)  kt.norm(1, 1)  x.norm(0.5)  e.norm()  x.norm(1.5, 0)  x.norm(p=2, dim=[1])
x.norm(p="fro", dim=1)  L.norm(x, dtype=L.float64)  k.norm(inf)
L.count_nonzero(x)  k.count_nonzero()  kt.count_nonzero(1)  kt.count_nonzero(dim=(0, 1))  i.count_nonzero(0)  b.count_nonzero()  e.count_nonzero(0)  zt.count_nonzero()
L.cumsum(x, 0)  x.cumsum(1)  x.cumsum(dim=-1)  i.cumsum(0)  b.cumsum(0)  n.cumsum(1)  x.cumsum(1, dtype=L.float64)  i.cumsum(1, dtype=D)  zt.cumsum(1)  e.cumsum(0)  s.cumsum(0)  x.cumsum(2)  x.cumsum()
(x * 1).cumsum_(1)  r.cumsum(0)  t.cumsum(1)
L.cumprod(x, 0)  x.cumprod(1)  kt.cumprod(1)  i.cumprod(0)  b.cumprod(0)  zt.cumprod(1)  e.cumprod(0)  s.cumprod(0)  (x * 1).cumprod_(1)  r.cumprod(0)  x.cumprod(dim=1, dtype=L.float64)
x.max(0)[0]  x.max(dim=1).indices  x.max(1).values  x.min(dim=0, keepdim=True)  x.max(1, True)  L.max(k)  L.min(k, 0)  kt.max(1)  kt.min(1)  i.max(1)  n.min(0)  b.max(1)  zt.max(1)  zt.min(1)
x.argmax(1, True)  kt.argmax(1)  kt.argmin(1)  kt.argmax()  zt.argmax(1)  zt.argmin()  x.argmax(dim=0, keepdim=True)  x.argmax(keepdim=True)  e.argmax(0)  e.argmax(1)
x.amax((0, 1))  kt.amax()  kt.amax(1, keepdim=True)  kt.amin((0, 1))  x.amax(())  kt.max()  kt.min()  x.all(1)  x.any(0)  b.all()  e.all()  e.any()  n.all()  n.any(1)  x.all(dim=(0, 1))
L.sum(x, 0, out=L.empty(4))  x.sum(dim=0, keepdim=True, dtype=L.float64)
""")

TABLE["shape"] = """
x.reshape(4, 3)  x.reshape((2, 6))  x.reshape(-1)  x.reshape(2, -1)  x.reshape(5)  x.reshape(-1, -1)  x.reshape(-1, 5)  r.reshape(12)  r.reshape(4, 3)  e.reshape(4, 0)  e.reshape(-1, 4)  e.reshape(-1)  e.reshape(0, -1)
x.reshape(shape=(12,))  L.reshape(x, (6, 2))  s.reshape(1, 1)  s.reshape(())  x.reshape(3, 2, 2)  t.reshape(6, 4)  t.transpose(0, 1).reshape(3, 8)  x[:, ::2].reshape(-1)
x.view(4, 3)  x.view(-1)  x.view((2, 6))  r.view(12)  x.view(5)  x.view(2, -1)  x.view(size=(12,))  e.view(0, 2, 2)  t.view(2, 12)  t[:, 0].view(2, 4)  t[:, :2].view(2, 8)  t[:, :, :2].view(12)
x.view(x.shape)
x.flatten()  t.flatten(1)  t.flatten(0, 1)  L.flatten(t, start_dim=1, end_dim=2)  s.flatten()  t.flatten(2, 1)  r.flatten()  t.flatten(-2)  t.flatten(3)
x.unflatten(1, (2, 2))  x.unflatten(1, (2, -1))  x.unflatten(dim=-1, sizes=(4, 1))  x.unflatten(1, (3, 2))  L.unflatten(x, 0, (3, 1))
x.transpose(0, 1)  L.transpose(x, 0, -1)  t.transpose(dim0=1, dim1=2)  x.transpose(0, 2)  s.transpose(0, 0)  x.swapaxes(0, 1)  x.swapdims(0, 1)
x.permute(1, 0)  t.permute(2, 0, 1)  L.permute(t, (1, 2, 0))  t.permute((-1, 0, 1))  x.permute(0, 0)  x.permute(0)  t.permute(dims=(2, 1, 0))  x.permute(0, 2)
t.movedim(0, 2)  L.movedim(t, (0, 1), (2, 0))  t.movedim(-1, 0)  t.movedim((0, 0), (1, 2))  t.movedim(0, 3)  t.movedim(source=0, destination=1)
x.t()  L.t(x)  v.t()  s.t()  t.t()  x.T  v.T  x.mT  t.mT  v.mT
t.squeeze()  q.squeeze()  q.squeeze(1)  q.squeeze(0)  q.squeeze((0, 1))  q.squeeze(dim=-1)  q.squeeze(2)  s.squeeze()  s.squeeze(0)  L.squeeze(q)  L.squeeze(q, 1)
x.unsqueeze(0)  x.unsqueeze(-1)  x.unsqueeze(2)  L.unsqueeze(x, dim=1)  x.unsqueeze(3)  s.unsqueeze(0)  x.unsqueeze(-4)  e.unsqueeze(0)
q.expand(3, 4)  q.expand(2, 3, 4)  q.expand(-1, 4)  x.expand(2, -1, 4)  q.expand((3, 2))  x.expand(3, 5)  x.expand(3)  s.expand(2, 2)  q.expand(-1, -1, 4)  q.expand(size=(3, 4))  q.expand(3, 0)
q.expand_as(x)  x.expand_as(q)  L.broadcast_to(q, (3, 4))  v.broadcast_to((2, 4))  v.broadcast_to(3)
x.narrow(0, 1, 2)  L.narrow(x, 1, 0, 3)  x.narrow(0, 2, 2)  x.narrow(0, -1, 1)  x.narrow(0, 0, 0)  x.narrow(dim=1, start=1, length=2)  x.narrow(2, 0, 1)  x.narrow(0, 0, -1)  x.narrow(0, i0 - 2, 1)
x.select(0, 1)  x.select(1, -1)  L.select(x, dim=0, index=2)  x.select(0, 3)  s.select(0, 0)  x.select(0, -4)
x.diagonal()  x.diagonal(1)  x.diagonal(-1)  t.diagonal(0, 1, 2)  t.diagonal(offset=1, dim1=0, dim2=2)  x.diagonal(5)  L.diagonal(x)  v.diagonal()  x.diagonal(0, 0, 0)
v.unfold(0, 2, 1)  x.unfold(1, 2, 2)  x.unfold(dimension=0, size=3, step=1)  x.unfold(1, 5, 1)  v.unfold(0, 0, 1)  x.unfold(0, 2, 0)  t.unfold(1, 2, 1)
x.chunk(2)  x.chunk(2, 1)  v.chunk(3)  L.chunk(x, chunks=3, dim=0)  x.chunk(5, 1)  x.chunk(0)  e.chunk(2)  v.chunk(2, 1)
x.split(2)  x.split(2, 1)  x.split([1, 2])  x.split((1, 3), dim=1)  L.split(x, 2, dim=1)  x.split([1, 1])  x.split(0)  x.split(-1)  x.split(5)  e.split(2)  L.split(tensor=x, split_size_or_sections=2)  x.split([])
x.unbind()  x.unbind(1)  L.unbind(x, dim=-1)  s.unbind()  x.unbind(2)
L.as_strided(x, (2, 2), (4, 1))  x.as_strided((2, 2), (1, 4), 1)  x.as_strided((3, 3), (1, 1))  x.as_strided((), ())  x.as_strided((20,), (1,))  x.as_strided((2, 2), (1,))  r.as_strided((3,), (1,))
x.contiguous() is x  r.contiguous()  x.clone()  r.clone()  x.clone().is_contiguous()
L.cat([x, y])  L.cat((x, y), 1)  L.cat([x, q], dim=1)  L.cat([x, v])  L.cat([])  L.cat([x, i])  L.cat([x, L.empty(0)])  L.cat([x, e])  L.cat([s, s])  L.cat([i, b])  L.cat(tensors=[x, y], dim=-1)  L.cat([x, y], axis=1)
L.cat([x, x])  L.cat([x, y], 2)  L.cat([X, Y], out=L.empty(6, 4, dtype=D))  L.cat(x)  L.cat([x, 1])  L.cat([e, e], 1)  L.cat([x, x.double()])
L.stack([x, y])  L.stack((x, y), 1)  L.stack([x, y], dim=-1)  L.stack([s, s])  L.stack([x, q])  L.stack([])  L.stack([x, i])  L.stack([x, y], 3)  L.stack([v], 1)  L.stack([e, e])
L.hstack([x, y])  L.hstack([v, w])  L.hstack([s, s])  L.vstack([x, y])  L.vstack([v, v])  L.vstack([s, s])  L.vstack([v, x])  L.vstack([v, w])  L.hstack((x, q))
x.repeat(2, 1)  x.repeat(2, 1, 2)  v.repeat(3)  x.repeat(2)  x.repeat((1, 2))  s.repeat(2)  x.repeat(0, 1)  x.repeat(-1, 1)  i.repeat(1, 2)  e.repeat(2, 2)
L.tile(x, (2,))  x.tile(2, 1)  x.tile((1, 1, 2))  v.tile(2, 2)  x.tile(0)  s.tile(2)
x.flip(0)  x.flip(0, 1)  x.flip((1,))  L.flip(x, [0, -1])  x.flip(2)  x.flip(0, 0)  t.flip(dims=(1,))  s.flip(())  i.flip(1)  L.flip(x, (0,))
x.roll(1)  x.roll(1, 0)  x.roll((1, 2), (0, 1))  L.roll(x, shifts=-1, dims=1)  x.roll(1, 2)  x.roll((1, 2), 0)  x.roll(5, 1)  e.roll(1, 0)  x.roll((1, 1), (0, 0))  i.roll(1)
x.size()  x.size(0)  x.size(-1)  x.size(2)  x.shape  x.stride()  r.stride()  x.stride(1)  x.dim()  x.ndim  x.numel()  x.nelement()  x.itemsize  x.is_contiguous()
r.is_contiguous()  x.is_floating_point()  x.storage_offset()  x[1].storage_offset()  x[:, 1].stride()  x.shape.numel()
x.is_leaf  (x * 1).is_leaf  X.is_leaf  x.requires_grad  (x * 1).grad_fn.name()  x.grad_fn  x.grad  x._version  (x * 1).detach().requires_grad  L.squeeze(q).is_leaf
"""

TABLE["indexing"] = """
x[0]  x[-1]  x[3]  x[-4]  x[0, 1]  x[0, 1, 0]  x[1:]  x[:, 1]  x[..., 0]  x[0, ...]  x[None]  x[:, None]  x[..., None]  x[::2]  x[1:3, ::3]  x[5:]  x[2:1]  x[-2:]  x[...]  x[()]  x[:, :]  s[...]  s[()]  s[None]  s[0]  x[True]  x[False]
x[None, 0]  x[..., 1:2, None]  x[..., ...]  t[0, :, 1]  t[..., 0]  t[:, 0, ::2]  x[1:2.5]  x["a"]  x[1.5]  x[i0 - 2]  x[i0]  x[i0 - 2, 1]  x[i0 - 3:i0]
x[rows]  x[[0, 2]]  x[[2, 0, 0]]  x[:, cols]  x[rows, 1]  x[rows, classes]  x[rows.unsqueeze(1), cols]  x[[0, 1], [1, 2]]  t[:, rows]  t[0, rows]  t[:, rows, 0]  t[0, :, cols]  t[[0, 1], :, [1, 2]]  t[:, [0, 1], [1, 2]]  t[..., cols]  t[[0], [1]]
x[b]  x[rb]  x[:, vb]  x[b] * 2  x[vb]  x[rb, 1]  x[rb, rows[:2]]  x[x > 0]  t[:, b]  t[0][b]  i[b]  x[b & False]  s[s > 0]  s[s > 9]  x[rb, vb]  x[rb][:, vb]  x[rows[:0]]  x[ie]  x[[]]  x[n[0, :2].long()]  x[h[0] % 3]
x[[5]]  x[[-1]]  x[[-4]]  x[[0, 1], [0, 1, 2]]  x[rows, rows, rows]  x[1.0]  x[L.tensor([0.0])]  x[None, rows]  x[rows, None]  x[rows, ..., 1]  x[..., rows, 1]  x[1:, cols]  x[::2, [1, 2]]  x[rows > 0]  x[(0, 1)]  x[[True, False, True]]  x[n[0] > 2, 0]
t[1, rows, cols[:3]]  t[rows[:2] > 0]  t[:, :, vb]  x[slice(0, 2)]  x[0][1]  x[0:2][1]  x[L.tensor(1)]  x[L.tensor(True)]  x[[0, 2]][:, [1, 3]]  i[rows]  b[rows]  e[:, 1]  e[0]  e[e > 0]  e[[]]
put(x, 0, 1.0)  put(x, 0, v)  put(x, (0, 1), 5)  put(x, slice(1, None), y[1:])  put(x, (slice(None), 1), w)  put(x, Ellipsis, 0)  put(x, b, 0.0)  put(x, b, y[b])  put(x, rb, v)  put(x, rows, 2.0)  put(x, [0, 1], v)  put(x, ([0, 1], [1, 2]), 3.0)
put(x, (slice(None), cols), y)  put(x, (slice(None), vb), 0)  put(x, None, y)  put(x, 0, w)  put(x, b, w)  put(x, 5, 1)  put(x, (0, 0, 0), 1)  put(i, 0, 2.7)  put(i, b, 9)  put(x, 0, i[0])  put(i, 0, x[0])  put(b, 0, True)  put(x, 0, True)
put(x, slice(0, 0), 1)  put(x, x > 0, 0)  put(t, (0, rows[:2]), 1)  put(t, (slice(None), b), 0)  put(x, (slice(None, None, 2), 1), q[:2, 0])  put(x, rb, y[:2])  put(x, True, 1.0)  put(s, (), 2.0)  put(s, Ellipsis, 2.0)  put(x, 0, "a")  put(x, 0, None)
put(x, 0, s)  put(x, b, s)  put(X, 0, v)  put(X, rows, y)  put(x, slice(None), y)  put(x, (0, slice(1, 3)), v[:2])  put(x, i0 - 2, 1.0)  put(x, [], 1)  put(x, 0, v.unsqueeze(0))  put(v, 0, s.reshape(1))  put(x, (0, 0), s.reshape(1, 1))  put(x, slice(None), t[:1])  put(x, (0, [0, 1]), v[:2])  put(x, [0, 2], y[:2])  put(i, [0], 1.5)  put(n, 0, 300)  put(x, 0, N(2))
put(x, 0, [1.0, 2.0, 3.0, 4.0])  put(x, 0, np_row)
L.gather(x, 0, at)  x.gather(1, col)  x.gather(dim=-1, index=col)  x.gather(0, rows)  x.gather(1, at)  x.gather(0, i)  i.gather(0, at)  x.gather(2, at)  x.gather(0, x)  s.gather(0, L.tensor(0))  x.gather(0, h.abs() % 3)  t.gather(1, L.zeros(2, 1, 4, dtype=L.int64))  x.gather(0, L.zeros(0, 4, dtype=L.int64))  x.gather(0, at - 1)
x.scatter(0, at, y)  x.scatter(0, at, 2.0)  L.scatter(x, 1, col, y)  x.scatter(dim=1, index=col, src=y)  x.scatter(0, at + 5, y)  (x * 1).scatter_(0, at, y)  (x * 1).scatter_(1, col, 0.5)  i.scatter(0, at, 1)  i.scatter(0, at, 1.5)  x.scatter(0, at, i)  x.scatter(1, col, value=1.0)  x.scatter(0, at, y, reduce="add")
x.scatter_add(0, at, y)  L.scatter_add(x, 1, col, y)  (x * 1).scatter_add_(0, at, y)  i.scatter_add(0, at, j)  x.scatter_add(0, at, i)  x.scatter_add(0, at, y[:1])  x.scatter_add(0, L.zeros(2, 4, dtype=L.int64), y)  x.scatter_add(0, at, 1.0)
x.index_select(0, rows)  L.index_select(x, 1, cols)  x.index_select(dim=0, index=rows)  x.index_select(0, at)  x.index_select(0, rows + 5)  x.index_select(0, rows - 1)  i.index_select(0, rows)  x.index_select(0, i0 - 2)  x.index_select(0, ie)  x.index_select(0, rows.int())  t.index_select(1, rows)  x.index_select(0, rows.float())  e.index_select(0, ie)
x.index_add(0, rows, y)  L.index_add(x, 1, cols, y)  x.index_add(0, rows, y, alpha=2)  (x * 1).index_add_(0, rows, y)  x.index_add(0, rows, y[:2])  i.index_add(0, rows, j)  x.index_add(0, rows, i)  x.index_add(0, rows + 5, y)  x.index_add(dim=0, index=rows, source=y)  x.index_add(0, L.tensor([1, 1, 1]), y)
x.take_along_dim(at, 0)  L.take_along_dim(x, col, dim=1)  x.take_along_dim(L.tensor([[0], [1], [2]]), 1)  x.take_along_dim(rows)  x.take_along_dim(x.argsort(1), 1)  x.take_along_dim(at, 1)  x.take_along_dim(indices=at, dim=0)  x.take_along_dim(x, 0)
x.masked_select(b)  L.masked_select(x, vb)  x.masked_select(mask=b)  q.masked_select(b)  i.masked_select(b)  x.masked_select(i)  x.masked_select(rb)  x.masked_select(b & False)
L.nonzero(i)  i.nonzero()  b.nonzero()  L.nonzero(i, as_tuple=True)  k.nonzero()  s.nonzero()  e.nonzero()  (s * 0).nonzero()  i.nonzero(as_tuple=True)  zt.nonzero()  x.nonzero(as_tuple=False)
L.topk(x, 2)  x.topk(3)  x.topk(2, 0)  x.topk(2, dim=1, largest=False)  x.topk(5)  x.topk(0)  i.topk(2)[0]  v.topk(4, sorted=True)  x.topk(-1)  s.topk(1)  zt.topk(2)[0]  x.topk(2).values  x.topk(k=1, dim=0).indices  x.topk(2, 2)
L.sort(x)  x.sort(0)  x.sort(descending=True)  x.sort(dim=1, descending=True)  kt.sort(stable=True)  kt.sort(stable=True, descending=True)  i.sort()[0]  i.sort(dim=0, stable=True)  zt.sort()[0]  zt.sort(descending=True)[0]  s.sort()  e.sort()  x.sort(2)  b.sort(stable=True)  n.sort(descending=True)[0]  x.sort().values  x.sort(0, True)
L.argsort(x)  x.argsort(0)  x.argsort(descending=True)  x.argsort(dim=0, descending=True)  kt.argsort(stable=True)  i.argsort(stable=True)  i.argsort(stable=True, descending=True)  n.argsort(stable=True, descending=True)  zt.argsort(stable=True)  zt.argsort(stable=True, descending=True)  s.argsort()  e.argsort()  x.argsort(5)
"""

TABLE["linear algebra"] = """
L.matmul(x, m)  x.matmul(v)  L.matmul(v, m)  L.matmul(t, m)  L.matmul(t, bt)  L.matmul(x, bt)  L.matmul(w, t)  L.matmul(t, v)  L.matmul(v, v)  L.matmul(x, y)  L.matmul(s, x)  L.matmul(x, s)  L.matmul(i, j.t())  L.matmul(x, m.double().float())  L.matmul(x, i.t())
L.matmul(e, m)  L.matmul(m.t(), x.t()).shape  L.matmul(x.t(), x)  L.matmul(x, x.t())  L.matmul(t, t)  L.matmul(t.unsqueeze(1), bt)  L.matmul(x[:, :0], m[:0])  L.matmul(v[:0], v[:0])  L.matmul(X, m.detach(), out=L.empty(3, 2, dtype=D))  L.matmul(b, b.t())  L.matmul(x[:, ::2], m[::2])  L.matmul(input=x, other=m)  L.matmul(t.transpose(1, 2), t)
L.mm(x, m)  x.mm(m)  L.mm(x, v)  L.mm(x, y)  L.mm(i, j.t())  L.mm(input=x, mat2=m)  L.mm(x, i.t())  L.mv(x, v)  x.mv(v)  L.mv(x, w)  L.mv(v, x)  L.mv(i, j[0])  L.mv(input=x, vec=v)  L.bmm(t, bt)  t.bmm(bt)  L.bmm(x, m)  L.bmm(t, t)  L.bmm(t, bt[:1])  L.bmm(input=t, mat2=bt)
L.dot(v, v)  v.dot(x[0])  L.dot(v, w)  L.dot(x, x)  L.dot(i[0], j[0])  L.dot(input=v, tensor=v)  L.dot(v[:0], v[:0])  L.dot(v, i[0])  L.outer(v, w)  v.outer(v)  L.outer(x, v)  L.outer(i[0], j[0])  L.outer(input=v, vec2=w)  L.outer(v, i[0])
L.addmm(x[:, :2], x, m)  L.addmm(v[:2], x, m)  L.addmm(x[:, :2], x, m, beta=0.5, alpha=2)  x[:, :2].addmm(x, m)  L.addmm(s, x, m)  L.addmm(x[:, :2] * nan, x, m, beta=0)  L.addmm(x, x, m)  L.addmm(i[:, :2], i, j.t()[:, :2])  (x[:, :2] * 1).addmm_(x, m)  L.addmm(w, x, m)  L.addmm(input=v[:2], mat1=x, mat2=m)
F.linear(x, m.t())  F.linear(x, m.t(), v[:2])  F.linear(v, m.t())  F.linear(t, m.t(), v[:2])  F.linear(x, v)  F.linear(x, m)  F.linear(input=x, weight=m.t(), bias=v[:2])  F.linear(v, v)  F.linear(e, m.t())  F.linear(x, m.t(), bias=None)
L.einsum("ij,jk->ik", x, m)  L.einsum("ij,jk", x, m)  L.einsum("ij->ji", x)  L.einsum("ij->", x)  L.einsum("ij->j", x)  L.einsum("ii->i", g)  L.einsum("ii", g)  L.einsum("bij,bjk->bik", t, bt)  L.einsum("...ij,...jk->...ik", t, bt)  L.einsum("...j,jk", t, m)  L.einsum("i,i", v, v)  L.einsum("i,j->ij", v, w)
L.einsum("i,j,ij->", w, v, x)  L.einsum("ij,jk,k->i", x, m, v[:2])  L.einsum("ba", x)  L.einsum("...->...", x)  L.einsum("i...->...", x)  L.einsum("...", x)  L.einsum("ij,ij->i", x, y)  L.einsum("ij , jk -> ik", x, m)  L.einsum("ij,jk->ki", x, m)  L.einsum("ij,jk->ik", [x, m])  L.einsum("ijk->kij", t)  L.einsum("bij,bij->b", t, t)
L.einsum("ij,kj->ik", x, y)  L.einsum("...i,...i", x, v)  L.einsum("a...b,b...->a...", t, v.unsqueeze(1))  L.einsum("iij->j", L.stack([g, g], 2))  L.einsum("i,i->i", v, v)  L.einsum(",ij->ij", s, x)  L.einsum("ij,jk->il", x, m)  L.einsum("ij,jk", x, x)  L.einsum("ij", x, y)  L.einsum("ijk", x)  L.einsum("ij->ijk", x)  L.einsum("ij->ii", x)  L.einsum("i$", x)  L.einsum("Ab,bC->AC", x, m)  L.einsum("ij,jk->ik", i, j.t())
L.einsum("b...,b...->...", t, t)  L.einsum("ij,j->i", x, v)  L.einsum("ij,i->j", x, w)  L.einsum("bik,bjk->bij", t, t)  L.einsum("ij,jk,kl,lm->im", x, m, m.t(), m)
L.tensordot(x, m, 1)  L.tensordot(x, m, dims=([1], [0]))  L.tensordot(t, t, dims=([0, 2], [0, 2]))  L.tensordot(x, y)  L.tensordot(v, w, 0)  L.tensordot(x, y, 2)  L.tensordot(x, m, dims=([0], [0]))  L.tensordot(t, bt, dims=([-1], [1]))  L.tensordot(x, m, dims=([1, 0], [0]))  L.tensordot(i, j, 2)
"""

TABLE["nn.functional"] = """
F.softmax(x, 1)  F.softmax(x, dim=0)  L.softmax(x, -1)  x.softmax(1)  F.softmax(zt, 1)  F.softmax(x * 1000, 1)  F.softmax(i, 1)  F.softmax(x, 2)  F.softmax(e, 1)  F.softmax(e, 0)  F.softmax(s, 0)  F.softmax(i, 1, dtype=D)  F.softmax(x, 1, dtype=L.float64)  F.softmax(t, 1)  F.softmax(L.full((2, 2), -inf), 1)
F.softmax(r, 0)  F.softmax(kt, 1)
F.log_softmax(x, 1)  F.log_softmax(x, dim=0)  x.log_softmax(-1)  L.log_softmax(t, 1)  F.log_softmax(zt, 1)  F.log_softmax(x * 1000, 1)  F.log_softmax(i, 1)  F.log_softmax(e, 0)  F.log_softmax(s, 0)  F.log_softmax(x, 1, dtype=L.float64)  F.log_softmax(x, 2)  F.log_softmax(L.full((2, 2), -inf), 1)
F.cross_entropy(x, classes)  F.cross_entropy(x, classes, reduction="sum")  F.cross_entropy(x, classes, reduction="none")  F.cross_entropy(x, classes, weight=V.abs())  F.cross_entropy(x, L.tensor([1, -100, 2]))  F.cross_entropy(x, classes, ignore_index=1)  F.cross_entropy(x, classes, label_smoothing=0.1)
F.cross_entropy(x, classes, weight=V.abs(), label_smoothing=0.2)  F.cross_entropy(x, u.softmax(1))  F.cross_entropy(x, u.detach().softmax(1), label_smoothing=0.1)  F.cross_entropy(x, u.detach().softmax(1), weight=V.abs())  F.cross_entropy(x, u.detach().softmax(1), reduction="none")  F.cross_entropy(v, L.tensor(2))
F.cross_entropy(t, L.tensor([[0, 1, 2, 0], [1, 1, 2, 2]]))  F.cross_entropy(t, L.tensor([[0, 1, 2, 0], [1, 1, 2, 2]]), reduction="none")  F.cross_entropy(x, L.tensor([1, 4, 0]))  F.cross_entropy(x, L.tensor([1, 2]))  F.cross_entropy(x, classes, reduction="max")  F.cross_entropy(x, classes.int())  F.cross_entropy(x, L.tensor([-100, -100, -100]))
F.cross_entropy(x, classes, weight=V.abs(), ignore_index=1)  F.cross_entropy(x * 1000, classes)  F.cross_entropy(input=x, target=classes)  F.cross_entropy(x, classes, ignore_index=1, label_smoothing=0.1)  F.cross_entropy(x, classes, weight=w.detach())  F.cross_entropy(e, ie)  F.cross_entropy(t, T.softmax(1))  F.cross_entropy(x, classes, label_smoothing=2.0)
F.nll_loss(x, classes)  F.nll_loss(x, classes, reduction="sum")  F.nll_loss(x, classes, reduction="none")  F.nll_loss(x, classes, weight=V.abs())  F.nll_loss(x, L.tensor([1, -100, 2]))  F.nll_loss(x, L.tensor([1, 4, 0]))  F.nll_loss(v, L.tensor(2))  F.nll_loss(t, L.tensor([[0, 1, 2, 0], [1, 1, 2, 2]]))  F.nll_loss(x, classes, ignore_index=0)  F.nll_loss(x, L.tensor([-1, 0, 1]))
F.mse_loss(x, y)  F.mse_loss(x, y, reduction="sum")  F.mse_loss(x, y, reduction="none")  F.mse_loss(x, i)  F.mse_loss(e, e)  F.mse_loss(x, y, reduction="max")  F.mse_loss(input=x, target=y)  F.mse_loss(x, t)  F.mse_loss(i, j)
F.l1_loss(x, y)  F.l1_loss(x, y, reduction="sum")  F.l1_loss(x, y, reduction="none")  F.l1_loss(k, kk)  F.l1_loss(e, e)  F.l1_loss(x, y, reduction="max")  F.l1_loss(x, x)
F.binary_cross_entropy_with_logits(x, u)  F.binary_cross_entropy_with_logits(x, u, reduction="sum")  F.binary_cross_entropy_with_logits(x, u, reduction="none")  F.binary_cross_entropy_with_logits(x, u, weight=V.abs())  F.binary_cross_entropy_with_logits(x, u, pos_weight=V.abs())  F.binary_cross_entropy_with_logits(x * 1000, b.to(D))
F.binary_cross_entropy_with_logits(x, v)  F.binary_cross_entropy_with_logits(k, kk.abs() / 4)  F.binary_cross_entropy_with_logits(z, zz)  F.binary_cross_entropy_with_logits(x, b)  F.binary_cross_entropy_with_logits(x, u, reduction="max")
F.dropout(x, 0.0)  F.dropout(x, 1.0)  F.dropout(x, 0.5, training=False)  F.dropout(x, 0.5, False) is x  F.dropout(x, -0.1)  F.dropout(x, 1.5)  F.dropout(x, 0.5).shape  F.dropout(input=x, p=0.0)  F.dropout(x).shape
F.layer_norm(x, (4,))  F.layer_norm(x, [4], v)  F.layer_norm(x, (4,), v, v * 2)  F.layer_norm(t, (3, 4))  F.layer_norm(t, (3, 4), x, y)  F.layer_norm(x, (4,), eps=0.1)  F.layer_norm(x, (3,))  F.layer_norm(x, (4,), weight=v, bias=v)  F.layer_norm(kt, (4,))  F.layer_norm(e, (4,))  F.layer_norm(x, (4,), bias=v)  F.layer_norm(x, 4)  F.layer_norm(i, (4,))  F.layer_norm(x, (4,), w)
F.embedding(rows, x)  F.embedding(at, x)  F.embedding(rows, x, padding_idx=0)  F.embedding(rows, x, padding_idx=-1)  F.embedding(rows + 5, x)  F.embedding(rows, x, padding_idx=7)  F.embedding(i0 - 2, x)  F.embedding(ie, x)  F.embedding(rows.float(), x)  F.embedding(rows.int(), x)  F.embedding(input=rows, weight=x)  F.embedding(rows - 1, x)
"""

TABLE["python"] = """
s.item()  i0.item()  b[0, 0].item()  x.item()  v[:1].item()  e.item()  x.tolist()  i.tolist()  b.tolist()  s.tolist()  e.tolist()  t.tolist()  bool(s)  bool(s * 0)  bool(x)  bool(e)  bool(v[:1])  float(s)  float(i0)  float(x)  int(i0)  int(s * 10)  int(x)  len(x)  len(s)  len(e)
list(x)  [row.shape for row in t]  list(s)  list(e)  2.0 in k  7.0 in k  k[2] in k  "a" in k  format(s, ".3f")  format(i0, "03d")  format(i0, "")  f"{s:.2f}"  format(x, "")  format(x, ".3f")  hash(x) == hash(x)  x in [x]  {x: 1}[x]  x is x  (x == x).all()  [10, 20, 30, 40][i0]  range(i0)  [1, 2][s]  complex(s)  round(s)  round(s, 2)
X.numpy()  x.numpy()  x.detach().numpy()  X.numpy().base is not None  i.numpy().dtype  r.detach().numpy().strides == X.numpy().T.strides  np_asarray(X)  np_asarray(x)  np_asarray(X, dtype="float64").dtype  X.__array__().shape  L.from_numpy(np_row)  L.from_numpy(np_row).dtype  L.from_numpy([1])  L.from_numpy(np_row[:2]).stride()  shared(L)
pickled(X)  pickled(x)  pickled(i)  pickled(e)  pickled(r.detach())  copied(X)  copied(x)  deep(x)  deep(X)  deep(x * 2)  deep([x, x])  copied(x) is x  deep(X).data_ptr() == X.data_ptr()  copied(X).data_ptr() == X.data_ptr()  pickled(x).requires_grad
divmod(i, 3)  max(k)  sum(v)  sorted(V.tolist())  all(vb)  any(vb)  reversed(v)  x.__len__()  L.Size([2, 3])  tuple(x.shape)  x.shape == (3, 4)  x.shape[0]  x.shape + (1,)  L.Size([2, 3]).numel()  str(L.float32).split(".")[-1]  D.is_floating_point  L.int64.itemsize  L.float is L.float32  L.long is L.int64  L.double is L.float64
isinstance(x, L.Tensor)  type(x * 1) is L.Tensor  L.Tensor([1.0, 2.0])  L.promote_types(L.int32, L.float32)  L.get_default_dtype()  L.is_grad_enabled()
x.data_ptr() == x.detach().data_ptr()  x.requires_grad_(False).requires_grad  i.requires_grad_()  X.requires_grad_().requires_grad  (x * 1).requires_grad_(False)  x.detach_().requires_grad  x.retain_grad()  X.retain_grad()  X.backward()  x.backward()  x.sum().backward()  x.backward(y)  x.backward(v)  x.sum().backward(L.ones(3))
L.autograd.grad(x.sum(), x)  L.autograd.grad((x * y).sum(), [x, y])  L.autograd.grad(x.sum(), y)  L.autograd.grad(x.sum(), y, allow_unused=True)  L.autograd.grad(x * 2, x, y)  L.autograd.grad(x * 2, x)  L.autograd.grad(x.sum(), X)  L.autograd.grad((x ** 2).sum(), x, create_graph=True)[0]  L.autograd.grad([x.sum(), y.sum()], [x, y])
L.autograd.grad(X.sum(), x)  L.autograd.grad(s * 2, s, retain_graph=True)  L.autograd.grad(x[0, 0], x)
L.no_grad()(lambda: (x * 2).requires_grad)()  L.enable_grad()(lambda: (x * 2).requires_grad)()  x.copy_(y)  X.copy_(Y)  X.copy_(i)  i.clone().copy_(X)  X.copy_(V)  X.copy_(T)  X.fill_(2)  X.fill_(s)  i.clone().fill_(2.7)  X.zero_()  x.zero_()
X.fill_(x)  x.sum_to_size(3, 1)  x.sum_to_size(5)
"""


def expressions():
    """(group, expression), each expression once."""
    seen = {}
    for group, block in TABLE.items():
        for e in split(block) if isinstance(block, str) else block:
            seen.setdefault(e, group)
    return [(group, e) for e, group in seen.items()]
