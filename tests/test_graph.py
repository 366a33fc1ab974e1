"""Pictures of graphs: what they say of nodes and saved values, that they are well-formed, and that the version error shows one."""

import gc
import pickle
import re
import subprocess
import sys
import types
import weakref
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import numbatensor as nt
from numbatensor import graph_layout, graph_svg, nn
from numbatensor.autograd import Function, VersionError, strict_versions
from numbatensor.autograd.graph import saved_tensors_hooks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def without_dot(monkeypatch):
    """Whether Graphviz is installed must not matter, except where a test says so."""
    monkeypatch.setattr(graph_layout.shutil, "which", lambda name: None)


def groups(picture):
    """Of each box: the texts of its lines, its tips, and the color it is filled with."""
    found = []
    for g in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        tips = [t.text for t in g.iter(f"{SVG}title")]
        lines = [(t.find(f"{SVG}title").tail if len(t) else t.text) for t in g.iter(f"{SVG}text")]
        found.append((lines, tips, g.find(f"{SVG}rect").get("fill")))
    return found


def box(picture, start):
    return next(found for found in groups(picture) if found[0][0].startswith(start))


def ring():
    """A sum over two rows of a buffer, the second written after the first was used; then one over a value that is overwritten."""
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    buffer = nt.zeros(4, 2)
    y = x * buffer[0]
    buffer[1] = 3.0
    return x, y


def stale():
    x = nt.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2.0).exp()
    y.mul_(3.0)
    return x, y.sum()


# what is said


def test_a_box_names_the_op_its_shape_and_line():
    x = nt.ones(2, 3, requires_grad=True)
    lines, tips, fill = box(nt.graph.draw(x.exp()), "Exp")
    here = sys._getframe().f_lineno - 1
    assert lines == ["Exp", "float32 2 x 3", "out: float32 2 x 3, v0"]
    assert tips[0] == f"ExpBackward0, recorded at {__file__}:{here}" and fill == graph_svg.FILLS["op"][0]


def test_a_value_whose_storage_moved_on_but_not_where_it_lies_is_intact():
    x, y = ring()
    saved = {value.name: value for value in y.grad_fn.saved}["y"]
    assert (saved.version, saved.current, saved.stale, saved.writer) == (0, 1, False, "")
    lines, tips, fill = box(nt.graph.draw(y), "Mul")
    assert "y: float32 2, v0, now v1, intact" in lines and fill != graph_svg.FILLS["stale"][0]
    with strict_versions():
        assert {value.name: value.stale for value in y.grad_fn.saved}["y"]
        assert box(nt.graph.draw(y), "Mul")[2] == graph_svg.FILLS["stale"][0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]


def test_a_stale_value_is_red_and_names_its_writer():
    x, s = stale()
    lines, tips, fill = box(nt.graph.draw(s), "Exp")
    assert lines[-1] == "out: float32 2, v0, now v1: stale" and fill == graph_svg.FILLS["stale"][0]
    with pytest.raises(VersionError) as error:
        s.backward()
    writer = re.search(rf"`mul_` at {re.escape(__file__)}:\d+ has overwritten it since", str(error.value))[0]
    assert writer in tips[-1]
    for text in (nt.graph.to_dot(s), nt.graph.to_mermaid(s)):
        assert "v0, now v1: stale" in text and graph_svg.FILLS["stale"][0] in text


def test_what_numpy_wrote_is_stale():
    x, w = nt.ones(3), nt.ones(3, requires_grad=True)
    array = x.numpy()
    y = x * w
    assert not any(value.stale for value in y.grad_fn.saved)
    array[0] = 5.0
    assert [value.writer for value in y.grad_fn.saved] == ["a NumPy array that shares its memory"]
    assert "stale" in box(nt.graph.draw(y), "Mul")[0][-1]
    with pytest.raises(VersionError, match="NumPy") as error:
        y.sum().backward()
    assert error.value.node is y.grad_fn and error.value.slot == 0


def test_saving_does_not_disagree_with_backward():
    """`stale` is what backward finds, for each way of writing to a part of a matrix."""
    for write in (np.s_[0], np.s_[1:], np.s_[:, 0], np.s_[:, 1:], np.s_[1, 1]):
        for kept in (np.s_[0], np.s_[:, 0], np.s_[1:, 1:]):
            w, x = nt.ones((), requires_grad=True), nt.zeros(3, 3)
            y = (w * x[kept]).sum()
            x[write] = 1.0
            says = any(value.stale for node, _ in y.grad_fn.next_functions for value in node.saved)
            assert says == bool(np.isin(np.arange(9).reshape(3, 3)[kept], np.arange(9).reshape(3, 3)[write]).any())
            if says:
                pytest.raises(VersionError, y.backward)
            else:
                y.backward()


def test_freed_and_packed_and_numbers():
    x = nt.ones(2, requires_grad=True)
    y = x.exp().sum()
    y.backward()
    assert box(nt.graph.draw(y), "Exp")[0][-1] == "freed"
    with saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        z = x.exp()
    (value,) = z.grad_fn.saved
    assert value.packed and not value.stale and value.shape == (2,)
    assert box(nt.graph.draw(z), "Exp")[0][-1] == "out: float32 2, kept by a hook"
    assert box(nt.graph.draw(x * 2.0), "Mul")[0][-1] == "y: float32 number"


def test_names():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    hidden = model(nt.ones(4, 3))
    titles = [lines[0] for lines, _, _ in groups(nt.graph.draw(hidden.sum(), names=model))]
    assert {"0.weight", "0.bias"} <= set(titles)
    for names in ({"h": hidden, "w": model[0].weight}, [("h", hidden), ("w", model[0].weight)]):
        found = groups(nt.graph.draw(hidden.sum(), names=names))
        assert ["w", "float32 2 x 3"] in [lines for lines, _, _ in found]
        assert any("h: float32 4 x 2" in lines for lines, _, _ in found)


def test_several_roots_and_outputs():
    class Both(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2.0, x.sum()

        @staticmethod
        def backward(ctx, a, b):
            return a * 2.0 + b

    x = nt.ones(3, requires_grad=True)
    a, b = Both.apply(x)
    lines, _, _ = box(nt.graph.draw([a, b]), "Both")
    assert lines[1:3] == ["output 0: float32 3", "output 1: float32 scalar"]
    picture = nt.graph.draw([a.exp(), b.exp()])
    assert len(groups(picture)) == 4 and ">output 1</text>" in picture
    assert 'label="output 1"' in nt.graph.to_dot(b.exp()) and "-->|output 1|" in nt.graph.to_mermaid(b.exp())


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="has no graph"):
        nt.graph.draw(nt.ones(2))
    with pytest.raises(ValueError, match="nothing to draw"):
        nt.graph.draw([])
    with pytest.raises(TypeError, match="not of int"):
        nt.graph.draw([3])
    y = nt.ones(2, requires_grad=True) * 2.0
    with pytest.raises(ValueError, match="format"):
        nt.graph.draw(y, format="png")
    with pytest.raises(ValueError, match="limit"):
        nt.graph.draw(y, limit=0)


def test_a_large_graph_is_cut():
    x = nt.ones(2, requires_grad=True)
    y = x
    for _ in range(3000):
        y = y * x
    picture = nt.graph.draw(y)
    assert len(groups(picture)) == 500 and "The 500 nearest nodes; the graph goes on." in picture
    assert "1 more input" in picture
    assert nt.graph.to_dot(y, limit=7).count("label=<") == 7 and "goes on" in nt.graph.to_dot(y, limit=7)
    assert "goes on" in nt.graph.to_mermaid(y, limit=7)
    assert nt.graph.to_dot(y, limit=4000).count("label=<") == 3001


def test_a_wide_graph_is_cut():
    parts = [nt.ones(1, requires_grad=True) for _ in range(1000)]
    lines, _, _ = box(nt.graph.draw(nt.cat(parts), limit=5), "Cat")
    assert lines[-1] == "996 more inputs"


# the texts are well-formed

EVIL = "a<b>&\"'\\]]>`;#%\n\x00\ud800|{x}"


def evil():
    function = type(EVIL.replace("\x00", "").replace("\ud800", ""), (Function,), {
        "forward": staticmethod(lambda ctx, x: x * 2.0), "backward": staticmethod(lambda ctx, g: g)
    })  # fmt: skip
    x = nt.ones(2, requires_grad=True)
    run = {"function": function, "x": x}
    exec(compile("y = function.apply(x).exp()", EVIL.replace("\x00", ""), "exec"), run)
    return x, run["y"]


def test_nothing_is_left_unescaped(tmp_path):
    x, y = evil()
    path = tmp_path / "graph.svg"
    assert path.write_bytes(b"") == 0
    picture = nt.graph.draw(y, path, names={EVIL: x})
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg" and isinstance(picture, str)
    titles = {lines[0] for lines, _, _ in groups(picture)}
    assert {"Exp", EVIL.replace("\n", " ").replace("\x00", "\ufffd").replace("\ud800", "\ufffd")} <= titles
    assert "<b>" not in picture

    dot = nt.graph.draw(y, names={EVIL: x}, format="dot")
    for line in dot.splitlines():
        if "label=<" in line:
            label, rest = re.fullmatch(r"  n\d+ \[label=<(.*)>, tooltip=(.*)\];", line).groups()
            ElementTree.fromstring(f"<label>{label}</label>")
            assert "\\" not in label
            assert re.fullmatch(r'"(?:[^"\\]|\\.)*", fillcolor="#\w+", color="#\w+"', rest)

    mermaid = nt.graph.draw(y, names={EVIL: x}, format="mermaid")
    labels = re.findall(r'^  n\d+\["(.*)"\]$', mermaid, re.M)
    assert len(labels) == 3
    assert not any(c in label.replace("<br/>", "") for label in labels for c in "<>\"'&`\\[]{}|")


def test_a_picture_shows_itself_in_a_notebook():
    picture = nt.graph.draw(nt.ones(2, requires_grad=True).exp())
    assert isinstance(picture, str) and picture._repr_svg_() == picture and type(picture._repr_svg_()) is str


# layouts


def shapes(picture):
    """The rectangles of boxes, and whether any two overlap."""
    rectangles = [g.find(f"{SVG}rect") for g in ElementTree.fromstring(picture).iter(f"{SVG}g")]
    return np.array([[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in rectangles])


def test_boxes_do_not_overlap_and_lie_inside():
    x = nt.ones(3, 3, requires_grad=True)
    y = x
    for _ in range(12):
        y = nt.cat([y.exp() + x, (y @ x).relu(), x], 0).sum(0, keepdim=True).expand(3, 3) * y.sigmoid()
    picture = nt.graph.draw(y.sum())
    place, root = shapes(picture), ElementTree.fromstring(picture)
    for k, (u, v, w, h) in enumerate(place):
        others = np.delete(place, k, 0)
        apart = (others[:, 0] >= u + w) | (others[:, 0] + others[:, 2] <= u)
        apart |= (others[:, 1] >= v + h) | (others[:, 1] + others[:, 3] <= v)
        assert apart.all()
    assert (place[:, :2] > 0).all() and (place[:, 0] + place[:, 2] < float(root.get("width"))).all()
    assert (place[:, 1] + place[:, 3] < float(root.get("height"))).all()


DOT = f"""#!{sys.executable}
import re, sys
assert sys.argv[1:] == ["-Tplain"]
text = sys.stdin.read()
nodes = re.findall(r"n(\\d+) \\[width=([\\d.]+), height=([\\d.]+)\\];", text)
print("graph 1 10 20")
for k, (n, w, h) in enumerate(nodes):
    print(f'node n{{n}} 5 {{19 - k}} {{w}} {{h}} "" solid box black lightgrey')
for a, b in re.findall(r"n(\\d+) -> n(\\d+);", text):
    print(f"edge n{{a}} n{{b}} 4 5 {{18.5 - int(a)}} 5 2 5 2 5 1 solid black")
print("stop")
"""


@pytest.fixture
def dot(tmp_path, monkeypatch):
    """A stand-in for Graphviz, which puts one box under the other."""
    program = tmp_path / "dot"

    def install(text):
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setattr(graph_layout.shutil, "which", lambda name: str(program) if name == "dot" else None)

    return install


def test_graphviz_lays_out_where_it_is_installed(dot):
    dot(DOT)
    x, y = evil()
    picture = nt.graph.draw(y.sum())
    middle = shapes(picture)[:, :2] + shapes(picture)[:, 2:] / 2
    assert np.allclose(middle[:, 0], graph_layout.MARGIN + 5 * 72, atol=0.2)
    assert np.allclose(np.diff(middle[:, 1]), 72, atol=0.2) and middle[0, 1] == pytest.approx(
        graph_layout.MARGIN + 72, 0.01
    )


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho graph 1 x\n", "#!/bin/sh\necho stop\n", "no program"]
)
def test_where_graphviz_fails_networkx_lays_out(dot, text):
    dot(text)
    assert len(groups(nt.graph.draw(nt.ones(2, requires_grad=True).exp()))) == 2


def test_without_networkx_and_graphviz_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    x, s = stale()
    with pytest.raises(ImportError, match="pip install networkx"):
        nt.graph.draw(s)
    assert "Exp" in nt.graph.to_dot(s) and "Exp" in nt.graph.to_mermaid(s)
    with pytest.raises(VersionError) as error:
        s.backward()
    assert error.value._repr_svg_() is None


# the error


def test_the_error_shows_the_graph_around_it():
    x, s = stale()
    with pytest.raises(RuntimeError) as caught:
        s.backward()
    error = caught.value
    assert type(error) is nt.autograd.VersionError and error.node.name() == "ExpBackward0" and error.slot == 0
    assert error.root is s.grad_fn and error.node.saved[error.slot].stale
    picture = error._repr_svg_()
    assert [lines[0] for lines, _, _ in groups(picture)] == ["Sum", "Mul", "Exp", "Mul", "AccumulateGrad"]
    lines, tips, fill = box(picture, "Exp")
    assert tips[-1] == str(error) and fill == graph_svg.FILLS["stale"][0]


def test_the_error_of_a_strict_rule_is_red_once_the_rule_is_off():
    x, y = ring()
    with pytest.raises(VersionError) as error, strict_versions():
        y.sum().backward()
    assert box(error.value._repr_svg_(), "Mul")[2] == graph_svg.FILLS["stale"][0]


def test_the_error_of_a_large_graph_shows_a_part():
    x = nt.ones(2, requires_grad=True)
    y = x * 2.0
    z = y.exp()
    z.mul_(2.0)
    for _ in range(200):
        z = z + y
    with pytest.raises(VersionError) as error:
        z.sum().backward(retain_graph=True)
    picture = error.value._repr_svg_()
    assert len(groups(picture)) == 40 and "the graph goes on" in picture and box(picture, "Exp")
    for _ in range(20_000):  # too far to look for
        z = z + 1.0
    with pytest.raises(VersionError) as error:
        z.sum().backward()
    assert error.value.root is None
    assert groups(error.value._repr_svg_())[0][0][0] == "Exp"


def test_outside_of_a_pass():
    x, s = stale()
    node = s.grad_fn.next_functions[0][0].next_functions[0][0]
    with pytest.raises(VersionError) as error:
        node._saved_result  # noqa: B018
    assert error.value.node is node and error.value.root is None and box(error.value._repr_svg_(), "Exp")


def test_the_error_pickles_as_its_message():
    x, s = stale()
    with pytest.raises(VersionError) as error:
        s.backward()
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is VersionError and str(again) == str(error.value)
    assert again.node is None and again.slot is None and again._repr_svg_() is None


def test_the_error_keeps_the_graph_while_it_lives_and_no_longer():
    x, s = stale()
    node = s.grad_fn
    error = pytest.raises(VersionError, s.backward).value
    del x, s
    alive = nt.memory_stats()["nodes"]
    assert error.root is node and alive >= 5
    gone = weakref.ref(error)
    node = None
    gc.disable()
    try:
        error = error.with_traceback(None)
        error = None
        assert gone() is None and nt.memory_stats()["nodes"] == alive - 5
    finally:
        gc.enable()


class Shell:
    """What of IPython's shell a traceback uses."""

    def __init__(self):
        self.shown = []
        self.InteractiveTB = types.SimpleNamespace(
            structured_traceback=lambda kind, error, tb: ["as usual", str(error)]
        )

    def install(self, monkeypatch, running=True):
        package, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        package.get_ipython = lambda: self if running else None
        display.display = lambda data, raw: self.shown.append((data, raw))
        package.display = display
        monkeypatch.setitem(sys.modules, "IPython", package)
        monkeypatch.setitem(sys.modules, "IPython.display", display)


def test_a_notebook_shows_the_picture_beside_the_usual_traceback(monkeypatch):
    x, s = stale()
    error = pytest.raises(VersionError, s.backward).value
    shell = Shell()
    shell.install(monkeypatch)
    assert error._render_traceback_() == ["as usual", str(error)]
    ((data, raw),) = shell.shown
    assert raw and list(data) == ["image/svg+xml"] and box(data["image/svg+xml"], "Exp")


def test_a_picture_that_fails_does_not_hide_the_error(monkeypatch):
    x, s = stale()
    error = pytest.raises(VersionError, s.backward).value
    shell = Shell()
    shell.install(monkeypatch)
    monkeypatch.setattr(graph_svg, "layout", lambda sizes, edges: 1 / 0)
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        assert error._render_traceback_() == ["as usual", str(error)]
    assert not shell.shown


@pytest.mark.parametrize("imported", [False, True])
def test_without_a_shell_the_traceback_is_pythons(monkeypatch, imported):
    x, s = stale()
    error = pytest.raises(VersionError, s.backward).value
    if imported:
        Shell().install(monkeypatch, running=False)
    else:
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert error._render_traceback_()[-1] == f"numbatensor.autograd.VersionError: {error}\n"
    assert imported or "IPython" not in sys.modules


def test_a_program_that_fails_imports_nothing_for_it():
    code = (
        "import sys, numbatensor as nt\n"
        "x = nt.ones(2, requires_grad=True)\ny = x.exp()\ny.mul_(2.0)\n"
        "try: y.sum().backward()\n"
        "except nt.autograd.VersionError: print(*{'IPython', 'networkx'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
