"""The article's claims: the formulas on run directories with known answers, and the verdicts."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import article_answers
import article_claims
import article_sharpness
import article_trends
import measuring
from article_claims import fill
from article_trends import GROUPS, QUANTITIES, measure, read_study, schedule_minus_rate
from article_verdicts import estimate, factor, judge, points, verdict_line
from lrlab.compare import compare_runs
from lrlab.config import parse_config
from lrlab.runs import Run, RunWriter, read_run
from lrlab.runs.afterwards import later_rows

STEPS = np.arange(1, 21)
Gradient = Callable[[str, int], np.ndarray]


def rising(growth: float, *, slope: float = 0.5) -> Gradient:
    """Gradients of 10 ** slope a group from the stem on, larger by 10 ** growth in the last tenth of the updates."""
    return lambda _, depth: 10 ** (slope * depth + growth * (STEPS > 18))


def write_run(
    directory: Path,
    gradient: Gradient,
    *,
    seed: int = 0,
    accuracy: float = 0.5,
    rates: np.ndarray | None = None,
    complete: bool = True,
    measured: Mapping[str, np.ndarray] | None = None,
) -> Run:
    """A run of 20 updates whose gradients are measured at every second one, or where `measured` says by quantity."""
    rates = np.full(len(STEPS), 1e-3) if rates is None else rates
    rows = {"step": STEPS, "epoch": np.ones_like(STEPS), "train/loss": np.ones(len(STEPS)), "lr/linear": rates}
    for quantity in QUANTITIES:
        there = STEPS % 2 == 0 if measured is None else measured[quantity]
        for depth, group in enumerate(GROUPS):
            rows[f"{quantity}/{group}"] = np.ma.array(gradient(quantity, depth), mask=~there)
    decays = [int(STEPS[at]) for at in np.flatnonzero(np.diff(rates) < 0)]
    with RunWriter(directory, parse_config({"steps": 20, "seed": seed})) as writer:
        writer.describe(engine={"precision": "fp32"})
        writer.write_rows(rows)
        writer.write_decisions(
            [{"step": step, "decision": "decay", "lr_before": [1e-3], "lr_after": [1e-4]} for step in decays]
        )
        if complete:
            writer.finish("complete", {"steps": 20, "test_accuracy": accuracy, "test_loss": 1.0})
    return read_run(directory)


def test_the_trends_of_a_run_by_hand(tmp_path: Path) -> None:
    rates = np.where(STEPS <= 5, 1e-3, 1e-4)
    run = measure(write_run(tmp_path / "run", rising(2.0), rates=rates))
    assert run.log_rate == pytest.approx(-3.75)
    assert run.decays == [5]
    assert run.by_depth("grad_l2") == pytest.approx(0.5 * np.arange(6) + 2.0 / 10)
    assert article_trends.end_to_end(run, "grad_l2") == pytest.approx(2.5)
    assert article_trends.slope(run, "grad_l2") == pytest.approx(0.5)
    assert article_trends.growth(run, "grad_out_l2") == pytest.approx(2.0)
    assert article_trends.magnitude(run, "grad_l2") == pytest.approx(1.25 + 0.2)


def test_growth_of_layer1_and_layer2_is_set_against_that_of_the_other_four(tmp_path: Path) -> None:
    def gradient(_: str, depth: int) -> np.ndarray:
        return 10 ** ((1.0 if depth in (1, 2) else 0.25) * (STEPS > 18))

    run = measure(write_run(tmp_path / "run", gradient))
    assert article_trends.special_growth(run, "grad_l2") == pytest.approx(0.75)


def test_growth_is_from_the_second_tenth_and_not_from_the_first(tmp_path: Path) -> None:
    run = measure(write_run(tmp_path / "run", lambda *_: np.where(STEPS <= 2, 1e6, np.where(STEPS <= 4, 1.0, 10.0))))
    assert article_trends.growth(run, "grad_l2") == pytest.approx(1.0)


def test_a_rate_that_falls_to_zero_has_no_mean_logarithm(tmp_path: Path) -> None:
    assert measure(write_run(tmp_path / "run", rising(0), rates=np.linspace(1e-3, 0, 20))).log_rate is None


def test_what_was_measured_too_rarely_is_left_out(tmp_path: Path) -> None:
    measured = {quantity: STEPS == 10 if "out" in quantity else STEPS > 0 for quantity in QUANTITIES}
    run = measure(write_run(tmp_path / "run", rising(0), measured=measured))
    assert {quantity: run.has(quantity) for quantity in QUANTITIES} == {
        "grad_l2": True, "grad_rms": True, "grad_out_l2": False, "grad_out_rms": False,
    }  # fmt: skip


def test_a_gradient_of_zero_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="grad_l2/stem must be finite and above 0"):
        measure(write_run(tmp_path / "run", lambda *_: np.where(STEPS == 8, 0.0, 1.0)))


def test_schedules_against_rates_by_hand() -> None:
    # rows: schedules; columns: rates. Ranges of the columns 3, 1, 5; of the rows 2, 4, 6
    assert schedule_minus_rate(np.array([[1, 2, 3], [4, 3, 7], [4, 2, 8.0]])) == (3, 4)


def test_estimates_are_those_of_lrlab_compare(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text("name = 'study'\n")
    accuracies = {"one": [0.50, 0.52, 0.51, 0.55], "other": [0.49, 0.53, 0.47, 0.51]}
    runs = [
        write_run(tmp_path / "study" / arm / f"seed{seed}", rising(0), seed=seed, accuracy=value)
        for arm, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    (theirs,) = compare_runs(runs, control="other", measure="test_accuracy").differences
    (ours,) = judge(
        [
            estimate(
                read_study(tmp_path / "study").per_seed(
                    lambda one, other: one.accuracy - other.accuracy, "one", "other"
                )
            )
        ]
    )
    names = ("mean", "interval", "bootstrap", "p", "p_sign_flip", "p_holm", "effect_size", "num_above")
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}


def test_a_verdict_is_on_the_side_where_the_whole_interval_lies() -> None:
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        values = generator.normal(generator.normal(0, 0.6), 0.5, 5)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        for margin, expected in (
            (None, "true" if low > 0 else "false" if high < 0 else "undecided"),
            (0.7, "true" if low > -0.7 and high < 0.7 else "false" if low > 0.7 or high < -0.7 else "undecided"),
        ):
            (found,) = judge([estimate(dict(enumerate(values)), margin=margin)])
            assert found.verdict == expected
            seen.add((margin, expected))
    assert len(seen) == 6


def test_two_numbers_of_one_claim_are_adjusted_for_each_other() -> None:
    # Student's p of about 0.03 each: alone they would be true, by Holm they are not
    values = {0: 0.2, 1: 1.0, 2: 1.6, 3: 0.9, 4: 0.2}
    alone, both = judge([estimate(values)]), judge([estimate(values)] * 2)
    assert 0.025 < float(alone[0].p_holm or 0) < 0.05
    assert ([one.verdict for one in alone], [one.verdict for one in both]) == (["true"], ["undecided"] * 2)


def test_one_seed_and_seeds_that_are_alike_decide_nothing() -> None:
    judged = judge([estimate({0: 1.0}), estimate({0: 1.0, 1: 1.0, 2: 1.0})])
    assert [(one.verdict, one.p) for one in judged] == [("undecided", None), ("undecided", 0.25)]


def test_numbers_are_written_as_points_and_as_factors() -> None:
    values = {0: 0.01, 1: 0.02, 2: 0.03}  # standard error 0.00577, Student's quantile 4.303
    assert points(estimate(values)) == "+2.00 (-0.48 to +4.48)"
    assert factor(estimate({seed: 100 * value for seed, value in values.items()})) == "100 (0.33 to 30,500)"
    assert verdict_line({"a": "true", "b": "false", "c": "true"}) == "**true** of a, c; **false** of b."
    assert verdict_line({"a": "false"}) == "**False.**"


def write_article(folder: Path) -> None:
    """The article's arms with three seeds, such that every claim is true: only the noise of the seeds is in the way."""
    folder.mkdir()
    (folder / "study.toml").write_text("name = 'article'\n")
    lasting, short = np.where(STEPS <= 15, 1e-3, 1e-4), np.where(STEPS <= 5, 1e-3, 1e-4)
    arms = {arm: 0.2 + 0.1 * row for row, arms in enumerate(article_answers.SCHEDULES.values()) for arm in arms}
    arms[article_answers.LOW] = 0.1
    for arm, accuracy in arms.items():
        for seed in range(3):
            write_run(
                folder / arm / f"seed{seed}",
                louder(arm, noise=0.01 * seed + 0.0001 * seed**2 * (arm == article_answers.LOW)),
                seed=seed,
                accuracy=accuracy * (1 + 0.01 * seed),
                rates=short if arm == article_answers.LOW else lasting + 1e-6 * seed,
            )
    write_run(folder / article_answers.LOW / "seed3", rising(0), seed=3, complete=False)


def louder(arm: str, *, noise: float) -> Gradient:
    """Gradients that do all that the article says, larger at higher rates."""

    def gradient(quantity: str, depth: int) -> np.ndarray:
        more = 1.0 + (depth in (1, 2)) + noise * (1 + (depth in (1, 2)))
        return 10 ** ((0.5 + noise) * depth + more * (STEPS > 18) + 2 * (1 + noise) * arm.endswith("-0.003"))

    return gradient


def test_a_study_where_all_claims_hold_says_so_and_fills_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_article(tmp_path / "article")
    docs = tmp_path / "docs"
    (docs / "figures").mkdir(parents=True)
    shutil.copy(article_claims.DOCS / "article.md", docs)
    monkeypatch.setattr(article_claims, "DOCS", docs)
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["article_claims.py", str(tmp_path / "article")])
    article_claims.main()

    printed, page = capsys.readouterr().out, (docs / "article.md").read_text()
    verdicts = printed.partition("- `article`: 30 complete runs")[0]
    assert "Left out: multiplier-0.2 seed 3 (running)." in printed
    assert (verdicts.count("**True.**"), verdicts.count("**true** (12 true of 12 trends)")) == (8, 1)
    assert "false" not in verdicts and "ndecided" not in verdicts
    assert all(line in page for line in printed.splitlines() if line.startswith("| "))
    (results,) = (tmp_path / "results").glob("article-claims_*.json")
    document = json.loads(results.read_text())
    difference = document["claims"]["0.5 against 0.2"]["accuracy, 0.5 minus 0.2"]
    assert difference["values"] == pytest.approx({"0": 0.1, "1": 0.101, "2": 0.102})
    assert (docs / "figures" / "article-claims.png").stat().st_size > 10_000


def test_a_page_without_the_marks_is_refused() -> None:
    page = "before\n<!-- runs -->\nold\n<!-- /runs -->\nafter\n"
    assert fill(page, {"runs": r"new \1"}) == "before\n<!-- runs -->\n\nnew \\1\n\n<!-- /runs -->\nafter\n"
    with pytest.raises(ValueError, match="once, it has them 0 times"):
        fill(page, {"verdicts": "new"})


def test_a_study_without_the_articles_arms_says_which_are_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "study" / "other" / "seed0", rising(0))
    with pytest.raises(SystemExit, match=r"study: no complete run of multiplier-0.5"):
        article_answers.multipliers(read_study(run.directory.parents[1]))


def sharpness_run(directory: Path, *, seed: int, gradient: float, sharpness: float) -> None:
    """A run whose gradients grow by a factor over the training, and its sharpness by another."""
    steps = np.arange(100, 10_001, 100)
    names = [f"{quantity}/{group}" for quantity in ("grad_l2", "grad_out_l2") for group in article_sharpness.GROUPS]
    late = steps > 5000
    rows = {name: np.where(late, gradient, 1.0) for name in names}
    with RunWriter(directory, parse_config({"steps": 10_000, "seed": seed})) as writer:
        writer.describe(data={"name": "digits"}, engine={"precision": "fp32"})
        writer.write_rows({"step": steps, "lr/linear": np.full(len(steps), 1e-3), **rows})
        result = {"test_accuracy": 0.5, "test_loss": 1.0, "steps": 10_000, "train_seconds": 1.0}
        writer.finish("complete", result)
    with later_rows(directory, "sharpness", how={"examples": 64}) as (_, add):
        for step, factor in ((2000, 1.0), (10_000, sharpness)):
            whole = {f"{quantity}/whole": 10 * factor for quantity in article_sharpness.QUANTITIES}
            edges = {"hessian_edge/whole": 2000.0, "preconditioned_edge/whole": 4000.0}
            groups = {f"hessian_max/{group}": factor for group in article_sharpness.GROUPS}
            add(step, {**whole, **edges, **groups})


def test_growth_of_sharpness_and_of_gradients_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(article_sharpness, "NUM_PERMUTATIONS", 99)
    study = tmp_path / "sharpness"
    for arm, (gradient, sharpness) in {"constant": (1.0, 1.0), "cosine": (1.5, 2.0)}.items():
        for seed, own in enumerate((0.9, 1.0, 1.1)):
            sharpness_run(study / arm / f"seed{seed}", seed=seed, gradient=gradient * own, sharpness=sharpness * own)
    (study / "study.toml").write_text("")
    arms = article_sharpness.read_arms(study)

    grown = article_sharpness.growths(arms)
    assert 10 ** grown["gradient of the parameters"]["cosine"].mean == pytest.approx(1.5, rel=0.02)
    assert 10 ** grown["trace of the Hessian"]["cosine"].mean == pytest.approx(2, rel=0.02)
    assert grown["trace of the Hessian"]["cosine"].verdict == "true"
    assert grown["trace of the Hessian"]["constant"].verdict == "undecided"
    ranks = article_sharpness.across_runs(arms)
    assert ranks["largest eigenvalue of the Hessian"]["rho"] > 0.9  # ties of equal seeds break by rounding
    difference = article_sharpness.differences(arms)["cosine over constant, largest eigenvalue of the Hessian"]
    assert 10**difference.mean == pytest.approx(2) and difference.n == 3
    low, high = article_sharpness.of_the_edge(arms)["largest eigenvalue of the Hessian"]["cosine"]
    assert (low, high) == (pytest.approx(0.005), pytest.approx(0.011))
    parts, _ = article_sharpness.blocks(arms)
    page = (Path(__file__).parents[1] / "docs" / "sharpness.md").read_text()
    assert article_claims.fill(page, parts) != page  # every mark is there once
    assert article_sharpness.draw(arms).axes
