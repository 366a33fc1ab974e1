"""What must never happen, by reading the sources: imports that go the wrong way, kernels without their twins, undocumented ops."""

import ast
import inspect
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import numbatensor as nt
from numbatensor.op import OPS, Pointwise, View
from numbatensor.samples import draw

ROOT = pathlib.Path(nt.__file__).parents[1]
SOURCES = sorted(p for folder in ("numbatensor", "kernels_cpu", "kernels_cuda") for p in (ROOT / folder).rglob("*.py"))
# Each layer may import from those above it, and from itself without a cycle.
LAYERS = [
    ["kernels_cpu", "kernels_cuda"],
    ["numbatensor.core"],
    ["numbatensor.dtypes", "numbatensor.memory", "numbatensor.devices", "numbatensor.exchange", "numbatensor.backends"],
    ["numbatensor.hollow"],
    ["numbatensor.samples", "numbatensor.trace", "numbatensor.op"],
    ["numbatensor.cuda"],
    ["numbatensor.ops"],
    ["numbatensor.cuda.check", "numbatensor.making"],
    ["numbatensor.hooks", "numbatensor.python_rules", "numbatensor.messages", "numbatensor.graph_nodes"],
    [
        "numbatensor.graph",
        "numbatensor.graph_walk",
        "numbatensor.graph_layout",
        "numbatensor.graph_svg",
        "numbatensor.version_error",
    ],
    ["numbatensor.printing", "numbatensor.publish", "numbatensor.tensor", "numbatensor.ufuncs", "numbatensor.autograd"],
    ["numbatensor.refusals", "numbatensor.index_refusals"],
    [
        "numbatensor.index_refusals",
        "numbatensor.indexing",
        "numbatensor.joining",
        "numbatensor.linear_algebra",
        "numbatensor.functional",
        "numbatensor.geometry",
        "numbatensor.methods",
    ],
    [
        "numbatensor.array_functions",
        "numbatensor.creation",
        "numbatensor.generator",
        "numbatensor.random",
        "numbatensor.random_in_place",
        "numbatensor.serialization",
    ],
    ["numbatensor.nopython"],
    ["numbatensor.custom_op"],
    ["numbatensor.scalars"],
    ["numbatensor.func", "numbatensor.autograd.functional", "numbatensor.c_functions", "numbatensor.amp"],
    ["numbatensor"],
]
ON_THE_PUBLIC_API = ["numbatensor.nn", "numbatensor.optim", "numbatensor.utils"]
OPTIONAL = {
    "IPython",
    "networkx",
    "graphviz",
    "matplotlib",
    "tqdm",
    "sklearn",
    "torch",
    "greenlet",
}  # may be imported inside functions
WITH_A_DEVICE = {
    f"numbatensor.cuda.{name}" for name in ("runtime", "driver", "standin", "cub", "cublas")
}  # loaded when a device is first asked for
KERNELS_MAY_IMPORT = {"numba", "llvmlite", "numpy"} | set(sys.stdlib_module_names)  # llvmlite is numba's own
# Modules that one of the two kernel packages has alone, with the reasons.
MATHEMATICS = "libdevice has these functions"
VECTORS = "LLVM's vectors and branches of the CPU"
WITHOUT_CUDA = {
    **dict.fromkeys("arcs error_functions exact exponentials exponents hyperbolic integers".split(), MATHEMATICS),
    **dict.fromkeys("logarithms ordering pairs powers remainders trigonometry".split(), MATHEMATICS),
    **dict.fromkeys("arrays tiles traced vectors".split(), VECTORS),
    "checksum": "what shares a device's memory is not checksummed",
}
WITHOUT_CPU = {
    "arranging": "core/arranging.py copies triangles by rows",
    "masks": "places in the CPU's kernels_cpu/index.py",
    "meanings": "what functions of devices mean in the emulator",
}
# Ops without code for devices: only ever recorded, or filling what kernels of their own fill. None takes a detour by the CPU.
RECORDED = {"copy_slices", "as_strided_view", "copy", "function"}
FILLS = {
    "uniform",
    "normal",
    "exponential",
    "random",
    "bernoulli",
    "randperm",
    "multinomial",
    "sgd_step",
    "adam_step",
}  # have kernels, and no `run`


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(p): ast.parse(p.read_text()) for p in SOURCES}


def imports(tree):
    """The modules that a tree imports; `from package import module` means the module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = [f"{node.module}.{a.name}" for a in node.names]
            found |= {w if w in MODULES else node.module for w in whole}
    return found


def outer(tree):
    """A tree without the bodies of its functions."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return ast.Pass()

    return Strip().visit(ast.parse(ast.unparse(tree)))


def layer(module):
    """The number of the layer that names a module most closely."""
    places = [(len(name), k) for k, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(name + ".")]
    return max(places)[1]


def public(module):
    return any(f"{module}.".startswith(name + ".") for name in ON_THE_PUBLIC_API)


def test_kernels_import_numba_numpy_and_themselves():
    for name, tree in MODULES.items():
        package = name.split(".")[0]
        if package.startswith("kernels_"):
            wrong = {i for i in imports(tree) if i.split(".")[0] not in KERNELS_MAY_IMPORT | {package}}
            assert not wrong, f"{name} imports {wrong}"


# Numba's extension interface, as its manual uses it.
EXTENSION = {"numba", "numba.extending", "numba.core.imputils", "numba.core.typing.templates", "numba.core.typeconv"}
EXTENSION |= {"numba.core.errors", "numba.cuda.extending"}


def test_what_is_private_to_numba_is_named_in_one_file():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "numba":
                known = node.module in EXTENSION or (
                    node.module == "numba.core" and {a.name for a in node.names} <= {"cgutils", "types", "errors"}
                )
                assert known or name == "numbatensor.core.private", f"{name} imports from {node.module}"


def test_nothing_imports_upward():
    for name, tree in MODULES.items():
        ours = {i for i in imports(tree) if i in MODULES}
        if public(name):
            assert all(i == "numbatensor" or public(i) for i in ours), (
                f"{name} leans on more than the public API: {ours}"
            )
        elif name != "numbatensor":
            wrong = {i for i in ours - WITH_A_DEVICE if public(i) or layer(i) > layer(name)}
            assert not wrong, f"{name} imports {wrong} from below its layer"


def test_every_module_has_a_layer():
    wrong = [m for m in MODULES if layer(m) == len(LAYERS) - 1 and m != "numbatensor" and not public(m)]
    assert not wrong, f"say in LAYERS where {wrong} belong"


def test_imports_have_an_order():
    left = {m: {i for i in imports(outer(t)) if i in MODULES} - {m} for m, t in MODULES.items() if not public(m)}
    left = {m: {i for i in found if not public(i)} for m, found in left.items()}
    while ready := [m for m, found in left.items() if not found & set(left)]:
        for m in ready:
            del left[m]
    assert not left, f"these import each other: {left}"


def test_no_import_inside_a_function():
    wrong = []
    for name, tree in MODULES.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                wrong += [
                    (name, function.name, i)
                    for i in imports(function) - WITH_A_DEVICE
                    if i.split(".")[0] not in OPTIONAL
                ]
    assert not wrong


def test_both_kernel_packages_tell_the_same_story():
    """What a module of one package is about has its module in the other, or a reason."""
    cpu, cuda = (
        {name.split(".")[1] for name in MODULES if name.startswith(p + ".")} for p in ("kernels_cpu", "kernels_cuda")
    )
    assert cpu - cuda == set(WITHOUT_CUDA)
    assert cuda - cpu == set(WITHOUT_CPU)


def test_ops_have_code_for_devices():
    """Every op but those that are named: pointwise ops by their formulas, views as on the CPU, the others by `there`."""
    own = [op for op in OPS.values() if not isinstance(op, (Pointwise, View))]
    assert {op.name for op in own if op.there is None} == RECORDED | FILLS
    assert {name for name in FILLS if not OPS[name].there_kernels} == set()


@pytest.fixture(scope="module")
def after_import():
    """What a process has loaded after `import numbatensor`."""
    code = "import numbatensor, sys; print(*sys.modules); print(*{l.split()[-1] for l in open('/proc/self/maps')})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules, files = done.stdout.strip().split("\n")
    return set(modules.split()), files


def test_import_loads_nothing_optional(after_import):
    modules, files = after_import
    optional = OPTIONAL | {"numba.cuda", "numba_cuda", "cuda", "cupy", "pandas", "tbb", "hypothesis", "pytest"}
    assert not modules & optional
    assert "libcuda" not in files


def test_import_loads_no_special_functions(after_import):
    assert "scipy.special" not in after_import[0]


# the ops

POINTWISE = [name for name, op in OPS.items() if isinstance(op, Pointwise)]
DOUBLE = r"\b(?:f(?:add|sub|mul|div|rem|neg|cmp|pext|ptrunc)|[su]itofp|(?:tail )?call)\b[^\n]*\bdouble\b"
WIDE: set = set()
KERNELS = f"""
import re
import numbatensor as nt
from numbatensor.core import compiler
from numbatensor.op import OPS, Pointwise, View
compiler.read = lambda path: None  # object code from the disk has no LLVM
compiler.write = lambda *args: None
for name, op in OPS.items():
    if isinstance(op, Pointwise) and op.row["dtypes"] >> nt.float32.code & 1:
        for what in [0, *[1 + op.inputs.index(i) for i in op.rules]]:
            op.compile(what, nt.float32.code)
            text = compiler.held[-1].library.get_llvm_str()
            print(name, len(re.findall(r"float", text)) > 0, *re.findall(r"{DOUBLE}", text))
"""


def test_float32_kernels_compute_in_float32():
    """The LLVM of every pointwise kernel and rule of float32. Reductions add up in float64, on purpose."""
    done = subprocess.run([sys.executable, "-c", KERNELS], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split(" ", 2) for line in done.stdout.strip().split("\n")]
    assert len(lines) > 150 and all(line[1] == "True" for line in lines)
    assert {line[0] for line in lines if len(line) > 2} == WIDE, done.stdout


def test_every_op_is_documented():
    assert not [name for name, op in OPS.items() if not op.__doc__]


def test_every_op_has_samples():
    """Or says in words why it has none."""
    assert not [name for name, op in OPS.items() if not op.samples]
    lacking = {
        name: {i for i in op.rules if not any(len(sample) > op.inputs.index(i) for sample in op.samples)}
        for name, op in OPS.items()
        if not isinstance(op.samples, str)
    }
    assert not any(lacking.values()), f"no sample reaches these rules: {lacking}"


def test_samples_are_drawn_late():
    """Nothing is drawn at import, and what is drawn is the same each time."""
    for op in OPS.values():
        if not isinstance(op.samples, str):
            assert not any(isinstance(value, np.ndarray) for sample in op.samples for value in sample)
            assert repr(draw(op.samples)) == repr(draw(op.samples))


def test_every_op_has_a_rule_per_input():
    """Or says that there is none: `op.constant` names such inputs."""
    missing = {}
    for name, op in OPS.items():
        if isinstance(op, Pointwise):
            count, floats = int(op.row["tensors"]), op.row["dtypes"] >> nt.float32.code & 1 and not op.row["result"]
            tensors = [i for k, i in enumerate(op.inputs[:count]) if not op.row["masks"] >> k & 1] if floats else []
        else:
            tensors = op.tensor_names
        lacking = [i for i in tensors if i not in op.rules and i not in op.constants]
        if lacking:
            missing[name] = lacking
    assert not missing


def test_names_of_ops_say_what_they_are():
    """A public function of an op shows its documentation and parameters."""
    wrong = [n for n in POINTWISE if not inspect.getdoc(OPS[n])]
    assert not wrong
