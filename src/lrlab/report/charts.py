"""The article's figures, for one run or for several laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from matplotlib.figure import Figure

from lrlab.report.curves import Curve, read_accuracy, read_column
from lrlab.report.drawing import draw_quantity, share_limits
from lrlab.report.style import to_png
from lrlab.runs import Run
from lrlab.runs.storage import storage_errors, write_whole
"""


"""
