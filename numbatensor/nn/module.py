"""Modules: trees of parameters, buffers and a forward function."""

import collections

from numba.extending import typeof_impl

import numbatensor as nt


class Parameter(nt.Tensor):
    """A tensor that a Module counts among what it learns."""

    def __new__(cls, data=None, requires_grad=True):
        made = (nt.empty(0) if data is None else data).detach()
        made.__class__ = cls
        made.requires_grad_(requires_grad)
        return made

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = Parameter(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return Parameter, (self.detach(), self.requires_grad)


IncompatibleKeys = collections.namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])
STORES = ("_parameters", "_modules", "_buffers")


class Module:
    """A part of a network: parameters, buffers, submodules, and what it computes (`forward`)."""

    def __init__(self):
        object.__setattr__(self, "_parameters", {})
        object.__setattr__(self, "_buffers", {})
        object.__setattr__(self, "_modules", {})
        object.__setattr__(self, "_transient", set())
        self.training = True

    def __setattr__(self, name, value):
        kinds = (("_parameters", Parameter), ("_modules", Module))
        if "_parameters" not in self.__dict__:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError("cannot assign parameters or modules before Module.__init__() call")
            return object.__setattr__(self, name, value)
        for store, kind in kinds:
            if isinstance(value, kind):
                self.__delattr__(name, missing_ok=True)
                return self._put(store, name, value)
        for store in STORES:
            if name in self.__dict__[store]:
                if value is not None and not (store == "_buffers" and isinstance(value, nt.Tensor)):
                    raise TypeError(f"cannot assign '{type(value).__name__}' as {store[1:-1]} '{name}'")
                return self._put(store, name, value)
        return object.__setattr__(self, name, value)

    def _put(self, store, name, value):
        """Keep a parameter, module or buffer; as an attribute too, so that reading it takes no detour."""
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"the name of a parameter, module or buffer is a string without dots, not {name!r}")
        self.__dict__[store][name] = self.__dict__[name] = value

    def _check_new(self, name, store):
        """Fail for a name that something else has."""
        if not isinstance(name, str):
            raise TypeError(f"the name should be a string. Got {type(name).__name__}")
        if hasattr(self, name) and name not in self.__dict__[store]:
            raise KeyError(f"attribute '{name}' already exists")

    def __delattr__(self, name, missing_ok=False):
        for store in STORES:
            if name in self.__dict__[store]:
                del self.__dict__[store][name], self.__dict__[name]
                return
        if name in self.__dict__ or not missing_ok:
            object.__delattr__(self, name)

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def forward(self, *args):
        """What the module computes."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def register_parameter(self, name, param):
        """Add a parameter, or a place for one (None)."""
        self._check_new(name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' (Parameter or None required)"
            )
        self._put("_parameters", name, param)

    def register_buffer(self, name, tensor, persistent=True):
        """Add a tensor that is kept but not learned."""
        self._check_new(name, "_buffers")
        if tensor is not None and not isinstance(tensor, nt.Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)"
            )
        self._put("_buffers", name, tensor)
        if not persistent:
            self._transient.add(name)

    def add_module(self, name, module):
        """Add a submodule."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_new(name, "_modules")
        self._put("_modules", name, module)

    def named_modules(self, prefix=""):
        """This module and all below it, with dotted names."""
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self):
        """This module and all below it."""
        return (m for _, m in self.named_modules())

    def named_children(self):
        """The submodules, with names."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def children(self):
        """The submodules."""
        return (module for _, module in self.named_children())

    def _named(self, store, prefix, recurse, remove_duplicate):
        seen = set()
        for start, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in module.__dict__[store].items():
                if value is not None and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield f"{start}.{name}" if start else name, value

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """All parameters, each once, with dotted names; of this module alone where not `recurse`."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """All parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """All buffers, each once, with dotted names; of this module alone where not `recurse`."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """All buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target):
        """The module of a dotted name.

        Raises
        ------
        AttributeError
            If there is none.
        """
        module = self
        for name in target.split(".") if target else []:
            if not isinstance(getattr(module, name, None), Module):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
        return module

    def get_parameter(self, target):
        """The parameter of a dotted name."""
        return self._get("_parameters", "nn.Parameter", target)

    def get_buffer(self, target):
        """The buffer of a dotted name."""
        return self._get("_buffers", "buffer", target)

    def _get(self, store, kind, target):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module.__dict__[store]:
            raise AttributeError(
                f"`{name}` is not an {kind}" if store == "_parameters" else f"`{name}` is not a {kind}"
            )
        return module.__dict__[store][name]

    def state_dict(self):
        """Parameters and persistent buffers by name; they share memory with the module's."""
        found = collections.OrderedDict()
        for prefix, module in self.named_modules():
            for store in ("_parameters", "_buffers"):
                for name, value in module.__dict__[store].items():
                    if value is not None and not (store == "_buffers" and name in module._transient):
                        found[f"{prefix}.{name}" if prefix else name] = value.detach()
        return found

    def load_state_dict(self, state_dict, strict=True):
        """Copy tensors into the parameters and buffers of the same names.

        Raises
        ------
        RuntimeError
            If names are missing or unexpected (`strict`), or a shape differs; nothing is copied then.
        """
        own = self.state_dict()
        missing, unexpected = [k for k in own if k not in state_dict], [k for k in state_dict if k not in own]
        wrong = [
            f"size mismatch for {k}: copying a param with shape {state_dict[k].shape} from checkpoint, the shape in current model is "
            f"{own[k].shape}."
            for k in own
            if k in state_dict and tuple(own[k].shape) != tuple(state_dict[k].shape)
        ]
        if strict and missing:
            wrong.append("Missing key(s) in state_dict: " + ", ".join(f'"{k}"' for k in missing) + ".")
        if strict and unexpected:
            wrong.append("Unexpected key(s) in state_dict: " + ", ".join(f'"{k}"' for k in unexpected) + ".")
        if wrong:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(wrong))
        with nt.no_grad():
            for name, value in own.items():
                if name in state_dict:
                    value.copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    def train(self, mode=True):
        """Switch to training, or not, here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Switch to evaluation, here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Learn the parameters, or not."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Drop, or clear, all gradients."""
        for p in self.parameters():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    def apply(self, fn):
        """Call a function on all modules, from the leaves up."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args, **kwargs):
        """Bring all parameters and buffers, and gradients, to a device, and floating ones to a dtype: arguments are those of `Tensor.to`.

        Parameters stay the objects that they are.
        """

        def moved(t):
            made = t.detach().to(*args, **kwargs)
            return made if t.is_floating_point() or made.dtype is t.dtype else t.detach().to(made.device)

        for module in self.modules():
            for p in module._parameters.values():
                if p is not None:
                    made, grad = moved(p), p.grad
                    if made.dtype is not p.dtype or made.device != p.device:
                        p.data = made
                        p.grad = grad if grad is None else moved(grad)
            for name, b in module._buffers.items():
                if b is not None:
                    module._put("_buffers", name, moved(b))
        return self

    def cuda(self, device=None):
        """Bring all parameters and buffers to a CUDA device."""
        return self.to("cuda" if device is None else device)

    def cpu(self):
        """Bring all parameters and buffers to the CPU."""
        return self.to("cpu")

    def double(self):
        """Convert all floating parameters and buffers to float64."""
        return self.to(nt.float64)

    def float(self):
        """Convert all floating parameters and buffers to float32."""
        return self.to(nt.float32)

    def half(self):
        """Convert all floating parameters and buffers to float16."""
        return self.to(nt.float16)

    def bfloat16(self):
        """Convert all floating parameters and buffers to bfloat16."""
        return self.to(nt.bfloat16)

    def extra_repr(self):
        """What `repr` shows between the parentheses."""
        return ""

    def __repr__(self):
        inner = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if not inner:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(inner) + "\n)"


class Sequential(Module):
    """Modules applied one after the other."""

    def __init__(self, *modules):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            for k, module in enumerate(modules):
                self.add_module(str(k), module)

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, k):
        found = list(self._modules.values())[k]
        return Sequential(*found) if isinstance(k, slice) else found


class ModuleList(Module):
    """A list of modules."""

    def __init__(self, modules=()):
        super().__init__()
        self.extend(modules)

    def append(self, module):
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, k):
        found = list(self._modules.values())[k]
        return ModuleList(found) if isinstance(k, slice) else found


@typeof_impl.register(Module)
def refuse_in_compiled_code(value, context):
    """Say what compiled code takes in the place of a module; as a constant it has no type, and Numba tells the line."""
    if context.purpose.name != "argument":
        return None
    raise TypeError(
        f"{type(value).__name__} cannot be an argument of compiled code, which has no type for modules: pass its parameters, as a "
        "tuple or a named tuple, and call nt.nn.functional there (see docs/numba.md)"
    )
