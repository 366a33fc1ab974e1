"""The README's tour does what it shows."""

import doctest
import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_tour():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    tour = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "tour", str(README), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    results = runner.run(tour)
    tour.globs.clear()
    assert results.attempted > 20 and results.failed == 0
