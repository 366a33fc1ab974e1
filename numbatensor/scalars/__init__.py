"""Whole ops from users' scalar functions: their gradients are derived by dual numbers while Numba compiles.

A user's function is compiled for numbers of types of ours (`kinds.py`), so its control flow stays what it is. What an operation on
them means is written once (`rules.py`) and becomes LLVM instructions where it is used (`values.py`, `teaching.py`): nothing of it is
compiled by itself. `fingerprints.py` tells whether object code of an earlier process can be used, `ops.py` makes the op.
"""
