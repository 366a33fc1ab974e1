"""Steps of optimisers on CUDA devices: one launch for a parameter (`kernels_cuda/optimizers.py`)."""

from numbatensor.core.compiler import native
from numbatensor.core.device_random import in_type
from numbatensor.core.devices import parameter, start
from numbatensor.core.records import launch_at, new_launch
from numbatensor.core.steps import step_at
from numbatensor.core.there import EACH, MOST, THREADS, kernel_there


@native
def step_there(context):
    """Run a step's kernel over contiguous arrays of a device."""
    j, launch, done = step_at(context), new_launch(), 0
    settings = 3 if j.count == 2 else 6 if j.count == 3 else 9
    kernel = kernel_there(j.row, j.kernel, 0, j.dtype)
    while done < j.numel:
        n = min(MOST - 1, j.numel - done)
        launch_at(launch).count = 0
        for k in range(j.count):
            parameter(launch, j.addresses[k] + done * j.itemsize)
        parameter(launch, n)
        for k in range(settings):
            parameter(launch, in_type(j.dtype, j.settings[k]))
        start(j.row, kernel, (n + THREADS * EACH - 1) // (THREADS * EACH), 1, THREADS, 0, launch, j.device)
        done += n
    return 0
