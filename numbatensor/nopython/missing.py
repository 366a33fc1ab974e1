"""What of the public interface there is not in compiled code, with the reasons, which typing errors give."""

RANK = "the rank is part of a Tensor's type in compiled code, and cannot change"
MEMORY = "compiled code holds on to the memory that a Tensor shows: make a new one, or copy_() into it"
OBJECT = "Numba has no type for such an object"
HOOK = "Numba has no type for hooks: register it outside, it runs in passes that compiled code starts too"
OUTSIDE = "it is for all of the program: call it outside"
METHODS = {
    "tolist": "how deep and long the lists are is not known when the code is compiled: use numpy(), or item() of single elements",
    "squeeze_": f"{RANK}: use squeeze()",
    "unsqueeze_": f"{RANK}: use unsqueeze()",
    "resize_": MEMORY,
    "resize_as_": MEMORY,
    "set_": MEMORY,
    "grad_fn": OBJECT,
    "register_hook": HOOK,
    "register_post_accumulate_grad_hook": HOOK,
    "array": "it is for the library's own use: call numpy()",
    "bits": "it is for the library's own use: bfloat16 converts with .float()",
    "as_subclass": OBJECT,
    "record_stream": OBJECT,
}
CASTS = "compiled code runs in the dtypes that it was compiled for: convert with .to(dtype)"
MAKER = "it makes a function: call it outside, and name what it makes"
FUNCTIONS = {
    "Tensor": "use nt.tensor()",
    "Size": "shapes are tuples in compiled code",
    "dtype": OBJECT,
    "device": "name devices by strings in compiled code",
    "from_dlpack": "it makes a Tensor of a Python object: call it outside",
    "Generator": OBJECT,
    "get_default_dtype": "dtypes are types in compiled code, and the default may change after it: name the dtype",
    "finfo": "ask for it outside: limits are numbers, and numbers of globals are constants",
    "iinfo": "ask for it outside: limits are numbers, and numbers of globals are constants",
    "promote_types": "dtypes are types in compiled code: name the dtype",
    "set_default_dtype": OUTSIDE,
    "memory_stats": "its result is a dict with values of several types: call memory_summary(), or call it outside",
    "load": OUTSIDE,
    "autocast": CASTS,
    "clear_autocast_cache": OUTSIDE,
    "get_autocast_dtype": OUTSIDE,
    "is_autocast_available": OUTSIDE,
    "is_autocast_enabled": OUTSIDE,
    "set_autocast_dtype": OUTSIDE,
    "set_autocast_enabled": OUTSIDE,
    "cfunc": MAKER,
    "custom_op": MAKER,
    "pointwise": MAKER,
    "vmap": MAKER,
    "save": OUTSIDE,
    "get_float32_matmul_precision": OUTSIDE,
    "set_float32_matmul_precision": OUTSIDE,
}
SETTING = {"data": MEMORY}
