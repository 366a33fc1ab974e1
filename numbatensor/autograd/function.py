"""Custom functions: operations whose forward and backward a user writes."""

import functools
import inspect
import weakref

from numbatensor.autograd.modes import enable_grad, no_grad
from numbatensor.core import custom, entries
from numbatensor.core.graph import CUSTOM_VIEW
from numbatensor.core.handles import drop_handles, hold
from numbatensor.core.modes import get_grad
from numbatensor.core.tensors import FLOAT32
from numbatensor.hollow import hollow
from numbatensor.hooks import summable, unpacked
from numbatensor.messages import freed, inference_save
from numbatensor.op import Recorded
from numbatensor.tensor import Tensor

TWICE = "trying to differentiate twice a function that was marked with @once_differentiable"
FUNCTION = Recorded("function", "A custom function.", samples="its users write it").internal().backward()


class Context:
    """What a custom function's forward leaves for its backward: the `ctx` of both. Attributes of any name may be added."""

    def __init__(self, needs_input_grad):
        self.needs_input_grad = needs_input_grad
        self.materialize_grads = True
        self.to_save, self.dirty, self.non_differentiable = (), (), ()
        self._state = None

    def save_for_backward(self, *tensors):
        """Save tensors, or None, for `saved_tensors`. A write to one of them before backward is noticed there."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument is of type {type(t).__name__}"
                )
        self.to_save = tensors

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self):
        """The tensors that `save_for_backward` was given, as a tuple."""
        if self._state is None:
            return self.to_save
        drop_handles()  # that of a node which is gone, too
        state = self._state()
        if state is None:
            freed(0, 0, 0)
        return state.unpack()

    def mark_dirty(self, *tensors):
        """Declare the inputs that forward writes in place; it must return them too."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Declare the outputs that no gradient flows from."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value):
        """Whether backward gets zeros, rather than None, for outputs without a gradient. True at first."""
        self.materialize_grads = bool(value)


class State:
    """What a node of a custom function refers to. The node's memory owns it; the context refers to it weakly."""

    def __init__(self, function, ctx, tensors, saved, outputs):
        self.function, self.ctx, self.name = function, ctx, f"{function.__name__}Backward"
        self.tensors = tensors  # for each argument of forward, its shape if it was a tensor
        self.saved = (
            saved  # for each saved value, its slot, the tensor itself where it has a history of its own, or None
        )
        self.outputs = outputs  # shape, dtype and device of each output
        self.node = 0

    def unpack(self):
        """The saved tensors."""
        made = []
        for one in self.saved:
            if one is None:
                made.append(None)
            else:
                slot, whole = one
                tensor = unpacked(self.node, slot)  # checks that it was not overwritten
                made.append(tensor if whole is None else whole)
        return tuple(made)

    def gradients(self, node, grads, wanted):
        """The gradients of the tensors among the arguments, by the function's backward."""
        self.node = node
        if self.ctx.materialize_grads:
            grads = tuple(
                entries.new_zeros(shape, dtype, device) if g is None and shape is not None else g
                for g, (shape, dtype, device) in zip(grads, self.outputs, strict=True)
            )
        made = self.function.backward(self.ctx, *grads)
        made = tuple(made) if isinstance(made, (tuple, list)) else (made,)
        count = len(self.tensors)
        if len(made) > count and all(m is None for m in made[count:]):
            made = made[:count]
        if len(made) != count:
            raise RuntimeError(
                f"function {self.name} returned an incorrect number of gradients (expected {count}, got {len(made)})"
            )
        found = []
        for k, (grad, shape) in enumerate(zip(made, self.tensors, strict=True)):
            if shape is None:
                if grad is not None:
                    raise RuntimeError(
                        f"function {self.name} returned a gradient different than None at position {k + 1}, but the corresponding "
                        "forward input was not a Variable"
                    )
                continue
            found.append(self.checked(grad, shape, k))
        return tuple(found)

    def checked(self, grad, shape, k):
        """A gradient that backward gave, if it can be one of an argument of a shape."""
        if grad is None:
            return None
        if not isinstance(grad, Tensor):
            raise TypeError(f"expected Variable or None (got {type(grad).__name__})")
        got = tuple(grad.shape)
        if not summable(got, shape):
            raise RuntimeError(
                f"Function {self.name} returned an invalid gradient at index {k} - got {list(got)} but expected shape compatible "
                f"with {list(shape)}"
            )
        return grad


def position(tensor, among):
    """The place of a tensor in a sequence, by identity; -1 where it is not there."""
    return next((k for k, t in enumerate(among) if t is tensor), -1)


class Function:
    """An operation with a gradient of its own.

    A subclass defines static methods ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)``, and is called by ``apply(*args)``.
    `forward` runs unrecorded. It may also be ``forward(*args)``, with ``setup_context(ctx, inputs, output)`` beside it. `backward` gives a
    gradient, or None, for each argument of forward; it is recorded under `create_graph`.

    Examples
    --------
    >>> class Exp(nt.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = x.exp()
    ...         ctx.save_for_backward(y)
    ...         return y
    ...
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (y,) = ctx.saved_tensors
    ...         return grad * y
    """

    @staticmethod
    def forward(*args, **kwargs):
        """Compute the outputs: a tensor, or a tuple."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Save what backward needs, where `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        """Compute the gradient of each argument of forward."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD."
        )

    def __init__(self, *args):
        raise RuntimeError(f"{type(self).__name__} is called by {type(self).__name__}.apply(...): it has no instances")

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "vjp" in vars(cls) and "backward" not in vars(cls):
            cls.backward = cls.vjp
        for name in ("forward", "backward", "setup_context"):
            made = vars(cls).get(name)
            if inspect.isfunction(made):
                raise TypeError(f"{cls.__name__}.{name} must be a static method: write @staticmethod above it")

    @classmethod
    def apply(cls, *args, **kwargs):
        """Run forward on arguments of any kind, and make its outputs part of the graph.

        Arguments by name, and defaults, are for functions with a `setup_context`, which then gets them by position.
        """
        apart_from_ctx = cls.setup_context is not Function.setup_context
        if apart_from_ctx:
            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        elif kwargs:
            raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments: it has no setup_context")
        tensors = [a for a in args if isinstance(a, Tensor)]
        inner = hollow(tensors)
        if inner is not None:
            return inner.custom(cls, args)
        recording = get_grad() and any(t.requires_grad for t in tensors)
        ctx = Context(tuple(isinstance(a, Tensor) and t_needs(a) for a in args))
        before = [version_of(t) for t in tensors]
        with no_grad():
            if apart_from_ctx:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args)
        check_writes(cls, ctx, args, tensors, before)
        outputs = output if isinstance(output, tuple) else (output,)
        for t in ctx.dirty:
            if position(t, outputs) == -1:
                raise RuntimeError(
                    "Some elements marked as dirty during the forward method were not returned as output. The inputs that are modified "
                    "inplace must all be outputs of the Function."
                )
            if recording and t.is_leaf and t.requires_grad:
                raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
        made = tuple(apart(t, ctx, args) for t in outputs)
        if recording:
            record(cls, ctx, args, outputs, made)
        elif all(m is t for m, t in zip(made, outputs, strict=True)):
            return output
        return made if isinstance(output, tuple) else made[0]


def t_needs(tensor):
    return bool(tensor.requires_grad)


def check_writes(cls, ctx, args, tensors, before):
    """Fail where forward wrote an input without saying so; count a write that was said, but not seen."""
    for t, version in zip(tensors, before, strict=True):
        written, said = version_of(t) != version, any(shares(t, d) for d in ctx.dirty)
        if written and not said:
            raise RuntimeError(
                f"{cls.__name__}.forward wrote argument {position(t, args)} in place, at version {version}, without saying so: gradients "
                "through it would be wrong. Call ctx.mark_dirty on it and return it, or clone it first."
            )
        if position(t, ctx.dirty) != -1 and not written and version is not None:
            entries.count_write(t)


def version_of(t):
    """The version of a tensor; inference tensors have none."""
    return None if entries.get(t, entries.INFERENCE) else entries.get(t, entries.VERSION)


def shares(x, y):
    return entries.get(x, entries.STORAGE) == entries.get(y, entries.STORAGE)


def apart(t, ctx, args):
    """An output as a tensor of its own: an input that is returned as it is becomes a view, so that it keeps its own history."""
    if not isinstance(t, Tensor) or position(t, ctx.dirty) != -1:
        return t
    if position(t, args) != -1:
        with no_grad():
            return t.view(t.shape)
    return t


def record(cls, ctx, args, outputs, made):
    """Give the outputs of a custom function their node."""
    inputs = tuple(a for a in args if isinstance(a, Tensor))
    kinds = []
    for t, out in zip(outputs, made, strict=True):
        if not isinstance(t, Tensor) or out.dtype.code < FLOAT32 or position(t, ctx.non_differentiable) != -1:
            kinds.append(custom.PLAIN)
        else:
            kinds.append(custom.DIRTY if position(t, ctx.dirty) != -1 else custom.DIFFERENTIABLE)
    if not any(kinds):
        return
    slots, whiches, saved = [], [], []
    for t in ctx.to_save:
        if t is None:
            saved.append(None)
            continue
        k, i = position(t, outputs), position(t, inputs)
        own = k != -1 and kinds[k] != custom.PLAIN and (i == -1 or kinds[k] == custom.DIRTY)
        whole = None if own or i != -1 or not t.requires_grad else t
        saved.append((len(slots), whole))
        slots.append(made[k] if own else t)
        whiches.append(-k if own else 1 + i if i != -1 else 1 + len(inputs))
    for t in slots:
        if entries.get(t, entries.INFERENCE):
            inference_save(0, 0, 0)
    described = [
        (tuple(t.shape), t.dtype.code, entries.get(t, entries.DEVICE)) if isinstance(t, Tensor) else (None, 0, 0)
        for t in made
    ]
    shapes = [tuple(a.shape) if isinstance(a, Tensor) else None for a in args]
    state = State(cls, ctx, shapes, saved, described)
    for out, kind in zip(made, kinds, strict=True):
        if kind == custom.DIFFERENTIABLE and entries.get(out, entries.BASE):
            entries.set_restriction(out, CUSTOM_VIEW)  # its history must not be made from its base's
    with enable_grad():
        custom.record_function(
            FUNCTION.address,
            tuple(t if isinstance(t, Tensor) else None for t in made),
            tuple(kinds),
            tuple(t if t.requires_grad else None for t in inputs),
            tuple(slots),
            tuple(whiches),
            hold(state),
        )
    first = next(t for t, kind in zip(made, kinds, strict=True) if kind)
    state.node = entries.get(first, entries.NODE)
    ctx._state, ctx.to_save = weakref.ref(state), ()
    ctx.dirty = ctx.non_differentiable = ()


class Once(Function):
    """Its arguments, which cannot be differentiated again: a message says why."""

    @staticmethod
    def forward(ctx, message, anchor, *tensors):
        ctx.message = message
        return tuple(t if t is None else t.clone() for t in tensors)

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(ctx.message)


def differentiated_once(made, sources, message):
    """Tensors that were made of others unrecorded: where one of those is part of a graph, tensors that refuse to be differentiated."""
    anchors = [t for t in sources if isinstance(t, Tensor) and t.requires_grad]
    return Once.apply(message, anchors[0], *made) if get_grad() and anchors else made


def once_differentiable(backward):
    """Declare a backward whose result cannot be differentiated again; it runs unrecorded.

    Goes below ``@staticmethod``.
    """

    @functools.wraps(backward)
    def wrapped(ctx, *grads):
        with no_grad():
            made = backward(ctx, *grads)
        several = isinstance(made, tuple)
        marked = differentiated_once(made if several else (made,), grads, TWICE)
        return marked if several else marked[0]

    return wrapped
