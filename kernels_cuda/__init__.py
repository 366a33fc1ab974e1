"""The kernels of CUDA devices: the same files and names as `kernels_cpu`."""
