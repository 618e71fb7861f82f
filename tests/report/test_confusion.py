from __future__ import annotations

import io
import struct

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lrlab.report import confusion_png
from lrlab.report.blitting import Words
from lrlab.report.confusion import _prepared, confusion_figure
from lrlab.report.style import to_png

COUNTS = [[699, 1, 0], [5, 15, 980], [0, 0, 0]]
NAMES = ("cat", "dog", "eel")


def words(figure: Figure) -> list[list[str]]:
    """What is written into the cells, and beside them."""
    return [[word.text for word in found.words] for found in figure.artists if isinstance(found, Words)]


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pixels(png: bytes) -> npt.NDArray[np.int64]:
    """Colours, (H, W, 3)."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def tick_names(axes: Axes, which: str = "y") -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def square(num_classes: int) -> list[list[int]]:
    return (np.eye(num_classes, dtype=int) * 3 + 1).tolist()


def test_each_cell_says_its_share_of_the_row_and_its_count() -> None:
    figure = confusion_figure(COUNTS, NAMES, title="step 10")

    assert words(figure)[0] == [
        ">99%\n699",
        "<1%\n1",
        "0%\n0",
        "<1%\n5",
        "2%\n15",
        "98%\n980",
    ]
    assert titles(figure) == ["step 10"]


def test_cells_are_coloured_by_their_share_of_the_row() -> None:
    (mesh,) = confusion_figure(COUNTS, NAMES, title="").axes[0].collections

    shares = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    np.testing.assert_allclose(shares, [[699 / 700, 1 / 700, 0], [0.005, 0.015, 0.98], [np.nan] * 3])


def test_accuracies_stand_beside_and_a_class_without_examples_has_none() -> None:
    figure = confusion_figure(COUNTS, NAMES, title="")

    assert words(figure)[1] == ["99.9%", "1.5%", "n/a"]
    _, bars = figure.axes[1].collections
    assert [path.vertices[:, 0].max() for path in bars.get_paths()] == [699 / 700, 0.015, 0]


def test_rows_are_labels_and_columns_predictions() -> None:
    matrix = confusion_figure(COUNTS, NAMES, title="").axes[0]

    assert (matrix.get_ylabel(), matrix.get_xlabel()) == ("label", "prediction")
    assert tick_names(matrix, "x") == tick_names(matrix, "y") == list(NAMES)
    assert matrix.get_ylim() == (2.5, -0.5)  # the first class on top


def test_names_are_drawn_literally_and_on_one_line() -> None:
    figure = confusion_figure(square(4), ["$x_1$", "<b>", "two\nlines", r"$\frac{"], title="$a_")

    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["$x_1$", "<b>", "two lines", r"$\frac{"]
    assert not any(label.get_parse_math() for label in [*labels, *figure.axes[0].get_xticklabels()])
    assert titles(figure) == ["$a_"]


def test_a_long_name_loses_its_middle() -> None:
    (name, other) = tick_names(confusion_figure(square(2), ["golden-winged warbler, male", "x"], title="").axes[0])

    assert name == "golden-wi…er, male" and other == "x"


@pytest.mark.parametrize(
    ("classes", "drawn"),
    [
        (["a rather long name, one", "a rather odd name, one"], ["0 a rathe…e, one", "1 a rathe…e, one"]),
        (["猫", "dog"], ["0 \N{REPLACEMENT CHARACTER}", "1 dog"]),
    ],
)
def test_names_that_cannot_be_told_apart_are_numbered(classes: list[str], drawn: list[str]) -> None:
    assert tick_names(confusion_figure(square(2), classes, title="").axes[0]) == drawn


def test_names_that_the_font_lacks_are_drawn_without_a_warning() -> None:
    confusion_png(square(2), ["猫\u200b", "🐈\ud83d"], title="猫")


def test_many_classes_have_shares_alone_and_hundreds_have_no_text() -> None:
    assert words(confusion_figure(square(21), list(map(str, range(21))), title="")) == [[], []]
    shares, _ = words(confusion_figure(square(15), list(map(str, range(15))), title=""))
    assert shares.count("22%") == 15 and not any("\n" in text for text in shares)


def test_a_hundred_classes_have_a_quarter_of_the_ticks_and_say_which_has_no_examples() -> None:
    counts = square(100)
    counts[7] = [0] * 100
    figure = confusion_figure(counts, [f"class {index}" for index in range(100)], title="step 1")

    assert tick_names(figure.axes[0])[:3] == ["class 0", "class 4", "class 8"]
    assert titles(figure) == ["step 1"]
    assert words(figure) == [[], ["n/a"]]


@pytest.mark.parametrize("num_classes", [3, 21])
def test_the_png_that_is_kept_ready_is_the_figure_drawn_whole(num_classes: int) -> None:
    counts, names = np.roll(square(num_classes), 1, axis=0).tolist(), [f"name {index}" for index in range(num_classes)]
    confusion_png(square(num_classes), names, title="something before")
    quick = pixels(confusion_png(counts, names, title="step 10"))
    whole = pixels(to_png(confusion_figure(counts, names, title="step 10")))

    # words are copied to whole pixels, up to half a pixel from where they would be; all else is the same
    assert np.abs(quick - whole).mean() < (0.5 if num_classes == 3 else 0.01)
    assert (quick != whole).any(axis=2).mean() < (0.02 if num_classes == 3 else 0.001)


def test_what_was_drawn_before_leaves_no_trace() -> None:
    first = confusion_png(COUNTS, NAMES, title="step 10")
    confusion_png([[0, 0, 0], [0, 5, 0], [7, 0, 0]], NAMES, title="a longer title than that of the others")

    assert confusion_png(COUNTS, NAMES, title="step 10") == first


def test_settings_of_the_user_change_nothing() -> None:
    png = confusion_png(COUNTS, NAMES, title="step 10")
    with matplotlib.rc_context({"text.hinting": "none", "text.antialiased": False, "savefig.dpi": 50, "font.size": 3}):
        assert confusion_png(COUNTS, NAMES, title="step 10") == png
        _prepared.cache_clear()
        assert confusion_png(COUNTS, NAMES, title="step 10") == png  # the frame as well


def test_the_png_is_the_same_each_time_and_carries_no_text_or_date() -> None:
    png = confusion_png(COUNTS, NAMES, title="step 10")

    chunks, position = [], 8
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        chunks.append(kind)
        position += length + 12
    assert png == confusion_png(COUNTS, NAMES, title="step 10")
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
