"""Expressions that differ from PyTorch's and are to be repaired, by kind: each fails as expected, until it is right.

`python tests/peer_known.py` rewrites this file without those that are right by now.
"""

import pathlib
import re

KINDS = {
    "deliberate: PyTorch lets the gradient through what a truth value overwrites": """
(x * 1).logical_and_(y)
(x * 1).logical_and_(v)
(x * 1).logical_or_(y)
(x * 1).logical_or_(v)
(x * 1).logical_xor_(y)
(x * 1).logical_xor_(v)
""",
    "deliberate: negative numbers count from the end, as in NumPy": """
x.gather(0, at - 1)
x.index_select(0, rows - 1)
F.embedding(rows - 1, x)
F.embedding(i0 - 2, x)
""",
    "deliberate: placed as NumPy places it": """
t[0, :, cols]
""",
    "another error": """
L.tensor([None])
L.tensor(2**70)
L.linspace(0, 1, -1)
L.eye(-1)
L.where(i, x, y)
x.masked_fill(i, 0)
x.prod((0, 0))
v.mT
s.unbind()
L.cat([])
x["a"]
x[1.5]
x[1.0]
x.index_add(0, rows + 5, y)
x.take_along_dim(at, 1)
F.embedding(rows.float(), x)
float(x)
int(x)
"a" in k
""",
    "missing": """
L.zeros(size=(2, 3))
L.round(x.detach(), out=L.empty_like(X))
L.logit(u.detach(), out=L.empty_like(X))
L.clamp(X, 0, 1, out=L.empty_like(X))
(x * 1).logical_not_()
x.scatter(0, at, y, reduce="add")
L.matmul(X, m.detach(), out=L.empty(3, 2, dtype=D))
""",
    "no error": """
L.sub(b, 2)
L.sub(i, True)
L.pow(n, 300)
i.add(j, alpha=1.5)
L.isclose(x, y, rtol=-1.0)
put(n, 0, 300)
F.binary_cross_entropy_with_logits(x, b)
""",
    "wrong dtype": """
L.arange(i0)
L.square(b)
format(x, "")
""",
    "RuntimeError where PyTorch raises its subclass NotImplementedError": """
L.sign(b)
F.hardtanh(i)
~x
L.bitwise_not(b)
""",
    "wrong flag": """
i.clone().eq_(y)
i.clone().ne_(y)
i.clone().lt_(y)
i.clone().le_(y)
i.clone().gt_(y)
i.clone().ge_(y)
x.norm(0)
""",
    "wrong gradient": """
L.logit(z)
L.atan2(n, s)
x.var(dim=0, correction=3)
zt.cumprod(1)
zt.topk(2)[0]
""",
    "wrong result": """
F.gelu(z)
z ** 0.5
reversed(v)
""",
    "raises": """
L.floor_divide(x, X, out=X)
i + 1j
""",
}

KNOWN = {e: kind for kind, block in KINDS.items() for e in block.strip().split("\n") if e}

if __name__ == "__main__":
    import torch
    from peer import compare

    path = pathlib.Path(__file__)
    text = path.read_text()
    for expression in KNOWN:
        if not compare(expression, torch):
            text = re.sub(f"^{re.escape(expression)}\n", "", text, count=1, flags=re.MULTILINE)
            print("right by now:", expression)
    path.write_text(text)
