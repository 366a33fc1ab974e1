"""Where the boxes of a picture lie: laid out by Graphviz's `dot` where it is installed, else in layers that networkx finds.

All lengths are in pixels, from the upper left corner. A curve is the control points of cubic Bézier pieces; of several that lead to one
box, the layout in layers draws what they share once.
"""

import collections
import shutil
import subprocess
import typing

MARGIN = 16
GAP, ROW = 26, 34  # between boxes, and between layers
INCH = 72
SWEEPS = 6  # down and up, through the layers
MISSING = "drawing a graph needs Graphviz's `dot` on the PATH, or networkx (pip install networkx); `to_dot` and `to_mermaid` need neither"


class Layout(typing.NamedTuple):
    """The middles of the boxes, curves as (control points, whether an arrow ends it), starts of edges, width and height."""

    middles: list
    curves: list
    starts: dict
    width: float
    height: float


def layout(sizes, edges):
    """Where boxes and edges between them are drawn."""
    edges = list(dict.fromkeys(edges))
    return by_graphviz(sizes, edges) or by_networkx(sizes, edges)


def by_graphviz(sizes, edges):
    """The layout of `dot`, or None where it is not installed, or fails."""
    program = shutil.which("dot")
    if program is None:
        return None
    lines = ["digraph {", "  graph [nodesep=0.35, ranksep=0.45];", '  node [shape=box, fixedsize=true, label=""];']
    lines += [f"  n{k} [width={w / INCH:.4f}, height={h / INCH:.4f}];" for k, (w, h) in enumerate(sizes)]
    lines += ["  edge [dir=none];", *[f"  n{a} -> n{b};" for a, b in edges], "}"]
    try:
        done = subprocess.run([program, "-Tplain"], input="\n".join(lines), capture_output=True, text=True, timeout=30)
        return read_plain(done.stdout, len(sizes), edges) if done.returncode == 0 else None
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        return None


def read_plain(text, count, edges):
    """The layout that Graphviz's `plain` format gives: inches, from the lower left corner."""
    middles: list = [None] * count
    curves, starts, width, height = [], {}, 0.0, 0.0
    place = lambda x, y: (MARGIN + INCH * float(x), MARGIN + height - INCH * float(y))
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "graph":
            width, height = INCH * float(words[1]), INCH * float(words[2])
        elif kind == "node":
            middles[int(words[0][1:])] = place(words[1], words[2])
        elif kind == "edge":
            a, b, n = int(words[0][1:]), int(words[1][1:]), int(words[2])
            points = [place(words[3 + 2 * k], words[4 + 2 * k]) for k in range(n)]
            curves.append((points, True))
            starts[a, b] = points[0]
    if None in middles or len(starts) < len(edges):
        raise LookupError("dot has left out a node or an edge")
    return Layout(middles, curves, starts, width + 2 * MARGIN, height + 2 * MARGIN)


def by_networkx(sizes, edges):
    """A layout in layers: each box below all boxes that lead to it."""
    try:
        import networkx
    except ImportError:
        raise ImportError(MISSING) from None
    directed = networkx.DiGraph(edges)
    directed.add_nodes_from(range(len(sizes)))
    layers = [sorted(layer) for layer in networkx.topological_generations(directed)]
    return in_layers(sizes, edges, layers)


def in_layers(sizes, edges, layers):
    """The layout of boxes whose layers are known.

    An edge that passes through layers has a place of its own in each of them, which all edges to its lower end share. The layers are then
    ordered by the means of their neighbours' places, down and up in turn (Sugiyama, Tagawa and Toda, 1981).
    """
    row = {k: r for r, layer in enumerate(layers) for k in layer}
    rows: list = [list(layer) for layer in layers]
    pieces: dict = {}
    for a, b in edges:
        at = a
        for r in range(row[a] + 1, row[b]):
            through = (b, r)
            if through not in row:
                row[through] = r
                rows[r].append(through)
            pieces[at, through] = True
            at = through
        pieces[at, b] = True
    widths = {k: sizes[k][0] if isinstance(k, int) else 6.0 for k in row}
    above, below = collections.defaultdict(list), collections.defaultdict(list)
    for a, b in pieces:
        below[a].append(b)
        above[b].append(a)
    x: dict = {}
    for layer in rows:
        spread(layer, dict.fromkeys(layer, 0.0), widths, x)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        beside = above if down else below
        for layer in rows if down else reversed(rows):
            aim = {k: sum(x[n] for n in beside[k]) / len(beside[k]) if beside[k] else x[k] for k in layer}
            layer.sort(key=aim.get)
            spread(layer, aim, widths, x)
    left = min(x[k] - widths[k] / 2 for k in x) - MARGIN
    top, y = MARGIN, []
    for layer in layers:
        tall = max(sizes[k][1] for k in layer)
        y.append((top, tall))
        top += tall + ROW
    middles = [(x[k] - left, y[row[k]][0] + sizes[k][1] / 2) for k in range(len(sizes))]
    right = max(x[k] + widths[k] / 2 for k in x) - left + MARGIN
    curves, starts = [], {}
    for a, b in pieces:
        (u, v), (s, t) = foot(a, x, y, row, sizes, left), (x[b] - left, y[row[b]][0])
        bend = (t - v) / 2
        points = [(u, v), (u, v + bend), (s, t - bend), (s, t)]
        curves.append((points, isinstance(b, int)))
    for k in row:
        if not isinstance(k, int):  # straight on through the layer
            s, (t, tall) = x[k] - left, y[row[k]]
            curves.append(([(s, t), (s, t), (s, t + tall), (s, t + tall)], False))
    for a, b in edges:
        starts[a, b] = foot(a, x, y, row, sizes, left)
    return Layout(middles, curves, starts, right, top - ROW + MARGIN)


def foot(k, x, y, row, sizes, left):
    """Where edges leave a box, or a place in a layer."""
    top, tall = y[row[k]]
    return x[k] - left, top + (sizes[k][1] if isinstance(k, int) else tall)


def spread(layer, aim, widths, x):
    """Place a layer as near to where its boxes want to be as their order and widths allow: between the two tightest ways to do so."""
    rightmost, leftmost = {}, {}
    edge = None
    for k in layer:
        rightmost[k] = aim[k] if edge is None else max(aim[k], edge + widths[k] / 2)
        edge = rightmost[k] + widths[k] / 2 + GAP
    edge = None
    for k in reversed(layer):
        leftmost[k] = aim[k] if edge is None else min(aim[k], edge - widths[k] / 2)
        edge = leftmost[k] - widths[k] / 2 - GAP
    for k in layer:
        x[k] = (rightmost[k] + leftmost[k]) / 2
