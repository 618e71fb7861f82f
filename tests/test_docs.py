"""Every command and every code block of every page is run, in small; and the pages make a site without a warning."""

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks import Block, Command, blocks, commands
from given import ROOT, Given, given_names
from lrlab.cli import CLOSED_PIPE, USAGE, main
from lrlab.cli.app import SOME_FAILED, app
from lrlab.cli.resume import DIFFERS
from lrlab.cli.signals import INTERRUPTED
from lrlab.config import parse_config, read_study
from lrlab.experiments import build
from small import PARSED, small_command, small_study

PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
DRAWN = "docs/start.md"
EXIT_CODES = ROOT / "docs" / "reference" / "command-line.md"
WRITES_TO = ("--run", "--out", "--csv", "--figure")
NOT_RUN = ("text", "")
"""Languages of blocks that show what something printed."""


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(tmp_path_factory.mktemp("given"))


@pytest.fixture
def surroundings(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that is small, and trackers that keep what they get in the test's folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    if importlib.util.find_spec("trackio"):
        for module in ("trackio.sqlite_storage", "trackio.utils"):
            monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setenv("LRLAB_DATA_DIR", str(given.cifar))
    for name, archive in given.archives.items():
        monkeypatch.setitem(build.ARCHIVES, name, archive)


@pytest.fixture
def pictures_of_one_page(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["page"] != DRAWN:
        request.getfixturevalue("blank_pictures")


@pytest.mark.usefixtures("pictures_of_one_page", "surroundings")
@pytest.mark.filterwarnings("default")  # a run in small has much to warn of
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(ROOT / page, name=page)])
def test_what_a_page_shows_works(page: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    files = re.findall(r"[\w-]+\.csv", (ROOT / page).read_text())
    for block in blocks(ROOT / page, name=page):
        if block.language == "csv":  # it is the next file that the page speaks of
            Path(next(name for name in files if not Path(name).exists())).write_text(block.text)
        else:
            run_block(block, names, given)


def run_block(block: Block, names: dict[str, Any], given: Given) -> None:
    if block.language.startswith("{") or block.language in NOT_RUN:  # a directive is Sphinx's
        assert not re.search(r"^\$ ", block.text, re.M), f"{block.place}: a console block, by its first letters"
        return
    if block.language == "console":
        for command in commands(block):
            run_command(command, block.place, given)
    elif block.language == "python":
        for name in re.findall(r'"([^"\n]+)"', block.text):
            given.provide(name)
        if not names:
            names.update(given_names())
        exec(compile(block.text, block.place, "exec"), names)
    elif block.language == "toml":
        read_table(block)
    else:
        pytest.fail(f"{block.place}: nobody runs blocks of {block.language!r}. Teach run_block to, or call it text.")


def run_command(command: Command, place: str, given: Given) -> None:
    words = command.words
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):  # a setting for this command
        words = words[1:]
    if words[0] == "torchrun":  # tests/training/test_distributed.py starts ranks; what each of them does is run here
        words = words[words.index("--") + 1 :]
    if words[0] != "lrlab":
        check_parsed(words, place)
        return
    app.parse_args(words[1:], print_error=False, exit_on_error=False)  # as it stands
    words = [word.replace("/shared/", "shared/") for word in words[1:]]
    for before, word in zip(["", *words], words, strict=False):
        if before not in WRITES_TO:
            given.provide(word.removeprefix("folder:"))
    with interrupted(words) if command.is_interrupted else contextlib.nullcontext():
        code = main(small_command(words, is_interrupted=command.is_interrupted))
    assert code == command.exit_code, f"{place}: {shlex.join(command.words)} ended with exit code {code}"


@contextlib.contextmanager
def interrupted(words: list[str]) -> Iterator[None]:
    """Press Ctrl-C once the run is under way."""
    info, deadline = Path(words[words.index("--run") + 1]) / "run.json", time.monotonic() + 60

    def press() -> None:
        while not info.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


def check_parsed(words: list[str], place: str) -> None:
    """See to it that a command which is not run is listed, and names something that is there."""
    first = " ".join(words[:2]).split("/")[0] if words[0] == "python" else words[0]
    assert first in PARSED, f"{place}: nobody runs {shlex.join(words)}. Run it, or say in PARSED why not."
    if words[0] == "make":
        assert set(words[1:]) <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)), place
    if words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).is_file(), f"{place}: there is no {words[1]}"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:lrlab|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(extras), place


def read_table(block: Block) -> None:
    """Read a study, and save it, small, under its name; or read a configuration."""
    table = tomllib.loads(block.text)
    if "arms" in table:
        file = Path(f"{table['name']}.toml")
        file.write_text(block.text)
        read_study(file)
        file.write_text(small_study(block.text))
        read_study(file)
    else:
        parse_config(table)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target}
    assert {target for target in targets if not (ROOT / page).parent.joinpath(target).exists()} == set()


def test_every_exit_code_is_in_the_reference() -> None:
    listed = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", EXIT_CODES.read_text(), re.M) for code in row.split(",")
    }
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "lrlab").rglob("*.py"))
    carried = {int(code) for code in re.findall(r"exit_code: ClassVar\[int\] = (\d+)", source)}
    assert carried | {0, 1, USAGE, SOME_FAILED, DIFFERS, INTERRUPTED, CLOSED_PIPE, 129, 143} == listed


def test_the_pages_make_a_site_without_a_warning(tmp_path: Path) -> None:
    build_it = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "docs", tmp_path / "html"]
    ended = subprocess.run(build_it, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert (ended.returncode, ended.stderr) == (0, "")
    reference = (tmp_path / "html" / "reference" / "command-line.html").read_text()
    assert all(f">lrlab {verb}<" in reference for verb in app if not verb.startswith("-") and verb != "data")
    assert not re.search(r'(src|href)="(https?:)?//[^"]*\.(js|css|woff2?)', reference)  # nothing from a network
