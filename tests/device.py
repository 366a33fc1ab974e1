"""The device that tests run on: the block emulator's, or with NUMBATENSOR_GPU=1 the machine's own (`make gpu-check`)."""

import os

import pytest

import numbatensor as nt

ON_GPU = os.environ.get("NUMBATENSOR_GPU") == "1"
ORDERS = ["forward"] if ON_GPU else ["forward", "reverse"]  # in which the emulator's threads take turns
of_the_emulator = pytest.mark.skipif(ON_GPU, reason="it is about emulated devices")
of_two_devices = pytest.mark.skipif(ON_GPU and nt.cuda.device_count() < 2, reason="there is one device")


def open_device(**options):
    """Make sure that there is a device; `options`: what `nt.cuda.emulate` takes."""
    if ON_GPU:
        assert nt.cuda.why_not() is None, nt.cuda.why_not()
    else:
        pytest.importorskip("greenlet")
        nt.cuda.emulate(**options)
