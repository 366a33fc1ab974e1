"""What libraries of others the library uses, and how."""

from numbatensor.backends import cuda

__all__ = ["cuda"]
