"""Figures of which many alike are drawn: what stays is drawn once, and short texts are copied from where they were."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.transforms import Transform
from PIL import Image

from lrlab.report.style import FONT, INK

_DIGIT_HEIGHT: Final = 0.73
"""Of a font's size, in the font that we draw with."""
_LINE_HEIGHT: Final = 1.25
_COMPRESSION: Final = 1
"""zlib's level: more takes longer for a twentieth less space."""
_MARGIN: Final = 2
"""Pixels around a line that is kept, for what reaches out of its box."""
_MOST_KEPT: Final = 4096
"""Lines that are kept, of about two kilobytes each."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Word:
    """A short text, of one or more lines, and where its middle is; its left edge where a `Words` says so."""

    text: str
    x: float
    y: float
    colour: str = INK


class Words(Artist):
    """Many short texts of figures in one artist: one matplotlib `Text` each would take longer than all the drawing."""

    def __init__(self, transform: Transform, *, size: float, align: Literal["left", "centre"] = "centre") -> None:
        super().__init__()
        self.set_transform(transform)
        self.set_zorder(3)  # as a `Text` has: over axes
        self.words: Sequence[Word] = ()
        self._font = FontProperties(family=FONT, size=size)
        self._align = align

    def draw(self, renderer: RendererBase) -> None:
        """Draw them, the lines of each beneath each other."""
        if not self.get_visible() or not self.words:
            return
        places = self.get_transform().transform([(word.x, word.y) for word in self.words])
        em = np.asarray(renderer.points_to_pixels(self._font.get_size_in_points())).item()
        gc = renderer.new_gc()
        for word, (x, y) in zip(self.words, places.tolist(), strict=True):
            gc.set_foreground(word.colour)
            lines = word.text.split("\n")
            for number, line in enumerate(lines):
                below = _DIGIT_HEIGHT / 2 + (number - (len(lines) - 1) / 2) * _LINE_HEIGHT
                self._draw_line(renderer, gc, line, x, y - below * em)
        gc.restore()

    def _draw_line(self, renderer: RendererBase, gc: GraphicsContextBase, line: str, x: float, y: float) -> None:
        if self._align == "centre":
            x -= renderer.get_text_width_height_descent(line, self._font, False)[0] / 2
        y = renderer.get_canvas_width_height()[1] - y if renderer.flipy() else y
        renderer.draw_text(gc, x, y, line, self._font, 0)


class Blitter:
    """Draws one figure again and again after some of its artists were changed.

    Args:
        figure: at the size and the resolution that it keeps.
        changing: artists that are drawn anew each time, in this order, over all the others.
    """

    def __init__(self, figure: Figure, changing: Sequence[Artist]) -> None:
        self._changing = changing
        self._renderer = _Renderer(*FigureCanvasAgg(figure).get_width_height(), figure.dpi)
        for artist in changing:
            artist.set_visible(False)
        figure.draw(self._renderer)
        for artist in changing:
            artist.set_visible(True)
        self._behind = self._renderer.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        """Draw the figure as it is now, as a PNG; the same one always gives the same bytes."""
        self._renderer.restore_region(self._behind)
        for artist in self._changing:
            artist.draw(self._renderer)
        pixels = np.asarray(self._renderer.buffer_rgba())[..., :3]  # the figure's ground is opaque
        buffer = io.BytesIO()
        dpi = self._renderer.dpi
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=_COMPRESSION, dpi=(dpi, dpi))
        return buffer.getvalue()


class _Renderer(RendererAgg):
    """Agg, but for the lines of `Words`: those are copied, to whole pixels, from where they were drawn once."""

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        if mtext is not None:  # a text of matplotlib's, which may be turned
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        image, beneath = _image_of(s, prop, gc.get_rgb(), self.dpi)
        self.draw_image(gc, round(x) - _MARGIN, self.height - round(y) - beneath, image)

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        return super().get_text_width_height_descent(s, prop, ismath) if ismath else _extent(s, prop, self.dpi)


@lru_cache(_MOST_KEPT)
def _extent(line: str, font: FontProperties, dpi: float) -> tuple[float, float, float]:
    """Width, height, and how far it goes below its baseline, in pixels."""
    width, height, descent = RendererAgg(1, 1, dpi).get_text_width_height_descent(line, font, False)
    return width, height, descent


@lru_cache(_MOST_KEPT)
def _image_of(
    line: str, font: FontProperties, colour: tuple[float, float, float, float], dpi: float
) -> tuple[Pixels, int]:
    """Draw a line alone: its pixels, (H, W, 4), lowest row first as Agg has it, and how many are below the baseline."""
    width, height, descent = _extent(line, font, dpi)
    beneath = math.ceil(descent) + _MARGIN
    size = math.ceil(width) + 2 * _MARGIN, math.ceil(height) + beneath + _MARGIN
    renderer = RendererAgg(*size, dpi)
    gc = renderer.new_gc()
    gc.set_foreground(colour)
    renderer.draw_text(gc, _MARGIN, size[1] - beneath, line, font, 0)
    return np.asarray(renderer.buffer_rgba())[::-1].copy(), beneath
