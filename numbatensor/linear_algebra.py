"""Products of tensors."""

import math

from numbatensor.core.autocast import LOWER, cast_tensor
from numbatensor.hollow import hollow
from numbatensor.making import as_operand
from numbatensor.ops import structured
from numbatensor.tensor import Tensor


def matmul(input, other):
    """Matrix product of two tensors, of all ranks, with broadcast batch dimensions."""
    x, y = as_operand(input), as_operand(other)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError("matmul(): both arguments must be Tensors")
    if x.dtype is not y.dtype:
        x, y = (cast_tensor(t, LOWER) for t in (x, y))
    if x.dtype is not y.dtype:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {x.dtype.name} != {y.dtype.name}")
    if x.ndim > 1 and y.ndim > 1:
        return structured.matmul(x, y)  # which refuses shapes that do not fit
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {x.ndim}D and {y.ndim}D")
    k = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != k:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, x.shape))} and {'x'.join(map(str, y.shape))})"
        )
    if hollow((x, y)) is None and min(x.ndim, y.ndim) == 1 and max(x.ndim, y.ndim) <= 2:
        if x.ndim == y.ndim:
            return structured.dot(x, y)
        return structured.linear(y, x) if y.ndim == 1 else structured.linear(x, y.mT)
    made = structured.matmul(x if x.ndim > 1 else x.unsqueeze(0), y if y.ndim > 1 else y.unsqueeze(1))
    made = made if y.ndim > 1 else made.squeeze(-1)
    return made if x.ndim > 1 else made.squeeze(-1 if y.ndim == 1 else -2)


def mm(input, mat2):
    """Product of two matrices."""
    if input.ndim != 2 or mat2.ndim != 2:
        raise RuntimeError(f"mm: expected matrices, got {input.ndim}D and {mat2.ndim}D tensors")
    return input @ mat2


def mv(input, vec):
    """Product of a matrix and a vector."""
    return input @ vec


def bmm(input, mat2):
    """Products of two batches of matrices."""
    if input.ndim != 3 or mat2.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if input.shape[0] != mat2.shape[0] or input.shape[2] != mat2.shape[1]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: {[input.shape[0], input.shape[2]]} but got: "
            f"{list(mat2.shape[:2])}."
        )
    return input @ mat2


def dot(input, tensor):
    """Sum of the products of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return input @ tensor


def outer(input, vec2):
    """Products of all pairs of elements of two vectors."""
    for name, x in (("self", input), ("vec2", vec2)):
        if x.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x.ndim}-D")
    return input.unsqueeze(-1) * vec2


def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """``beta * input + alpha * mat1 @ mat2``"""
    return structured.addmm(input, mat1, mat2, beta, alpha)


def tensordot(a, b, dims=2):
    """Sum of products over several dimensions of two tensors."""
    if isinstance(dims, int):
        over_a, over_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        over_a, over_b = (
            [d % t.ndim for d in ([ds] if isinstance(ds, int) else ds)] for t, ds in zip((a, b), dims, strict=True)
        )
    keep_a, keep_b = ([d for d in range(t.ndim) if d not in over] for t, over in ((a, over_a), (b, over_b)))
    n = math.prod(a.shape[d] for d in over_a)
    x, y = a.permute(*keep_a, *over_a).reshape(-1, n), b.permute(*over_b, *keep_b).reshape(n, -1)
    return (x @ y).reshape(*[a.shape[d] for d in keep_a], *[b.shape[d] for d in keep_b])


def parse(equation, operands):
    """The letters of every operand and of the result of an einsum; the dimensions that `...` stands for are capital letters' codes."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        more = "more" if len(operands) > len(terms) else "fewer"
        raise RuntimeError(f"einsum(): {more} operands were provided than specified in the equation")
    found, widest = [], 0
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        head, dots, rest = term.partition("...")
        letters = head + rest
        if not all(c.isalpha() and c.isascii() for c in letters):
            raise RuntimeError(f"einsum(): invalid subscript given in {term!r}, subscripts must be in [a-zA-Z]")
        n = x.ndim - len(letters)
        if n < 0 or (n and not dots):
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(letters)}) does not match the number of dimensions "
                f"({x.ndim}) for operand {k}" + ("" if dots else " and no ellipsis was given")
            )
        widest = max(widest, n)
        found.append((head, n if dots else None, rest))
    spread = [f".{i}" for i in range(widest)]  # the dimensions of the ellipsis, counted from the front of the widest
    known = [[*head, *(spread[widest - n :] if n else []), *rest] for head, n, rest in found]
    if arrow:
        head, dots, rest = right.partition("...")
        out = [*head, *(spread if dots else []), *rest]
        for c in out:
            if out.count(c) > 1:
                raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
            if not any(c in letters for letters in known):
                raise RuntimeError(
                    f"einsum(): output subscript {c} does not appear in the equation for any input operand"
                )
    else:
        every = [c for letters in known for c in letters]
        out = spread + sorted(c for c in set(every) if every.count(c) == 1 and c[0] != ".")
    return known, out


def diagonals(x, letters):
    """An operand without letters that appear twice: those dimensions become their diagonal."""
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            i = letters.index(c)
            j = letters.index(c, i + 1)
            if x.shape[i] != x.shape[j]:
                raise RuntimeError(
                    f"einsum(): subscript {c} is repeated for an operand but the sizes don't match, {x.shape[j]} != {x.shape[i]}"
                )
            x = x.diagonal(0, i, j)
            letters = [d for k, d in enumerate(letters) if k not in (i, j)] + [c]
    return x, letters


def arranged(x, letters, groups, sizes):
    """An operand with its dimensions joined into groups of letters; letters that it lacks count as size 1."""
    order = [c for group in groups for c in group if c in letters]
    x = x.permute(*[letters.index(c) for c in order]) if order else x
    return x.reshape([math.prod(sizes[c] for c in group) if group else 1 for group in groups])


def contracted(x, x_letters, y, y_letters, keep):
    """The product of two operands, summed over the letters that are not kept: one batched matrix product."""
    sizes = {}
    for t, letters in ((x, x_letters), (y, y_letters)):
        for c, n in zip(letters, t.shape, strict=True):
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
            if n not in (1, sizes[c]):
                raise RuntimeError(
                    f"einsum(): subscript {c} has size {n} for an operand which does not broadcast with previously seen size {sizes[c]}"
                )
    alone = lambda letters, other: [k for k, c in enumerate(letters) if c not in other and c not in keep]
    for gone in ([*alone(x_letters, y_letters)],):
        if gone:
            x, x_letters = x.sum(gone), [c for k, c in enumerate(x_letters) if k not in gone]
    for gone in ([*alone(y_letters, x_letters)],):
        if gone:
            y, y_letters = y.sum(gone), [c for k, c in enumerate(y_letters) if k not in gone]
    x = x.expand(*[sizes[c] if c in y_letters else n for c, n in zip(x_letters, x.shape, strict=True)])
    y = y.expand(*[sizes[c] if c in x_letters else n for c, n in zip(y_letters, y.shape, strict=True)])
    shared = [c for c in x_letters if c in y_letters]
    batch, inner = [c for c in shared if c in keep], [c for c in shared if c not in keep]
    left, right = [c for c in x_letters if c not in shared], [c for c in y_letters if c not in shared]
    made = arranged(x, x_letters, (batch, left, inner), sizes) @ arranged(y, y_letters, (batch, inner, right), sizes)
    letters = batch + left + right
    return made.reshape([sizes[c] for c in letters]), letters


def einsum(equation, *operands):
    """Sums of products written by index letters, such as ``"bij,bjk->bik"``; ``...`` stands for any leading dimensions.

    Operands are contracted from left to right, each pair as one batched matrix product.

    Raises
    ------
    RuntimeError
        If letters, operands and sizes do not fit together.
    """
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    known, out = parse(equation, operands)
    pairs = [diagonals(x, letters) for x, letters in zip(operands, known, strict=True)]
    (made, letters), rest = pairs[0], pairs[1:]
    for k, (x, x_letters) in enumerate(rest):
        keep = {*out, *[c for _, more in rest[k + 1 :] for c in more]}
        made, letters = contracted(made, letters, x, x_letters, keep)
    gone = [k for k, c in enumerate(letters) if c not in out]
    if gone:
        made, letters = made.sum(gone), [c for c in letters if c in out]
    return made.permute(*[letters.index(c) for c in out]) if len(out) > 1 else made
