"""Gradients in float16 vanish where they are small: so the loss is scaled up, and the gradients down again before they are used."""

import importlib
import warnings

from numbatensor import dtypes
from numbatensor.autograd.modes import no_grad
from numbatensor.creation import full
from numbatensor.tensor import Tensor


def has_cuda():
    """Whether a CUDA device can be used."""
    return importlib.import_module("numbatensor.cuda").is_available()  # loaded where it is needed


READY, UNSCALED, STEPPED = range(3)  # what has been done with an optimizer since the last update


class GradScaler:
    """Scale losses, and leave out the steps whose gradients are not finite.

    The scale is halved (`backoff_factor`) after a step that was left out, and doubled (`growth_factor`) after `growth_interval` steps in a
    row that were not.

    Parameters
    ----------
    device : str
        Where the scale is kept: "cuda" or "cpu".
    init_scale, growth_factor, backoff_factor : float
    growth_interval : int
    enabled : bool
        False: nothing is scaled, and every step is taken.

    Examples
    --------
    ::

        scaler = nt.amp.GradScaler("cuda")
        for x, y in batches:
            optimizer.zero_grad()
            with nt.autocast("cuda"):
                loss = loss_of(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    """

    def __init__(
        self,
        device="cuda",
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        enabled=True,
    ):
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._device, self._enabled = device, enabled
        if enabled and str(device).startswith("cuda") and not has_cuda():
            warnings.warn("GradScaler is enabled, but CUDA is not available. Disabling.", stacklevel=2)
            self._enabled = False
        self._factor = float(init_scale)
        self._scale = None  # the same on the device, made on first use
        self._growth_factor, self._backoff_factor, self._growth_interval = (
            growth_factor,
            backoff_factor,
            growth_interval,
        )
        self._good_steps = 0
        self._stages: dict = {}  # by optimizer: what has been done with it, and whether its gradients are finite

    def scale(self, outputs):
        """A loss times the scale; or the losses in a list or tuple."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._factor_for(outputs)
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(o) for o in outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _factor_for(self, x):
        """The scale as a tensor of no dimensions beside x."""
        if self._scale is None or self._scale.device != x.device:
            self._scale = full((), self._factor, dtype=dtypes.float32, device=x.device)
        return self._scale

    def unscale_(self, optimizer):
        """Divide the gradients of an optimizer's parameters by the scale, once between updates: for clipping, before `step`."""
        if not self._enabled:
            return
        stage = self._stages.get(optimizer, (READY, True))[0]
        if stage == UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        found, finite = 0, None
        with no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.grad.dtype is dtypes.float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    found += 1
                    p.grad.mul_(1.0 / self._factor)
                    here = p.grad.isfinite().all()
                    finite = here if finite is None else finite & here.to(finite.device)
        if not found:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        self._stages[optimizer] = UNSCALED, finite

    def step(self, optimizer, *args, **kwargs):
        """Take an optimizer's step, if its gradients are finite; gives what the step gives. Unscales them where that was not done."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if self._stages.get(optimizer, (READY, True))[0] == STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if optimizer not in self._stages:
            self.unscale_(optimizer)
        finite = bool(self._stages[optimizer][1])
        self._stages[optimizer] = STEPPED, finite
        return optimizer.step(*args, **kwargs) if finite else None

    def update(self, new_scale=None):
        """Choose the scale of the next step: after all optimizers have had theirs."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._factor = float(new_scale)
        elif not self._stages:
            raise AssertionError("No inf checks were recorded prior to update.")
        elif not all(bool(finite) for _, finite in self._stages.values()):
            self._factor *= self._backoff_factor
            self._good_steps = 0
        else:
            self._good_steps += 1
            if self._good_steps == self._growth_interval:
                grown = self._factor * self._growth_factor
                self._factor = grown if grown <= dtypes.finfo(dtypes.float32).max else self._factor
                self._good_steps = 0
        self._scale = None
        self._stages.clear()

    def get_scale(self):
        """The scale, as a number; 1.0 where nothing is scaled."""
        return self._factor if self._enabled else 1.0

    def is_enabled(self):
        """Whether losses are scaled."""
        return self._enabled

    def get_growth_factor(self):
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor):
        """Choose what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self):
        """What the scale shrinks by, below 1."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor):
        """Choose what the scale shrinks by, below 1."""
        self._backoff_factor = new_factor

    def get_growth_interval(self):
        """After how many good steps in a row the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval):
        """Choose after how many good steps in a row the scale grows."""
        self._growth_interval = new_interval

    def state_dict(self):
        """The scale, its factors and the number of good steps; empty where nothing is scaled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._factor,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._good_steps,
        }

    def load_state_dict(self, state_dict):
        """Go on from what `state_dict` gave."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._factor, self._scale = float(state_dict["scale"]), None
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval, self._good_steps = state_dict["growth_interval"], state_dict["_growth_tracker"]
