"""The autograd graph as a picture: SVG laid out by networkx, DOT and Mermaid as text."""

import pathlib
from xml.sax.saxutils import escape

NEWLINE = r"\n"
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 168, 40, 28, 36, 20


def walk(tensor):
    """The nodes of a tensor's graph and the edges between them, each node once."""
    root = tensor.grad_fn
    if root is None:
        raise ValueError("this tensor has no graph: it is a leaf, or was made without recording")
    nodes, edges, ready = [root], [], [root]
    numbers = {root: 0}
    while ready:
        node = ready.pop()
        for parent, _ in node.next_functions:
            if parent is None:
                continue
            if parent not in numbers:
                numbers[parent] = len(nodes)
                nodes.append(parent)
                ready.append(parent)
            edges.append((numbers[node], numbers[parent]))
    return nodes, edges


def label(node):
    """A node's name and the shape of its gradient."""
    return node.name().removesuffix("Backward0"), " x ".join(map(str, node.shape)) or "scalar"


def draw(tensor, path=None):
    """SVG of the graph that a tensor came from, outputs on top; written to a file where `path` is given.

    Needs networkx (``pip install networkx``).
    """
    import networkx

    nodes, edges = walk(tensor)
    layered = networkx.DiGraph(edges)
    layered.add_nodes_from(range(len(nodes)))
    layers = [sorted(layer) for layer in networkx.topological_generations(layered)]
    place, widest = {}, max(map(len, layers))
    for row, layer in enumerate(layers):
        if row:
            layer.sort(key=lambda n: sum(place[p][0] for p in layered.predecessors(n)) / max(1, layered.in_degree(n)))
        shift = (widest - len(layer)) * (WIDTH + GAP_X) / 2
        for column, n in enumerate(layer):
            place[n] = (MARGIN + shift + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
    wide, high = 2 * MARGIN + widest * (WIDTH + GAP_X) - GAP_X, 2 * MARGIN + len(layers) * (HEIGHT + GAP_Y) - GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" '
        'font-family="sans-serif" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#666"/></marker></defs>',
    ]
    for a, b in edges:
        (x, y), (u, v) = place[a], place[b]
        parts.append(
            f'<path d="M{x + WIDTH / 2:.1f} {y + HEIGHT:.1f} C{x + WIDTH / 2:.1f} {y + HEIGHT + GAP_Y / 2:.1f} '
            f'{u + WIDTH / 2:.1f} {v - GAP_Y / 2:.1f} {u + WIDTH / 2:.1f} {v:.1f}" fill="none" stroke="#666" marker-end="url(#tip)"/>'
        )
    for n, node in enumerate(nodes):
        name, shape = label(node)
        x, y = place[n]
        fill = "#dbeafe" if name != "AccumulateGrad" else "#dcfce7"
        parts.append(
            f'<g><title>{escape(node.name())}</title><rect x="{x:.1f}" y="{y:.1f}" width="{WIDTH}" height="{HEIGHT}" rx="7" '
            f'fill="{fill}" stroke="#94a3b8"/><text x="{x + WIDTH / 2:.1f}" y="{y + 17:.1f}" text-anchor="middle">{escape(name)}'
            f'</text><text x="{x + WIDTH / 2:.1f}" y="{y + 33:.1f}" text-anchor="middle" fill="#64748b" font-size="11">'
            f"{escape(shape)}</text></g>"
        )
    text = "\n".join([*parts, "</svg>"])
    if path is not None:
        pathlib.Path(path).write_text(text)
    return text


def to_dot(tensor):
    """The graph in Graphviz's language."""
    nodes, edges = walk(tensor)
    lines = [f'  n{k} [label="{NEWLINE.join(label(node))}"];' for k, node in enumerate(nodes)]
    return "\n".join(
        ["digraph {", "  node [shape=box, style=rounded];", *lines, *[f"  n{a} -> n{b};" for a, b in edges], "}"]
    )


def to_mermaid(tensor):
    """The graph in Mermaid's language."""
    nodes, edges = walk(tensor)
    lines = [f'  n{k}["{"<br/>".join(label(node))}"]' for k, node in enumerate(nodes)]
    return "\n".join(["graph TD", *lines, *[f"  n{a} --> n{b}" for a, b in edges]])
