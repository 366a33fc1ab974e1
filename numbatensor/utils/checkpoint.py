"""Checkpoints: what a function saves for backward is dropped, and computed again when backward needs it."""

import contextlib
import inspect
import threading

import numbatensor as nt

switches = threading.local()


class CheckpointError(RuntimeError):
    """A second run of a checkpointed function did not do what the first one did."""


class Enough(Exception):
    """All that backward needs has been computed again."""


class set_checkpoint_early_stop:
    """Whether the second run of functions that are checkpointed inside stops as soon as it has saved what the first run did."""

    def __init__(self, enable):
        self.enable, self.before = enable, []

    def __enter__(self):
        self.before.append(getattr(switches, "early_stop", True))
        switches.early_stop = self.enable
        return self

    def __exit__(self, *error):
        switches.early_stop = self.before.pop()


def tensors_in(value):
    """The tensors among arguments: in nested containers, of modules, and of what functions name."""
    if isinstance(value, nt.Tensor):
        yield value
    elif isinstance(value, nt.nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, dict):
        for v in value.values():
            yield from tensors_in(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)
    elif callable(value):
        yield from tensors_in(getattr(value, "__self__", None))
        if inspect.isfunction(value):
            names = inspect.getclosurevars(value)
            for v in (*names.nonlocals.values(), *names.globals.values()):
                if not callable(v) or isinstance(v, nt.nn.Module):
                    yield from tensors_in(v)


def described(x):
    return tuple(x.shape), x.dtype


class Slot:
    """Stands for one saved tensor."""

    def __init__(self, run, place):
        self.run, self.place = run, place


class Run:
    """One call of a checkpointed function."""

    def __init__(self, function, args, kwargs, preserve_rng_state, context, early_stop, check):
        self.function, self.args, self.kwargs = function, args, kwargs
        self.context, self.early_stop, self.check = context, early_stop, check
        self.state = nt.get_rng_state() if preserve_rng_state else None
        self.saved, self.again = [], {}  # shape and dtype of what the first run saved; what the next one did, by place
        self.known = []

    def first(self, context):
        """Run the function, and drop what it saves."""
        with context, nt.autograd.graph.saved_tensors_hooks(self.pack, self.unpack):
            made = self.function(*self.args, **self.kwargs)
        reached = {id(t): t for t in tensors_in((self.function, self.args, self.kwargs)) if not t.is_inference()}
        self.known = [(t, t._version) for t in reached.values()]
        return made

    def pack(self, x):
        self.saved.append(described(x))
        return Slot(self, len(self.saved) - 1)

    def unpack(self, slot):
        if slot.place not in self.again:
            self.repeat()
        return self.again.pop(slot.place)

    def repeat(self):
        """Run the function again, and keep what it saves."""
        for t, version in self.known:
            if t._version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor "
                    f"({t.dtype.name} {list(t.shape)}) that a checkpointed function uses is at version {t._version}; it was at version "
                    f"{version} when the function ran. Call backward before writing to it, or give the function a clone."
                )
        self.again, now = {}, nt.get_rng_state()
        count = 0

        def keep(x):
            nonlocal count
            self.again[count] = x.clone() if x._version else x
            count += 1
            if self.early_stop and count == len(self.saved):
                raise Enough
            return None

        if self.state is not None:
            nt.set_rng_state(self.state)
        try:
            hooks = nt.autograd.graph.saved_tensors_hooks(keep, refuse)
            with nt.enable_grad(), self.context, hooks, contextlib.suppress(Enough):
                self.function(*self.args, **self.kwargs)
        finally:
            nt.set_rng_state(now)
        if count != len(self.saved):
            raise CheckpointError(
                "checkpoint: A different number of tensors was saved during the original forward and recomputation.\n"
                f"Number of tensors saved during forward: {len(self.saved)}\n"
                f"Number of tensors saved during recomputation: {count}"
            )
        if self.check:
            self.compare()

    def compare(self):
        """Fail where the second run saved other shapes or dtypes."""
        wrong = [
            f"tensor at position {k}:\nsaved metadata: {then}\nrecomputed metadata: {described(self.again[k])}"
            for k, then in enumerate(self.saved)
            if described(self.again[k]) != then
        ]
        if wrong:
            raise CheckpointError(
                "checkpoint: Recomputed values for the following tensors have different metadata than during the forward pass.\n"
                + "\n".join(wrong)
            )


def refuse(packed):
    raise RuntimeError(
        "the second run of a checkpointed function is there to save tensors: it cannot be differentiated"
    )


def no_contexts():
    return contextlib.nullcontext(), contextlib.nullcontext()


def checkpoint(
    function,
    *args,
    use_reentrant=False,
    context_fn=no_contexts,
    determinism_check="default",
    preserve_rng_state=True,
    early_stop=None,
    **kwargs,
):
    """Call a function; its intermediate tensors are not kept for backward, which calls it a second time to have them.

    Memory for time: a chain of n layers in segments keeps the segments' inputs and one segment's intermediates.

    Parameters
    ----------
    function : callable
        Must do the same at each call. Random numbers are replayed.
    *args, **kwargs
        Its arguments. They must not be written in place before backward: that is an error there.
    use_reentrant : bool
        Only False is offered: nested backward passes are not needed.
    context_fn : callable
        Gives two context managers: for the first call, and for the second.
    determinism_check : {"default", "none"}
        Whether shapes and dtypes of what the two calls save are compared.
    preserve_rng_state : bool
        Whether the second call draws the same random numbers from the default generator as the first.
    early_stop : bool, optional
        Whether the second call ends once it has saved what the first did; True, or as `set_checkpoint_early_stop` says.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    CheckpointError
        In backward, if the second call saves other tensors than the first.
    """
    if use_reentrant:
        raise ValueError("checkpoint: only use_reentrant=False is offered; it does what the other did, and more")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'], but got {determinism_check}")
    first, second = context_fn()
    if not nt.is_grad_enabled():
        with first:
            return function(*args, **kwargs)
    stop = getattr(switches, "early_stop", True) if early_stop is None else early_stop
    return Run(function, args, kwargs, preserve_rng_state, second, stop, determinism_check == "default").first(first)


def checkpoint_sequential(functions, segments, input, use_reentrant=False, preserve_rng_state=True):
    """Call functions one after the other, in segments; all segments but the last are checkpointed.

    Parameters
    ----------
    functions : nn.Sequential or sequence of callable
    segments : int
        How many.
    input : Tensor
        What the first function takes.
    """
    chain = list(functions)
    if not 1 <= segments <= len(chain):
        raise ValueError(f"checkpoint_sequential: {segments} segments of {len(chain)} functions")
    size = len(chain) // segments

    def run(part):
        def called(x):
            for f in part:
                x = f(x)
            return x

        return called

    for k in range(segments - 1):
        part = chain[k * size : (k + 1) * size]
        input = checkpoint(run(part), input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return run(chain[(segments - 1) * size :])(input)
