from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from lrlab.report import write_report
from lrlab.runs import RunError

HOSTILE = '<script>alert("1")<\\script>&$x_1$'
NBSP = "\N{NO-BREAK SPACE}"


class Page(HTMLParser):
    """A page taken apart: its tags, its attributes and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.source = path.read_text(encoding="utf-8")
        self.words: list[str] = []
        self.documents: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).replace(NBSP, " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.documents.append(data)
        else:
            self.words.append(data)

    @property
    def document(self) -> dict[str, Any]:
        """What its charts are drawn from."""
        return json.loads(self.documents[0])

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def assert_stands_alone(page: Page) -> None:
    """Nothing in the page is loaded from anywhere, and nothing can run but our two scripts, as they are."""
    assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & set(page.tags)
    assert page.values("src") == []
    assert all(target.startswith("#") for target in page.values("href"))
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "srcset")]
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, flags=re.DOTALL)
    assert "url(" not in style and "@import" not in style
    plotly, ours = re.findall(r"<script>(.*?)</script>", page.source, flags=re.DOTALL)
    assert plotly == get_plotlyjs() and "innerHTML" not in ours
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in (plotly, ours)
    )
    assert page.values("content")[0] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {hashes}; base-uri 'none'; form-action 'none'"
    )
    assert page.tags.count("script") == 3


def test_a_page_elsewhere_says_where_the_configuration_lies(make_run, row, tmp_path) -> None:
    run = make_run(rows=[row(1), row(2)])
    assert "from config.toml, which lies beside this page" in Page(write_report(run.directory)).text
    elsewhere = Page(write_report(run.directory, directory=tmp_path / "elsewhere")).text
    assert f"from config.toml, which lies in {run.directory} and holds every setting" in elsewhere


def test_a_run_of_several_ranks_says_how_to_start_them_again(make_run, row) -> None:
    run = make_run(rows=[row(1), row(2)], num_ranks=4)
    page = Page(write_report(run.directory))
    assert "torchrun --nproc-per-node 4 -m -- lrlab train --config config.toml --run NEW" in page.text
    assert page.text.count("torchrun --nproc-per-node 4 -m -- ") == 2  # the command that made it, too


def test_a_run_that_went_on_with_another_number_of_ranks_says_so(make_run, row) -> None:
    run = make_run(rows=[row(1), row(2)])
    info = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps({**info, "resumed": [{"step": 1, "ranks": 2}]}))
    page = Page(write_report(run.directory))
    assert "It was made by 2 then 1 processes. The same takes lrlab resume by each number of them in turn" in page.text
    assert "torchrun --nproc-per-node 2 -m -- lrlab train --config config.toml --run NEW" in page.text
    assert page.text.count("torchrun") == 1, "the last command was of one process"


def test_the_page_of_a_run_holds_all_that_is_known_of_it(make_run, row, evaluation, decision) -> None:
    run = make_run(
        rows=[row(1, **{"grad_l2/stem": 1.0}), row(2, **{"grad_l2/stem": 2.0})],
        evaluations=[evaluation(1, [[1, 7], [6, 6]]), evaluation(2)],
        decisions=[decision(2, "decay", before=1e-3, after=1e-4)],
    )

    path = write_report(run.directory)

    page = Page(path)
    assert_stands_alone(page)
    assert path == run.directory / "report.html"
    assert "complete: it came to its end." in page.text
    assert not re.search("<th[^>]*></th>", path.read_text()), "read aloud, a column without a name is none"
    assert "n = 1: one run shows what happened once and proves nothing" in page.text
    assert "test accuracy 85.00 %" in page.text
    assert "cat 8 75.00 % dog (25.00 %)" in page.text  # of the last evaluation
    assert "2 mean_diff = -0.0001234, num_losses = 2 0.0005 decay 0.001 0.0001" in page.text
    assert "schedule.multiplier 0.5" in page.text
    assert "environment.packages.torch" in page.text and "engine.threads 2" in page.text
    assert "lrlab train --config config.toml --run NEW" in page.text
    names = ["accuracy", "confusion", "grad_stem", "loss", "lr"]
    files = sorted(file.name for file in (run.directory / "figures").iterdir())
    assert files == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    titles = [chart["title"] for chart in page.document["charts"]]
    assert titles == ["Training loss", "Test accuracy", "Learning rate", "stem: gradient of the parameters"]
    assert page.document["decays"][0]["texts"] == [
        ["seed 0: mean_diff = -0.0001234, num_losses = 2; threshold 0.0005; rate 0.001 to 0.0001"]
    ]
    (matrices,) = page.document["matrices"]
    assert (matrices["label"], matrices["steps"], matrices["classes"]) == ("trial, seed 0", [1, 2], ["cat", "dog"])
    assert base64.b64decode(matrices["counts"]["bytes"]) == bytes([1, 7, 6, 6, 6, 2, 1, 11])


def test_the_same_run_gives_the_same_page(make_run, row) -> None:
    run = make_run(rows=[row(1)])

    assert write_report(run.directory).read_bytes() == write_report(run.directory).read_bytes()


def test_the_page_of_a_study_lists_each_seed_and_compares_the_arms(make_study, row, evaluation, tmp_path) -> None:
    slow = {"schedule": {"name": "article", "multiplier": 0.2}, "steps": 2}
    content = {"rows": [row(1), row(2)], "config": slow}
    make_study(
        {
            "slow": [
                {**content, "evaluations": [evaluation(2, [[5, 5], [5, 5]])]},
                {**content, "evaluations": [evaluation(2, [[9, 1], [1, 9]])]},
            ],
            "fast": [{"rows": [row(1)], "evaluations": [evaluation(1)]}, {"rows": [row(1)], "status": "running"}],
        }
    )

    page = Page(write_report(tmp_path / "trials"))

    assert_stands_alone(page)
    assert "2 arms, 4 runs: 3 complete, 1 running." in page.text
    assert "slow 2 70.00 % 0.00 % to 100.00 % 50.00 % (seed 0), 90.00 % (seed 1) none" in page.text
    assert "fast 1 85.00 % \N{EN DASH} 85.00 % (seed 0) seed 1: running at update 1" in page.text
    assert "not by whether these intervals overlap" in page.text
    assert "One run of each proves nothing: slow and fast differ by -35.00 points of test accuracy" in page.text
    assert "slow - fast 1 -35.00 - - 0/1" in page.text
    assert "Where n = 1, one run proves nothing" in page.text
    assert "schedule.multiplier 0.5 0.2" in page.text  # arms stand in the order of their names
    assert "Sum over the last evaluations of seeds 0, 1 (n = 2), at update 2." in page.text
    assert "lrlab study study.toml" in page.text
    figures = sorted(file.name for file in (tmp_path / "trials" / "figures").iterdir())
    names = ["accuracy", "accuracy_by_arm", "confusion_fast", "confusion_slow", "differences", "loss", "lr"]
    assert figures == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]


def test_names_are_text_and_nothing_else(make_study, row, evaluation, tmp_path) -> None:
    content = {
        "rows": [row(1, **{f"grad_l2/{HOSTILE}": 1.0})],
        "evaluations": [evaluation(1)],
        "classes": [HOSTILE, "two\nlines"],
    }
    make_study({HOSTILE: [content]}, name="a<b>&c")

    page = Page(write_report(tmp_path / "a<b>&c"))

    assert_stands_alone(page)
    assert "a<b>&c" in page.words  # the heading, unescaped by the parser
    assert page.words.count(HOSTILE) >= 4  # arm in three tables, class in one
    assert page.document["arms"][0]["name"] == HOSTILE
    assert page.document["matrices"][0]["classes"] == [HOSTILE, "two\nlines"]
    assert "<" not in page.documents[0]


def test_a_name_that_is_no_text_does_not_stop_the_page(make_run, evaluation) -> None:
    run = make_run(evaluations=[evaluation(1)], classes=["caf\udce9", "dog"])

    assert "caf?" in Page(write_report(run.directory)).text


def test_a_run_that_has_only_begun_has_a_page(make_run) -> None:
    run = make_run(status="running")

    page = Page(write_report(run.directory))

    assert_stands_alone(page)
    assert "running: it is not over" in page.text
    assert "Nothing is recorded." in page.text
    assert "There is no evaluation." in page.text
    assert page.document["charts"] == [] and page.document["accuracy"] is None


def test_a_run_that_diverged_has_a_page(make_run, row) -> None:
    run = make_run(rows=[row(1), row(2, **{"train/loss": float("nan")})], status="diverged")

    page = Page(write_report(run.directory))

    assert "diverged: it ended when its loss, or a gradient, was no longer a finite number." in page.text
    message = "diverged: the loss of update 2 is nan, first in the output of stem. Lower optimizer.lr."
    info = {**run.info, "diverged": {"step": 2, "group": "stem", "message": message}}
    (run.directory / "run.json").write_text(json.dumps(info))
    assert (
        "finite number. The loss of update 2 is nan, first in the output of stem."
        in Page(write_report(run.directory)).text
    )
    assert "updates 2" in page.text


def test_a_study_none_of_whose_runs_is_over_has_a_page(make_study, row, tmp_path) -> None:
    make_study({"a": [{"rows": [row(1)], "status": "preempted"}]})

    page = Page(write_report(tmp_path / "trials"))

    assert "1 arm, 1 run: 1 preempted." in page.text
    assert "No run that came to its end has an evaluation." in page.text
    assert "There is no second arm to compare with." in page.text
    assert "What the arms differ in" not in page.text


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run or study. Name"):
        write_report(tmp_path)


def test_reports_need_no_torch_and_no_pyplot() -> None:
    code = "import sys, lrlab.report; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"


def test_several_paths_are_laid_over_each_other_in_a_folder_of_their_own(make_run, row, evaluation, tmp_path) -> None:
    content = {"rows": [row(1)], "evaluations": [evaluation(1)]}
    one, two = make_run("one", **content), make_run("two", **content, seed=1)

    path = write_report(one.directory, two.directory, one.directory, directory=tmp_path / "both")

    page = Page(path)
    assert_stands_alone(page)
    assert path == tmp_path / "both" / "report.html" and (tmp_path / "both" / "figures" / "loss.svg").exists()
    assert [arm["name"] for arm in page.document["arms"]] == ["one", "two"]
    assert "The arms are not compared. No seed in common" in page.text
    assert not (one.directory / "report.html").exists()


def test_several_paths_without_a_folder_are_refused(make_run) -> None:
    run = make_run()

    with pytest.raises(RunError, match="name it with --out DIR"):
        write_report(run.directory, run.directory)


def test_of_very_many_runs_the_page_lists_some_decisions_and_commands_and_says_so(
    make_study, row, decision, tmp_path
) -> None:
    content = {"rows": [row(1)], "decisions": [decision(1, "keep", before=1e-3, after=1e-3)]}
    make_study({"a": [content] * 60})

    page = Page(write_report(tmp_path / "trials"))

    assert "10 more runs have decisions; they are in the decisions.jsonl of each." in page.text
    assert "seed 0 | 1 | 2" in page.text and "| 19 | and 40 more" in page.text


def test_runs_of_one_name_from_different_places_stay_apart(make_run, row, evaluation, tmp_path) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p2").mkdir()
    right, wrong = [[8, 0], [0, 12]], [[0, 8], [12, 0]]
    one = make_run("p1/digits", rows=[row(1)], evaluations=[evaluation(1, right)])
    two = make_run("p2/digits", rows=[row(1)], evaluations=[evaluation(1, wrong)])

    page = Page(write_report(one.directory, two.directory, directory=tmp_path / "both"))

    assert [arm["name"] for arm in page.document["arms"]] == [str(one.directory), str(two.directory)]
    assert "100.00 % (seed 0)" in page.text and "0.00 % (seed 0)" in page.text


def test_seeds_of_loose_runs_are_one_arm_as_in_their_comparison(make_run, row, evaluation, tmp_path) -> None:
    content = {"rows": [row(1)], "evaluations": [evaluation(1)]}
    runs = [make_run(f"{arm}-seed{seed}", **content, seed=seed) for arm in ("x", "y") for seed in (0, 1)]

    page = Page(write_report(*(run.directory for run in runs), directory=tmp_path / "both"))

    assert [arm["name"] for arm in page.document["arms"]] == ["x", "y"]
    assert "y and x have the same test accuracy in all 2 seeds." in page.text
    assert "Nothing but the seed: all configurations are the same." in page.text


def test_a_run_beside_a_study_leaves_the_studys_comparison_as_it_is(make_study, make_run, evaluation, tmp_path) -> None:
    content = {"evaluations": [evaluation(1)]}
    make_study({"a": [content] * 2, "b": [content] * 2})
    single = make_run("single", **content)

    page = Page(write_report(tmp_path / "trials", single.directory, directory=tmp_path / "both"))

    assert "b and a have the same test accuracy in all 2 seeds." in page.text
    assert "Compared with nothing, since there is no other arm beside it: single." in page.text
    assert [arm["name"] for arm in page.document["arms"]] == ["trials/a", "trials/b", "single"]


def test_a_peak_that_a_mean_hides_is_named(make_study, row, tmp_path) -> None:
    rows = [row(step) for step in range(1, 401)]
    spiked = [*rows[:99], row(100, **{"train/loss": 50.0}), *rows[100:]]
    make_study({"a": [{"rows": rows}, {"rows": rows}, {"rows": spiked}]})

    assert "largest single value: 50 at update 100 of a, seed 2" in Page(write_report(tmp_path / "trials")).text


def test_arms_evaluated_on_different_images_are_named(make_study, evaluation, tmp_path) -> None:
    validated = {"config": {"data": {"validation_fraction": 0.1}}}
    make_study({"a": [{"evaluations": [evaluation(1)]}], "b": [validated]})

    assert "do not compare their accuracies (test: a; validation: b)" in Page(write_report(tmp_path / "trials")).text


def test_settings_that_differ_within_an_arm_are_listed(make_study, tmp_path) -> None:
    contents = [{"config": {"optimizer": {"lr": rate}}} for rate in (0.1, 0.01)]
    make_study({"a": contents, "b": contents})

    assert "optimizer.lr 0.1 | 0.01 0.1 | 0.01" in Page(write_report(tmp_path / "trials")).text
