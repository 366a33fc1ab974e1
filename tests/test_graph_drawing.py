"""The drawn graph: what stands in it, and that no box or edge covers another box."""

import itertools
import xml.etree.ElementTree as ET

import pytest

import numbatensor as nt
from numbatensor import graph

SVG = "{http://www.w3.org/2000/svg}"
LIBRARIES = ["numbatensor", pytest.param("torch", marks=pytest.mark.peer)]


@pytest.fixture(params=LIBRARIES)
def lib(request):
    """The library, and PyTorch, whose graphs read the same."""
    return nt if request.param == "numbatensor" else pytest.importorskip("torch")


def residual(lib, width=4):
    """A graph with edges that cross layers, a node used twice, and a constant."""
    w, b = lib.ones(width, width, requires_grad=True), lib.zeros(width, requires_grad=True)
    x = lib.ones(2, width)
    hidden = (x @ w + b).tanh()
    return ((hidden.exp() * 2.0 + hidden).sigmoid() * hidden + b).sum()


def boxes(svg):
    """Left, top, right and bottom of every box."""
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def stops(path):
    """The points that an edge passes through: the last of each curve's three, after where it starts."""
    numbers = [float(n) for n in path.get("d").replace("M", "").replace("C", "").split()]
    return [tuple(numbers[:2]), *(tuple(numbers[k : k + 2]) for k in range(6, len(numbers), 6))]


def test_every_node_and_edge_is_drawn(lib):
    y = residual(lib)
    nodes, edges = graph.walk(y)
    svg = graph.draw(y)
    root = ET.fromstring(svg)
    arrows = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(boxes(svg)) == len(nodes) and len(arrows) == len(set(edges))
    titles = " ".join(title.text for title in root.iter(f"{SVG}title"))
    for name in ("SumBackward0", "TanhBackward0", "ExpBackward0", "AccumulateGrad 4 x 4"):
        assert name in titles


def test_nothing_overlaps(lib):
    svg = graph.draw(residual(lib))
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(boxes(svg), 2):
        assert a >= g or e >= c or b >= h or f >= d
    # a passing edge goes straight down beside the boxes of a layer
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if path.get("marker-end"):
            for (x, y), (u, v) in itertools.pairwise(stops(path)):
                if x == u:
                    assert not any(a < x < c and b < (y + v) / 2 < d for a, b, c, d in boxes(svg))


def test_picture_holds_all_of_it(lib):
    svg = graph.draw(residual(lib))
    x, y, w, h = map(float, ET.fromstring(svg).get("viewBox").split())
    for a, b, c, d in boxes(svg):
        assert x <= a and y <= b and c <= x + w and d <= y + h


def test_written_file_is_the_text(tmp_path):
    y = residual(nt)
    assert graph.draw(y, tmp_path / "graph.svg") == (tmp_path / "graph.svg").read_text() == graph.draw(y)


def test_one_node():
    y = nt.ones(3, requires_grad=True).clone()
    assert len(boxes(graph.draw(y))) == 2


def test_leaf_has_no_graph():
    for x in (nt.ones(2), nt.ones(2, requires_grad=True)):
        with pytest.raises(ValueError, match="no graph"):
            graph.draw(x)


def test_deep_graph():
    y = nt.ones(2, requires_grad=True)
    for _ in range(3000):
        y = y * 1.0
    assert len(graph.walk(y)[0]) == 3001
    assert len(boxes(graph.draw(y))) == 3001


def test_texts(lib):
    x = lib.ones(3, requires_grad=True)
    y = (x * x).sum()
    mermaid = graph.to_mermaid(y)
    assert mermaid.startswith("graph TD\n") and "AccumulateGrad<br/>3" in mermaid
    assert mermaid.count("n1 --> n2") == 2  # both factors
    dot = graph.to_dot(y)
    assert dot.startswith("digraph {") and dot.endswith("}") and dot.count("n1 -> n2") == 2


@pytest.mark.peer
def test_peers_agree_on_the_graph():
    torch = pytest.importorskip("torch")

    def shape_of(lib):
        nodes, edges = graph.walk((lib.ones(3, requires_grad=True).exp().tanh() * 2.0).sum())
        return [graph.describe(node)[0] for node in nodes], edges

    assert shape_of(nt) == shape_of(torch)
