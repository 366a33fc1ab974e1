"""The kernels of the CPU: loops over pointers, compiled by numba."""
