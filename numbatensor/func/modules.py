"""Modules as functions of their parameters, and several modules as one with stacked parameters."""

import contextlib

from numbatensor import joining

STORES = ("_parameters", "_buffers")


def places(module):
    """Where each parameter and buffer is kept: the module, the store and the key, by dotted name."""
    found = {}
    for prefix, owner in module.named_modules():
        for store in STORES:
            for key, value in owner.__dict__[store].items():
                if value is not None:
                    found[f"{prefix}.{key}" if prefix else key] = owner, store, key
    return found


def tied(module, known, given):
    """The given tensors, each also under the other names that the module has for the same tensor."""
    names = {}
    for name, (owner, store, key) in known.items():
        names.setdefault(id(owner.__dict__[store][key]), []).append(name)
    made = dict(given)
    for group in names.values():
        here = [n for n in group if n in given]
        if any(given[n] is not given[here[0]] for n in here):
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(group)}, which are tied. Consider using tie_weights=False"
            )
        if here:
            made.update({n: given[here[0]] for n in group})
    return made


@contextlib.contextmanager
def replaced(module, given, tie_weights, strict):
    """A context in which a module has other parameters and buffers."""
    known = places(module)
    given = tied(module, known, given) if tie_weights else given
    wrong = []
    unexpected, missing = [k for k in given if k not in known], [k for k in known if k not in given]
    if strict and unexpected:
        wrong.append(f"Unexpected key(s): {', '.join(map(repr, unexpected))}.")
    if strict and missing:
        wrong.append(f"Missing key(s): {', '.join(map(repr, missing))}.")
    if wrong:
        raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(wrong))
    before = []
    try:
        for name, tensor in given.items():
            if name in known:
                owner, store, key = known[name]
                before.append((owner, store, key, owner.__dict__[store][key]))
                owner.__dict__[store][key] = owner.__dict__[key] = tensor
        yield
    finally:
        for owner, store, key, value in reversed(before):
            owner.__dict__[store][key] = owner.__dict__[key] = value


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """What a module computes with other parameters and buffers.

    Parameters
    ----------
    parameter_and_buffer_dicts : dict, or sequence of dicts
        Tensors by dotted name, such as ``dict(module.named_parameters())``; what is not named stays the module's own.
    args : tuple, or a single argument
    tie_weights : bool
        Whether tensors that the module has under several names are replaced under all of them.
    strict : bool
        Whether names must be exactly the module's.
    """
    given = parameter_and_buffer_dicts
    if isinstance(given, (list, tuple)):
        if not all(isinstance(d, dict) for d in given):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        keys = [k for d in given for k in d]
        repeated = [k for k in dict.fromkeys(keys) if keys.count(k) > 1]
        if repeated:
            raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
        given = {k: v for d in given for k, v in d.items()}
    elif not isinstance(given, dict):
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(given)}"
        )
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with replaced(module, given, tie_weights, strict):
        return module(*args, **(kwargs or {}))


def stacked(tensors, name):
    """Tensors of several models as one new leaf."""
    wanted = [t.requires_grad for t in tensors]
    if any(w != wanted[0] for w in wanted):
        raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
    made = joining.stack(tensors)
    return made.detach().requires_grad_() if wanted[0] else made


def stack_module_state(models):
    """The parameters and the buffers of models of one class, stacked: two dicts by dotted name, for `vmap` over `functional_call`."""
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    made = []
    for kind in ("named_parameters", "named_buffers"):
        found = [dict(getattr(m, kind)()) for m in models]
        made.append({name: stacked([f[name] for f in found], name) for name in found[0]})
    return tuple(made)
