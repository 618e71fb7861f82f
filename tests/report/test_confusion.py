from __future__ import annotations

import struct

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrlab.report import confusion_png
from lrlab.report.confusion import confusion_figure

COUNTS = [[699, 1, 0], [5, 15, 980], [0, 0, 0]]
NAMES = ("cat", "dog", "eel")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def tick_names(axes: Axes, which: str = "y") -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def square(num_classes: int) -> list[list[int]]:
    return (np.eye(num_classes, dtype=int) * 3 + 1).tolist()


def test_each_cell_says_its_share_of_the_row_and_its_count() -> None:
    written = texts(confusion_figure(COUNTS, NAMES, title="step 10"))

    assert [text for text in written if "\n" in text] == [
        ">99%\n699",
        "<1%\n1",
        "0%\n0",
        "<1%\n5",
        "2%\n15",
        "98%\n980",
    ]
    assert "step 10" in written


def test_cells_are_coloured_by_their_share_of_the_row() -> None:
    (image,) = confusion_figure(COUNTS, NAMES, title="").axes[0].images

    shares = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_allclose(shares, [[699 / 700, 1 / 700, 0], [0.005, 0.015, 0.98], [np.nan] * 3])


def test_accuracies_stand_beside_and_a_class_without_examples_has_none() -> None:
    beside = confusion_figure(COUNTS, NAMES, title="").axes[1]

    assert [text.get_text() for text in beside.texts] == ["99.9%", "1.5%", "n/a"]


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
    assert "$a_" in texts(figure)


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
    assert "80%" not in texts(confusion_figure(square(21), list(map(str, range(21))), title=""))
    written = texts(confusion_figure(square(15), list(map(str, range(15))), title=""))
    assert written.count("22%") == 15 and not any("\n" in text for text in written)


def test_a_hundred_classes_have_a_quarter_of_the_ticks() -> None:
    figure = confusion_figure(square(100), [f"class {index}" for index in range(100)], title="step 1")

    assert tick_names(figure.axes[0])[:3] == ["class 0", "class 4", "class 8"]
    assert texts(figure) == ["step 1"]
    assert not figure.axes[1].texts


def test_the_png_is_the_same_each_time_and_carries_no_text_or_date() -> None:
    png = confusion_png(COUNTS, NAMES, title="step 10")

    chunks, position = [], 8
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        chunks.append(kind)
        position += length + 12
    assert png == confusion_png(COUNTS, NAMES, title="step 10")
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
