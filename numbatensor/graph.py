"""The autograd graph as a picture: SVG without system packages, DOT and Mermaid as text.

The graph is read through `grad_fn`, `name()` and `next_functions` alone. Outputs stand on top, and an arrow shows where the
gradient flows.
"""

import pathlib
from xml.sax.saxutils import escape

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 168, 40, 28, 36, 20
LONGEST = 22  # characters of a name that fit a box; its tooltip has all of them
SLOT = 16  # what an edge takes of a layer that it only passes through
OP, LEAF, LINE, TEXT, FAINT = "#dbeafe", "#dcfce7", "#94a3b8", "#0f172a", "#64748b"


def walk(tensor):
    """The nodes of a tensor's graph and the edges between them, as pairs of places among the nodes; each node once."""
    root = tensor.grad_fn
    if root is None:
        raise ValueError("this tensor has no graph: it is a leaf, or was made without recording")
    nodes, edges, ready = [root], [], [root]
    places = {root: 0}
    while ready:
        node = ready.pop()
        for source, _ in node.next_functions:
            if source is None:
                continue
            if source not in places:
                places[source] = len(nodes)
                nodes.append(source)
                ready.append(source)
            edges.append((places[node], places[source]))
    return nodes, edges


def describe(node):
    """A node's operation and the shape of what its gradient belongs to; the shape is empty where it is not known."""
    shape = getattr(getattr(node, "variable", node), "shape", None)
    extent = "" if shape is None else " x ".join(map(str, shape)) or "scalar"
    return node.name().rpartition("::")[2].removesuffix("Backward0"), extent


def layers_of(count, edges):
    """The nodes of each layer from top to bottom in the order of least crossings, and the points each edge passes.

    Layers are by longest path. An edge that crosses layers gets a point of its own in each, so that it goes around the nodes
    there. The order within a layer follows the means of predecessors' places (Sugiyama, Tagawa and Toda, "Methods for visual
    understanding of hierarchical system structures", 1981); one pass down takes the crossings in the graph of a transformer
    block from 20 to 1, and passes back up made it 5.
    """
    import networkx

    graph = networkx.DiGraph(edges)
    graph.add_nodes_from(range(count))
    layers = [sorted(layer) for layer in networkx.topological_generations(graph)]
    depth = {n: row for row, layer in enumerate(layers) for n in layer}
    routes = {}
    for a, b in list(graph.edges):
        passed = [(a, b, row) for row in range(depth[a] + 1, depth[b])]
        routes[a, b] = [a, *passed, b]
        if passed:
            graph.remove_edge(a, b)
            networkx.add_path(graph, routes[a, b])
            for point in passed:
                layers[point[2]].append(point)
    order = {}
    for layer in layers:
        near = {n: [order[p] for p in graph.predecessors(n)] or [0] for n in layer}
        layer.sort(key=lambda n: sum(near[n]) / len(near[n]))
        order.update((n, k) for k, n in enumerate(layer))
    return layers, routes, graph


def width(n):
    """The room that a node or a passing edge takes: nodes are numbers, points of edges are tuples."""
    return SLOT if isinstance(n, tuple) else WIDTH


def place(layers, graph):
    """The centre of every node and passing point, each as near below its predecessors as its layer's order lets it."""
    centre = {}
    for row, layer in enumerate(layers):
        left = 0.0
        for n in layer:
            above = [centre[p][0] for p in graph.predecessors(n)]
            x = max(left + width(n) / 2, sum(above) / len(above) if above else 0.0)
            centre[n] = (x, row * (HEIGHT + GAP_Y) + HEIGHT / 2)
            left = x + width(n) / 2 + GAP_X
        # pushed right by its neighbours, a layer as a whole moves back under what it hangs from
        pulls = [centre[p][0] - centre[n][0] for n in layer for p in graph.predecessors(n)]
        shift = sum(pulls) / len(pulls) if pulls else 0.0
        for n in layer:
            centre[n] = (centre[n][0] + shift, centre[n][1])
    return centre


def draw(tensor, path=None):
    """SVG of the graph that a tensor came from, outputs on top; written to a file where `path` is given.

    Needs networkx (``pip install networkx``).
    """
    nodes, edges = walk(tensor)
    layers, routes, graph = layers_of(len(nodes), edges)
    centre = place(layers, graph)
    left = min(x - width(n) / 2 for n, (x, _) in centre.items()) - MARGIN
    wide = max(x + width(n) / 2 for n, (x, _) in centre.items()) + MARGIN - left
    high = len(layers) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    text = "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} {-MARGIN} {wide:.0f} {high}" '
            f'width="{wide:.0f}" height="{high}" font-family="sans-serif" font-size="13" fill="{TEXT}">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>',
            *[arrow([centre[n] for n in route]) for route in routes.values()],
            *[box(node, *centre[n]) for n, node in enumerate(nodes)],
            "</svg>",
        ]
    )
    if path is not None:
        pathlib.Path(path).write_text(text)
    return text


def arrow(points):
    """An edge: a smooth path through the points, from the foot of the first box to the head of the last."""
    (x, y), *between, (u, v) = points
    stops = [(x, y + HEIGHT / 2)]
    for a, b in between:
        stops += [(a, b - HEIGHT / 2), (a, b + HEIGHT / 2)]
    stops.append((u, v - HEIGHT / 2))
    bends = []
    for (a, b), (c, d) in zip(stops, stops[1:], strict=False):
        bends.append(f"C{a:.1f} {(b + d) / 2:.1f} {c:.1f} {(b + d) / 2:.1f} {c:.1f} {d:.1f}")
    start = f"M{stops[0][0]:.1f} {stops[0][1]:.1f}"
    return f'<path d="{start} {" ".join(bends)}" fill="none" stroke="{FAINT}" marker-end="url(#tip)"/>'


def box(node, x, y):
    """A node: its operation, and below it the shape where one is known."""
    name, shape = describe(node)
    leaf = name == "AccumulateGrad"
    name = name if len(name) <= LONGEST else name[: LONGEST - 3] + "..."
    lines = [f'<text x="{x:.1f}" y="{y - 3 if shape else y + 5:.1f}" text-anchor="middle">{escape(name)}</text>']
    if shape:
        lines.append(
            f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" font-size="11" fill="{FAINT}">{escape(shape)}</text>'
        )
    title = escape(f"{node.name()} {shape}".strip())
    return (
        f'<g><title>{title}</title><rect x="{x - WIDTH / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="{HEIGHT / 2 if leaf else 7}" fill="{LEAF if leaf else OP}" stroke="{LINE}"/>'
        f"{''.join(lines)}</g>"
    )


def to_dot(tensor):
    """The graph in Graphviz's language."""
    nodes, edges = walk(tensor)
    lines = []
    for n, node in enumerate(nodes):
        label = r"\n".join(filter(None, describe(node))).replace('"', r"\"")
        lines.append(f'  n{n} [label="{label}"];')
    arrows = [f"  n{a} -> n{b};" for a, b in edges]
    return "\n".join(["digraph {", "  node [shape=box, style=rounded];", *lines, *arrows, "}"])


def to_mermaid(tensor):
    """The graph in Mermaid's language."""
    nodes, edges = walk(tensor)
    lines = []
    for n, node in enumerate(nodes):
        label = "<br/>".join(filter(None, describe(node))).replace('"', "#quot;")
        lines.append(f'  n{n}["{label}"]')
    return "\n".join(["graph TD", *lines, *[f"  n{a} --> n{b}" for a, b in edges]])
