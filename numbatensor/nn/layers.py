"""Layers, activations and losses as modules."""

import math

import numbatensor as nt
from numbatensor.nn import functional as F
from numbatensor.nn.module import Module, Parameter


class Linear(Module):
    """``input @ weight.T + bias``; weight (out, in) and bias (out,) start uniform within ``1 / sqrt(in)``."""

    def __init__(self, in_features, out_features, bias=True, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(nt.empty(out_features, in_features, dtype=dtype).uniform_(-bound, bound))
        if bias:
            self.bias = Parameter(nt.empty(out_features, dtype=dtype).uniform_(-bound, bound))
        else:
            self.register_parameter("bias", None)

    def forward(self, input):
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors, looked up by number."""

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        table = nt.randn(num_embeddings, embedding_dim)
        if padding_idx is not None:
            table[padding_idx] = 0.0
        self.weight = Parameter(table)

    def forward(self, input):
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self):
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """The last dimensions scaled to mean 0 and variance 1, then by a learned weight and bias."""

    def __init__(self, normalized_shape, eps=1e-05, elementwise_affine=True, bias=True):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        for name, value, wanted in (
            ("weight", nt.ones, elementwise_affine),
            ("bias", nt.zeros, elementwise_affine and bias),
        ):
            self.register_parameter(name, Parameter(value(*self.normalized_shape)) if wanted else None)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}, bias={self.bias is not None}"


class Dropout(Module):
    """Elements set to zero with probability p while training."""

    def __init__(self, p=0.5):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p

    def forward(self, input):
        return F.dropout(input, self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}"


class Identity(Module):
    """What comes in goes out; any arguments are welcome."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        return input


class Flatten(Module):
    """Dimensions joined into one."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


def activation(name, function, **defaults):
    """A module around a function of one tensor and some settings."""

    class Activation(Module):
        def __init__(self, *args, **kwargs):
            super().__init__()
            self.options = {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}
            unknown = set(self.options) - set(defaults)
            if unknown:
                raise TypeError(f"{name}() got an unexpected keyword argument '{unknown.pop()}'")

        def forward(self, input):
            return function(input, **self.options)

        def extra_repr(self):
            return ", ".join(f"{k}={v!r}" for k, v in self.options.items())

    Activation.__name__ = Activation.__qualname__ = name
    Activation.__doc__ = f"`{function.__name__}` as a module."
    return Activation


ReLU = activation("ReLU", F.relu)
LeakyReLU = activation("LeakyReLU", F.leaky_relu, negative_slope=0.01)
ELU = activation("ELU", F.elu, alpha=1.0)
SELU = activation("SELU", F.selu)
GELU = activation("GELU", F.gelu, approximate="none")
SiLU = activation("SiLU", F.silu)
Mish = activation("Mish", F.mish)
Tanh = activation("Tanh", F.tanh)
Sigmoid = activation("Sigmoid", F.sigmoid)
Softplus = activation("Softplus", F.softplus, beta=1.0, threshold=20.0)
Hardtanh = activation("Hardtanh", F.hardtanh, min_val=-1.0, max_val=1.0)
Softmax = activation("Softmax", F.softmax, dim=None)
LogSoftmax = activation("LogSoftmax", F.log_softmax, dim=None)


def loss(name, function, **defaults):
    """A module around a loss of an input and a target."""
    made = activation(name, function, **defaults)
    made.forward = lambda self, input, target: function(input, target, **self.options)
    made.extra_repr = Module.extra_repr
    return made


CrossEntropyLoss = loss(
    "CrossEntropyLoss", F.cross_entropy, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
)
NLLLoss = loss("NLLLoss", F.nll_loss, weight=None, ignore_index=-100, reduction="mean")
MSELoss = loss("MSELoss", F.mse_loss, reduction="mean")
L1Loss = loss("L1Loss", F.l1_loss, reduction="mean")
BCEWithLogitsLoss = loss(
    "BCEWithLogitsLoss", F.binary_cross_entropy_with_logits, weight=None, reduction="mean", pos_weight=None
)
