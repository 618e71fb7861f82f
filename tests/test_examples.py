"""Every example runs from the command line, as its header says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, warnings: str = "error") -> str:
    command = [sys.executable, "-W", warnings, str(EXAMPLES / name), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert warnings != "error" or ended.stderr == ""
    return ended.stdout


def test_a_loop_of_ones_own() -> None:
    out = run("01_own_loop.py")
    decisions = re.findall(r"update +(\d+): (keep|decay), p", out)
    assert [int(step) for step, _ in decisions] == list(range(100, 1201, 50))
    assert len(re.findall(r"update +(?:500|1000|1500): grad_l2/0 .*grad_l2/2 ", out)) == 3


@pytest.mark.parametrize(
    ("name", "library"), [("02_lightning.py", "lightning"), ("03_transformers.py", "transformers")]
)
def test_a_loop_of_others(name: str, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install lrlab[{library}]")
    assert re.search(r"\d{3} updates; the rate decayed after \d{3}", run(name, warnings="default"))


def test_a_study_from_python(tmp_path: Path) -> None:
    out = run("04_study.py", str(tmp_path))
    assert re.findall(r"(\w+), seed (\d): complete", out) == [(a, s) for s in "012" for a in ("constant", "cosine")]
    assert re.search(r"cosine.* constant.*n = 3 paired seeds", out)
    assert (tmp_path / "two-schedules" / "report.html").exists()


def test_a_rule_of_ones_own() -> None:
    out = run("05_write_a_scheduler.py")
    assert re.search(r"decays at \d+ \(to 3\.0e-04\)", out)
    assert re.search(r"on a flat loss it decays in \d+% of stretches of 50 updates", out)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: str(path.name))
def test_the_header_says_how_to_run_it(path: Path) -> None:
    assert f"python examples/{path.name}\n" in path.read_text().partition('"""\n\n')[0]
