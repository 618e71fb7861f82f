from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lrlab.report import write_figures
from lrlab.report.charts import draw_charts, make_charts
from lrlab.report.members import read_members
from lrlab.runs import Run, StorageError


def figures_of(runs: list[Run]) -> dict[str, Figure]:
    return dict(draw_charts(make_charts(read_members(runs))))


GRADIENTS = {
    "grad_l2/stem": 0.5,
    "grad_l2/linear": 5.0,
    "grad_rms/stem": 0.1,
    "grad_out_l2/stem": 0.01,
    "grad_out_rms/stem": 0.2,
}


def test_the_articles_figures_are_written(make_run, row, evaluation, tmp_path: Path) -> None:
    run = make_run(rows=[row(1, **GRADIENTS), row(2, **GRADIENTS)], evaluations=[evaluation(2)])

    paths = write_figures([run], tmp_path / "new" / "figures")

    names = ["loss", "accuracy", "lr", "grad_stem", "grad_linear", "grad_out_stem"]
    assert paths == [tmp_path / "new" / "figures" / f"{name}.png" for name in names]
    for path in paths:
        assert path.with_suffix(".svg").read_bytes().startswith(b"<?xml")
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width > height > 500


def test_gradients_are_l2_norms_on_logarithmic_axes_of_one_scale(make_run, row) -> None:
    run = make_run(rows=[row(1, **GRADIENTS), row(2, **GRADIENTS)])

    stem, linear, output = (figure.axes[0] for figure in list(figures_of([run]).values())[2:])

    assert [stem.get_yscale(), linear.get_yscale(), output.get_yscale()] == ["log"] * 3
    assert stem.lines[0].get_ydata().tolist() == [0.5, 0.5]
    assert stem.get_ylim() == linear.get_ylim() != output.get_ylim()
    assert stem.get_ylabel() == "L2 norm of the gradient"
    assert (stem.get_title("left"), output.get_title("left")) == (
        "stem: gradient of the parameters",
        "stem: gradient through the output",
    )


def test_what_the_layers_say_has_charts_of_its_own(make_run, row) -> None:
    layers = {
        "weight_l2/stem": 3.0,
        "update_ratio/stem": 1e-3,
        "adam_snr/stem": 0.06,
        "grad_cosine/stem": -0.02,
        "weight_l2/linear": 1.0,
        "update_ratio/linear": 1e-2,
        "adam_snr/linear": 0.2,
        "grad_cosine/linear": 0.4,
    }

    figures = figures_of([make_run(rows=[row(1, **layers), row(2, **layers)])])

    assert list(figures)[2:] == [
        f"{section}_{group}" for section in ("update", "cosine", "snr", "weight") for group in ("stem", "linear")
    ]
    stem, linear = (figures[f"cosine_{group}"].axes[0] for group in ("stem", "linear"))
    assert stem.get_yscale() == "linear" and stem.get_ylim() == linear.get_ylim() == pytest.approx((-0.021, 0.42))
    assert figures["update_stem"].axes[0].get_yscale() == "log"


def test_several_runs_are_laid_over_each_other_whatever_their_length(make_study, row) -> None:
    rows = [row(step, **GRADIENTS) for step in range(1, 9)]
    runs = make_study({"a": [{"rows": rows}, {"rows": rows[:3], "status": "running"}], "b": [{}]})

    figures = figures_of(runs)

    assert list(figures) == ["loss", "lr", "grad_stem", "grad_linear", "grad_out_stem"]
    for figure in figures.values():
        assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [8, 3]
        assert figure.axes[0].get_xlim() == (0, 8)


def test_a_run_that_has_recorded_nothing_has_no_figures(make_run, tmp_path: Path) -> None:
    assert write_figures([make_run(status="running")], tmp_path / "figures") == []


def test_groups_with_rates_of_their_own_have_a_figure_each(make_run, row) -> None:
    rows = [row(1, **{"lr/linear": 1e-3}), row(2, **{"lr/linear": 1e-4})]

    assert list(figures_of([make_run(rows=rows)])) == ["loss", "lr_stem", "lr_linear"]


def test_no_name_of_a_group_leads_out_of_the_folder_or_over_another_figure(make_run, row, tmp_path: Path) -> None:
    groups = ["../../up", "a/b", "a_b", "A_b", "out_stem", "x" * 300]
    rows = [row(1, **{f"grad_l2/{group}": 1.0 for group in groups}, **{"grad_out_l2/stem": 1.0})]

    paths = write_figures([make_run(rows=rows)], tmp_path / "figures")

    vectors = [path.with_suffix(".svg") for path in paths]
    assert sorted([*paths, *vectors]) == sorted((tmp_path / "figures").iterdir())
    assert [path.stem for path in paths[2:]] == [
        "grad_.._.._up",
        "grad_a_b",
        "grad_a_b~2",
        "grad_A_b~3",
        "grad_out_stem",
        f"grad_{'x' * 80}",
        "grad_out_stem~2",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a file's place is taken in another way there")
def test_a_folder_that_cannot_be_made_is_named(make_run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    with pytest.raises(StorageError, match="taken"):
        write_figures([make_run()], tmp_path / "taken" / "figures")
