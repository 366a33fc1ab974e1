"""The SVG of boxes and edges."""

from html import escape

from numbatensor.graph_layout import MARGIN, layout
from numbatensor.graph_walk import DIM, GONE, LEAF, OP, PLAIN, STALE

LINE, LETTER, PAD = 16, 6.7, 9  # pixels: the height of a line, the width of a letter of 11 pixels, the rim
FILLS = {
    OP: ("#dbeafe", "#64748b"),
    LEAF: ("#dcfce7", "#16a34a"),
    GONE: ("#f1f5f9", "#94a3b8"),
    STALE: ("#fee2e2", "#dc2626"),
}
COLORS = {PLAIN: "#0f172a", DIM: "#475569", STALE: "#b91c1c"}


def size_of(box):
    """Width and height of a box, in pixels."""
    return 2 * PAD + LETTER * max(len(line.text) for line in box.lines), 2 * PAD + LINE * len(box.lines) - 4


def svg(boxes, edges, labels, note):
    """The picture as text. `labels`: of edges, by (upper, lower) box; `note`: a line below, or empty."""
    sizes = [size_of(box) for box in boxes]
    found = layout(sizes, edges)
    width, height = max(found.width, 2 * MARGIN + LETTER * len(note)), found.height + (LINE if note else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11">',
        '<defs><marker id="numbatensor-tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for points, arrow in found.curves:
        path = " ".join(f"{'M' if k == 0 else 'C' if k == 1 else ''}{u:.1f} {v:.1f}" for k, (u, v) in enumerate(points))
        tip = ' marker-end="url(#numbatensor-tip)"' if arrow else ""
        parts.append(f'<path d="{path}" fill="none" stroke="#64748b"{tip}/>')
    for box, (u, v), (w, h) in zip(boxes, found.middles, sizes, strict=True):
        parts.append(draw_box(box, u - w / 2, v - h / 2, w, h))
    for edge, label in labels.items():
        u, v = found.starts[edge]
        parts.append(f'<text x="{u + 4:.1f}" y="{v + 11:.1f}" fill="#475569" font-size="10">{escape(label)}</text>')
    if note:
        parts.append(f'<text x="{MARGIN}" y="{height - 10:.1f}" fill="#475569">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>"])


def draw_box(box, x, y, w, h):
    """A box, its lines, and what they say where one points at them."""
    fill, rim = FILLS[box.kind]
    parts = [
        f'<g><title>{escape(box.tip)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="6" fill="{fill}" '
        f'stroke="{rim}"/>'
    ]
    for k, line in enumerate(box.lines):
        tip = f"<title>{escape(line.tip)}</title>" if line.tip else ""
        weight = ' font-weight="bold"' if k == 0 or line.kind == STALE else ""
        parts.append(
            f'<text x="{x + w / 2:.1f}" y="{y + PAD + LINE * k + 9:.1f}" text-anchor="middle" fill="{COLORS[line.kind]}"{weight}>'
            f"{tip}{escape(line.text)}</text>"
        )
    return "".join([*parts, "</g>"])
