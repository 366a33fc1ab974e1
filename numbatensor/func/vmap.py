"""A function of one entry as a function of a batch."""

import functools
import itertools

from numbatensor import joining
from numbatensor.func import custom, structured_rules, view_rules
from numbatensor.func.batched import Batched, at, full
from numbatensor.func.trees import flatten, spread, unflatten
from numbatensor.hollow import anywhere, running
from numbatensor.making import new
from numbatensor.tensor import Tensor, wrap_dim

assert custom and structured_rules and view_rules  # they register themselves
numbers = itertools.count(1)
ERROR_MODE = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' randomness flags on vmap "
    "or perform the randomness operation out of vmap"
)
SAME_BATCHED = "Vmap does not currently support same randomness with a batched tensor input."
UNBATCHED = (
    "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same randomness: make the tensor "
    "inside of vmap by a function of the library, such as nt.rand."
)


class Level:
    """A vmap that is running: how many entries there are, and whether random numbers are the same for all of them."""

    def __init__(self, size, randomness):
        self.number, self.size, self.randomness = next(numbers), size, randomness

    def __enter__(self):
        running.levels.append(self)
        anywhere.append(self)
        return self

    def __exit__(self, *error):
        running.levels.remove(self)
        anywhere.remove(self)

    def outside(self, function, *args):
        """Call a function as if it were called outside of this vmap, which is the innermost."""
        if self.randomness == "error":
            raise RuntimeError(ERROR_MODE)
        running.levels.remove(self)
        try:
            return function(*args)
        finally:
            running.levels.append(self)

    # random numbers inside

    def draw(self, maker, shape):
        """A random tensor of a shape."""
        if self.randomness == "different":
            return Batched(self.outside(maker, (self.size, *shape)), self)
        return self.outside(maker, shape)

    def repeat(self, maker):
        """A random tensor that can only be made one by one."""
        if self.randomness == "different":
            return Batched(self.outside(lambda: joining.stack([maker() for _ in range(self.size)])), self)
        return self.outside(maker)

    def redraw(self, function, x, values=True, each=False):
        """A random function of a tensor; of its shape alone where not `values`, of one entry at a time where `each`."""
        if self.randomness != "different":
            if at(x, self) and self.randomness == "same":
                if values:
                    raise RuntimeError(SAME_BATCHED)
                x = new(x.shape, x.dtype)
            return self.outside(function, x)
        if each:
            again = lambda y: joining.stack([function(y.select(0, k)) for k in range(self.size)])
            return Batched(self.outside(again, full(x, self)), self)
        return Batched(self.outside(function, full(x, self)), self)

    def overwrite(self, function, x, p):
        """A random function that overwrites x, by probabilities p or None."""
        if self.randomness == "different":
            if not at(x, self):
                raise RuntimeError(UNBATCHED)
            self.outside(functools.partial(function, x.value, p=p if p is None else full(p.expand(x.shape), self)))
            return x
        if at(p, self) and self.randomness == "same":
            raise RuntimeError(SAME_BATCHED)
        if at(x, self):
            return x.copy_(self.outside(functools.partial(function, new(x.shape, x.dtype), p=p)))
        return self.outside(functools.partial(function, x, p=p))


def name_of(func):
    """What errors call a function."""
    if hasattr(func, "__name__"):
        return func.__name__
    return f"functools.partial({name_of(func.func)}, ...)" if isinstance(func, functools.partial) else repr(func)


def inputs_of(func, in_dims, args):
    """The leaves of the arguments, the dimension of each that is mapped, their structure, and the size of the batch."""
    call = f"vmap({name_of(func)}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(
            call
            + f"expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, got: "
            f"{type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name_of(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a function "
            "with no inputs. The latter is unsupported."
        )
    leaves, structure = flatten(args)
    dims = spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, structure)
    if dims is None:
        raise ValueError(
            call
            + f"in_dims is not compatible with the structure of `inputs`. in_dims has structure {flatten(in_dims)[1]} but inputs "
            f"has structure {structure}."
        )
    sizes = []
    for x, d in zip(leaves, dims, strict=True):
        if d is None:
            continue
        if not isinstance(d, int):
            raise ValueError(
                call + f"Got in_dim={d} for an input but in_dim must be either an integer dimension or None."
            )
        if not isinstance(x, Tensor):
            raise ValueError(
                call
                + f"Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap over non-Tensor arguments, "
                "please use None as the respective in_dim"
            )
        if not -x.ndim <= d < x.ndim:
            raise ValueError(
                call
                + f"Got in_dim={d} for some input, but that input is a Tensor of dimensionality {x.ndim} so expected in_dim to "
                f"satisfy -{x.ndim} <= in_dim < {x.ndim}."
            )
        sizes.append(x.shape[d])
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(n != sizes[0] for n in sizes):
        raise ValueError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped dimension"
        )
    return leaves, dims, structure, sizes[0]


def check_out_dims(func, out_dims):
    for d in flatten(out_dims)[0]:
        if d is not None and not isinstance(d, int):
            raise ValueError(
                f"vmap({name_of(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python collection of ints "
                "representing where in the outputs the vmapped dimension should appear."
            )


def dims_of_outputs(func, out_dims, outputs):
    """The leaves of what a function gave, where the batch goes in each, and their structure."""
    leaves, structure = flatten(outputs)
    if structure.kind is None and isinstance(out_dims, tuple) and len(out_dims) == 1:
        out_dims = out_dims[0]
    if structure.kind is not None and type(out_dims) in (tuple, list) and structure.kind in (tuple, list):
        dims = spread(structure.kind(out_dims), structure)
    else:
        dims = spread(out_dims, structure)
    if dims is None:
        raise ValueError(
            f"vmap({name_of(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of `outputs`. "
            f"out_dims has structure {flatten(out_dims)[1]} but outputs has structure {structure}."
        )
    return leaves, dims, structure


def unbatched(func, x, dim, level):
    """An output with the batch as one of its dimensions."""
    name = name_of(func)
    if dim is None:
        if at(x, level):
            raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
        return x
    if not isinstance(x, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(x)}. Did you mean to set out_dims= to None for output?"
        )
    value = full(x, level)
    d = wrap_dim(dim, value.ndim)
    return value.movedim(0, d) if d else value


def mapped_once(func, leaves, dims, structure, size, out_dims, randomness, kwargs):
    """The function of a whole batch."""
    with Level(size, randomness) as level:
        given = [
            x if d is None else Batched(x.movedim(d, 0) if d % x.ndim else x, level)
            for x, d in zip(leaves, dims, strict=True)
        ]
        outputs = func(*unflatten(given, structure), **kwargs)
        made, places, form = dims_of_outputs(func, out_dims, outputs)
        return unflatten([unbatched(func, x, d, level) for x, d in zip(made, places, strict=True)], form)


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """A function of one entry as a function of a batch: every op runs once, for all entries.

    Parameters
    ----------
    func : callable
        Takes tensors, and nested tuples, lists and dicts of them, and gives such.
    in_dims : int, None or nested tuple
        Which dimension of each positional argument holds the entries; None: the argument is the same for all of them.
    out_dims : int, None or nested tuple
        Where the entries go in each output; None: the output is no entry's.
    randomness : {"error", "different", "same"}
        Whether each entry draws random numbers of its own.
    chunk_size : int, optional
        At most so many entries at a time.

    Raises
    ------
    ValueError
        If dimensions and structures do not fit together.
    RuntimeError
        Inside, for what depends on the values of one entry: `item`, `if`, a boolean mask as an index.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and not chunk_size > 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func, updated=())
    def batch(*args, **kwargs):
        check_out_dims(func, out_dims)
        leaves, dims, structure, size = inputs_of(func, in_dims, args)
        if chunk_size is None or size <= chunk_size:
            return mapped_once(func, leaves, dims, structure, size, out_dims, randomness, kwargs)
        chunks = []
        for start in range(0, size, chunk_size):
            n = min(chunk_size, size - start)
            part = [x if d is None else x.narrow(d, start, n) for x, d in zip(leaves, dims, strict=True)]
            chunks.append(mapped_once(func, part, dims, structure, n, out_dims, randomness, kwargs))
        made = [dims_of_outputs(func, out_dims, chunk) for chunk in chunks]
        form = made[0][2]
        columns = zip(*[leaves for leaves, _, _ in made], strict=True)
        return unflatten(
            [c[0] if d is None else joining.cat(c, d) for c, d in zip(columns, made[0][1], strict=True)], form
        )

    return batch
