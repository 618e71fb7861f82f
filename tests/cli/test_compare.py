"""What `lrlab compare` prints, writes, and says to what cannot be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lrlab.cli import main
from written_runs import write_run, write_study

ARMS = {
    "constant": {seed: [0.5, value] for seed, value in enumerate((0.900, 0.910, 0.905, 0.890, 0.915))},
    "cosine": {seed: [0.6, value] for seed, value in enumerate((0.921, 0.929, 0.926, 0.908, 0.938))},
    "linear-with-a-name-that-is-rather-long": {seed: [0.92, value] for seed, value in
                                               enumerate((0.905, 0.900, 0.915, 0.885, 0.916))},
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a study's folder, below the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_study(tmp_path, ARMS)
    return "trials"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_study_is_shown_in_tables_and_sentences_within_80_columns(
    capsys: pytest.CaptureFixture[str], study: str
) -> None:
    code, out, err = said(capsys, study, "--target", "0.9")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines()]
    assert ["constant", "5", "90.40", "0.96", "none"] in rows
    assert ["cosine", "-", "constant", "5", "+2.04", "+1.80", "to", "+2.28", "<0.0001", "<0.0001", "5/5"] in rows
    assert ["constant", "4", "of", "5", "20", "(20", "to", "-)", "10.0", "(10.0", "to", "-)"] in rows
    text = " ".join(out.split())
    assert "cosine is better than constant: test accuracy +2.04 points (95 % interval" in text
    assert "No evidence of a difference between linear-with-a-name-that-is-rather-long and constant" in text
    assert "5 seeds are too few for: the sign-flip test, whose p cannot fall below 2/2^5 = 0.062, 0.19" in text


def test_with_a_control_only_pairs_with_it(capsys: pytest.CaptureFixture[str], study: str) -> None:
    _, out, _ = said(capsys, study, "--control", "cosine", "--measure", "test_loss")
    assert "constant - cosine" in out and "cosine - constant" not in out
    assert "constant is worse than cosine: test loss +0.0204" in " ".join(out.split())


def test_json_is_one_document_and_csv_a_row_for_each_pair(capsys: pytest.CaptureFixture[str], study: str) -> None:
    code, out, err = said(capsys, study, "--json", "--csv", "pairs.csv")
    document = json.loads(out)
    assert code == 0 and "cosine is better than constant" in err and "table: pairs.csv" in err
    assert [found["verdict"] for found in document["differences"]] == ["different", "no evidence", "different"]
    assert len(Path("pairs.csv").read_text().splitlines()) == 4


def test_runs_without_a_study_are_compared_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = []
    for name, value in (("a", 0.5), ("b", 0.6)):
        for seed in (0, 1):
            paths.append(str(tmp_path / f"{name}-seed{seed}"))
            write_run(Path(paths[-1]), [value + seed / 100], seed=seed)
    code, out, _ = said(capsys, *paths)
    assert code == 0
    assert ["b", "-", "a", "2", "+10.00"] in [line.split()[:5] for line in out.splitlines()]


def test_a_csv_that_cannot_be_written_is_exit_code_5(capsys: pytest.CaptureFixture[str], study: str) -> None:
    code, _, err = said(capsys, study, "--csv", "nowhere/pairs.csv")
    assert code == 5 and "No such file or directory" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "lrlab compare: PATH is missing: A study, or runs; several studies are several tasks."),
        (["nothing"], "lrlab: nothing: there is no such folder."),
        (
            ["trials/cosine"],
            "lrlab: trials/cosine: an arm, not a run or study. Name the study, trials, or single runs",
        ),
        (["trials", "--control", "cosin"], "lrlab: Unknown arm 'cosin'. Known: constant, cosine, linear"),
        (["trials", "--measure", "test_los"], "Did you mean 'test_loss'?"),
        (["trials", "--target", "90"], "lrlab: --target 90: an accuracy must be above 0 and at most 1"),
        (["trials/cosine/seed0"], "lrlab: 'trials' holds one arm, 'cosine': there is nothing to compare it with."),
        (["trials/cosine/seed0", "trials/constant/seed1"], "lrlab: No seed in common: 'constant' was run with 1, "),
    ],
)
def test_what_cannot_be_compared_is_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], study: str, arguments: list[str], message: str
) -> None:
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) <= 2


def test_comparing_loads_no_torch(study: str) -> None:
    code = f"from lrlab.cli import main; main(['compare', '{study}']); import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
