from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

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
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).replace(NBSP, " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def assert_stands_alone(page: Page) -> None:
    """Nothing in the page can run, and nothing in it is loaded from anywhere."""
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(uri.startswith("data:image/png;base64,") for uri in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "srcset")]
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, flags=re.DOTALL)
    assert "url(" not in style and "@import" not in style
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert page.values("content")[0] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'"
    )


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
    assert "n = 1: one run shows what happened once and proves nothing" in page.text
    assert "test accuracy 85.00 %" in page.text
    assert "cat 8 75.00 % dog (25.00 %)" in page.text  # of the last evaluation
    assert "2 mean_diff = -0.0001234, num_losses = 2 0.0005 decay 0.001 0.0001" in page.text
    assert "schedule.multiplier 0.5" in page.text
    assert "environment.packages.torch" in page.text and "engine.threads 2" in page.text
    assert "lrlab train --config config.toml --run NEW" in page.text
    images = [base64.b64decode(uri.partition(",")[2]) for uri in page.values("src")]
    names = ["loss", "accuracy", "lr", "grad_stem", "confusion"]
    assert images == [(run.directory / "figures" / f"{name}.png").read_bytes() for name in names]
    assert all(page.values("alt"))


def test_the_same_run_gives_the_same_page(make_run, row) -> None:
    run = make_run(rows=[row(1)])

    assert write_report(run.directory).read_bytes() == write_report(run.directory).read_bytes()


def test_the_page_of_a_study_lists_each_seed_and_claims_no_difference(make_study, row, evaluation, tmp_path) -> None:
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
    assert "slow 2 70.00 % 50.00 % (seed 0), 90.00 % (seed 1) none" in page.text
    assert "fast 1 85.00 % 85.00 % (seed 0) seed 1: running at update 1" in page.text
    assert "whether arms differ by more than their seeds do, this page does not say" in page.text
    assert "Where n = 1, one run proves nothing" in page.text
    assert "schedule.multiplier 0.5 0.2" in page.text  # arms stand in the order of their names
    assert "Sum over the last evaluations of seeds 0, 1 (n = 2), at update 2." in page.text
    assert "lrlab study study.toml" in page.text
    figures = sorted(file.name for file in (tmp_path / "trials" / "figures").iterdir())
    assert figures == ["accuracy.png", "confusion_fast.png", "confusion_slow.png", "loss.png", "lr.png"]


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
    assert f"{HOSTILE[:24]}" in page.text


def test_a_name_that_is_no_text_does_not_stop_the_page(make_run, evaluation) -> None:
    run = make_run(evaluations=[evaluation(1)], classes=["caf\udce9", "dog"])

    assert "caf?" in Page(write_report(run.directory)).text


def test_a_run_that_has_only_begun_has_a_page(make_run) -> None:
    run = make_run(status="running")

    page = Page(write_report(run.directory))

    assert_stands_alone(page)
    assert "running: it is not over" in page.text
    assert "Nothing is recorded yet." in page.text
    assert "No evaluation was made yet." in page.text
    assert "img" not in page.tags


def test_a_run_that_diverged_has_a_page(make_run, row) -> None:
    run = make_run(rows=[row(1), row(2, **{"train/loss": float("nan")})], status="diverged")

    page = Page(write_report(run.directory))

    assert "diverged: it ended when its loss was no longer a finite number." in page.text
    assert "updates 2" in page.text


def test_a_study_none_of_whose_runs_is_over_has_a_page(make_study, row, tmp_path) -> None:
    make_study({"a": [{"rows": [row(1)], "status": "preempted"}]})

    page = Page(write_report(tmp_path / "trials"))

    assert "1 arm, 1 run: 1 preempted." in page.text
    assert "No run has come to its end with an evaluation yet." in page.text
    assert "Nothing but the seed: their configurations are the same." in page.text


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run and no study here"):
        write_report(tmp_path)


def test_reports_need_no_torch_and_no_pyplot() -> None:
    code = "import sys, lrlab.report; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"
