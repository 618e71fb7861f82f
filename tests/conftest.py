"""One thread and no GPU for every test: small tensors gain nothing from more, and on a GPU sums do not repeat.

Those that need a GPU are run alone, by `pytest -m gpu`.
"""

import base64
import os
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for torch here, imported later, and for the programs that tests start


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs, from the programs that tests start too."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


DOT = base64.b64decode(b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
"""A PNG of one white pixel."""


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave pictures white and small: to draw those of every run takes minutes, and tests/report draws all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from lrlab.report import confusion

    monkeypatch.setattr(Figure, "draw", lambda *_: None)
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda _, file, **__: file.write(DOT))
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)
    yield
    confusion._prepared.cache_clear()  # else the next test would draw on what was left white here
