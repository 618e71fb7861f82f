"""What the command line says to what it is given, right or wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lrlab import __version__
from lrlab.cli import main
from lrlab.config import RunConfig, parse_config


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "lrlab: Unknown command 'trian'. Did you mean 'train'?"),
        (
            ["--json", "runs"],
            "lrlab: Unknown option '--json'. Options come after the command, as in lrlab runs --json.",
        ),
        (["train", "--epohcs", "3"], "lrlab train: Unknown option: --epohcs. Did you mean --epochs?"),
        (["train", "--device", "cdua"], '"cuda"'),
        (["train", "--epochs", "3.5"], "'3.5' is not a whole number."),
        (["train", "--epochs", "3", "--steps", "4"], "lrlab train: Give --epochs or --steps, not both."),
        (["train", "--lr", "none"], "none"),
        (["train", "--lr"], "--lr"),
        (["train", "digits"], "lrlab train: Unexpected argument 'digits'."),
        (["train", "a/config.toml"], "Unexpected argument 'a/config.toml'. Pass a configuration file as --config a/co"),
        (["study"], "lrlab study: FILE.toml is missing: A study file: base, arms and seeds."),
        (["completion"], "lrlab completion: SHELL is missing: bash, zsh or fish."),
        (["study", "a.toml", "--workers", "0"], "must be at least 1, got 0."),
        (["data", "chekc", "digits"], "lrlab data: Unknown command 'chekc'. Did you mean 'check'?"),
        (["verify", "a\x1b[31mb\n", "c"], "Unexpected argument 'c'"),
    ],
)
def test_a_wrong_command_line_gets_two_lines_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 2
    assert err.splitlines()[1].startswith("See 'lrlab")
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "schedule.windw=3"], "lrlab: Unknown key 'schedule.windw'. Known: schedule.name"),
        (["--schedule", "cosin"], "Did you mean 'cosine'?"),
        (["--lr", "nan"], "lrlab: optimizer.lr: must be a finite number, got nan."),
        (["--lr", "-1"], "lrlab: optimizer.lr: must be greater than 0, got -1.0."),
        (["--epochs", "0"], "lrlab: epochs: must be greater than or equal to 1, got 0."),
        (["--batch-size", "0"], "lrlab: batch_size: must be greater than or equal to 1, got 0."),
        (["--data", "mnist"], "lrlab: data.name: must be 'cifar10', 'cifar100', 'digits' or 'folder', got 'mnist'."),
        (["--config", "none.toml"], "lrlab: none.toml: there is no such file. TOML files in .: none."),
        (["--set", "epochs"], "lrlab: --set epochs: must be KEY=VALUE"),
        (["--data", "folder:"], "lrlab: --data folder: the folder is missing. Name it, as in --data folder:DIR."),
        (["--schedule", "slope", "--set", "window=10"], "Did you mean 'schedule.window'?"),
        (["--epochs", "5", "--set", "steps=7"], "Give epochs or steps, not both: got --epochs and --set steps."),
        (["--set", "engine.compile=maybe"], "lrlab: engine.compile: must be 'auto', True or False, got 'maybe'."),
        (["--batch-size", "2000"], "lrlab: batch_size must be at most the number of training images, got 2000"),
    ],
)
def test_a_wrong_value_gets_a_line_and_exit_code_2_before_anything_is_made(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, "train", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_used_is_exit_code_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = said(capsys, "train", "--data", f"folder:{tmp_path / 'none'}")
    assert code == 3
    assert str(tmp_path / "none") in err
    code, _, err = said(capsys, "train", "--data", "cifar10", "--data-dir", str(tmp_path))
    assert code == 3
    assert str(tmp_path) in err


def test_a_folder_without_a_split_asks_for_one_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{number}.png")
    code, _, err = said(capsys, "data", "check", f"folder:{tmp_path}")
    assert code == 2
    assert "--set data.test_fraction=0.2" in err
    code, out, err = said(capsys, "data", "check", f"folder:{tmp_path}", "--set", "data.test_fraction=0.34")
    assert (code, err) == (0, "")
    assert "2 classes, images 1x8x8" in out


def test_a_run_directory_that_holds_a_run_is_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    code, _, err = said(capsys, "train", "--steps", "1", "--set", "schedule.check_every=1", "--run", str(tmp_path))
    assert code == 2
    assert f"{tmp_path} already holds a run. Choose another directory with --run" in err


def test_a_run_directory_that_cannot_be_made_is_exit_code_5(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = tmp_path / "file" / "run"
    code, _, err = said(capsys, "train", "--width", "2", "--steps", "1", "--schedule", "constant", "--run", str(run))
    assert code == 5
    assert "Not a directory" in err


def test_on_windows_a_sentence_says_where_it_runs() -> None:
    code = """if True:
        import signal, sys
        sys.platform = "win32"
        del signal.SIGHUP, signal.SIGPIPE
        from lrlab.__main__ import main
        sys.exit(main())
    """
    ended = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "lrlab: it runs on Linux and macOS, and not on Windows. Use it in WSL, Windows' own Linux.\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"{__version__}\n", "")


def test_whoever_calls_it_has_its_own_handler_of_sigterm_back() -> None:
    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    try:
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "--help")
    assert code == 0
    assert all(
        re.search(rf"^  {verb} ", out, re.M)
        for verb in ("train", "resume", "verify", "study", "report", "compare", "data", "preview", "lr-find")
    )


GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")

DEFAULTS_IN_HELP = {
    "--data": "data.name",
    "--model": "model.name",
    "--width": "model.width",
    "--batch-size": "batch_size",
    "--schedule": "schedule.name",
    "--lr": "optimizer.lr",
    "--epochs": "epochs",
    "--seed": "seed",
    "--device": "device",
    "--precision": "engine.precision",
}


def test_the_defaults_in_help_are_the_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "train", "--help")
    config: RunConfig = parse_config({})
    for flag, key in DEFAULTS_IN_HELP.items():
        value: object = config
        for name in key.split("."):
            value = getattr(value, name)
        entry = re.search(rf"^  {flag} (.*?)(?=^  --|\Z|^\S)", out, re.M | re.S)
        assert entry, flag
        assert f"[{value}]" in entry[1], flag


def test_flags_lie_over_the_file_and_settings_over_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from lrlab.cli.options import read_config

    file = tmp_path / "config.toml"
    file.write_text('epochs = 9\nseed = 9\n[schedule]\nname = "article"\nmultiplier = 0.2\n')
    config = read_config(file, {"seed": 8, "schedule.name": None, "steps": 7}, ["schedule.factor=0.5", "seed=6"])
    assert (config.steps, config.epochs, config.seed) == (7, None, 6)
    assert config.schedule.model_dump()["multiplier"] == 0.2
    assert config.schedule.model_dump()["factor"] == 0.5


def test_data_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "data", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["digits", "cifar10", "cifar100", "folder:DIR"]


def test_data_check_says_what_digits_hold(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "data", "check", "digits")
    assert code == 0
    assert "digits" in out


def test_data_check_of_what_is_not_there_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LRLAB_DATA_DIR", str(tmp_path / "cache"))
    code, _, err = said(capsys, "data", "check", "cifar10")
    assert code == 3
    assert f"cifar10: {tmp_path / 'cache'} holds neither cifar-10-binary.tar.gz nor" in err
    assert "Run lrlab data fetch cifar10" in err


def test_data_fetch_of_what_is_not_to_be_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "data", "fetch", "cifar")
    assert code == 2
    assert "Unknown data set to download 'cifar'. Known: cifar10, cifar100. Did you mean 'cifar10'?" in err


def test_preview_draws_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "preview", "--schedule", "linear", "--steps", "3", "--lr", "0.5")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["update", "lr"],
        ["1", "5.000e-01", "#" * 50],
        ["2", "2.500e-01", "#" * 25],
        ["3", "0.000e+00"],
    ]


def test_preview_of_a_file_is_of_its_length_and_of_what_is_said_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steps.toml"
    file.write_text('steps = 3\noptimizer.lr = 0.5\nschedule.name = "linear"')
    code, out, _ = said(capsys, "preview", "--config", str(file), "--json")
    assert (code, json.loads(out)["lr"]["stem"]) == (0, [0.5, 0.25, 0.0])
    code, out, _ = said(capsys, "preview", "--config", str(file), "--json", "--steps", "2", "--lr", "1")
    assert (code, json.loads(out)["lr"]["stem"]) == (0, [1.0, 0.0])


def test_preview_of_epochs_takes_a_number_of_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "epochs.toml"
    file.write_text('epochs = 3\nschedule.name = "linear"')
    code, _, err = said(capsys, "preview", "--config", str(file))
    assert (code, err) == (
        2,
        "lrlab: preview needs a number of updates, and for 3 epochs it depends on the data: add --steps N.\n",
    )
    code, out, _ = said(capsys, "preview", "--config", str(file), "--steps", "2", "--json")
    assert (code, json.loads(out)["lr"]["stem"]) == (0, [0.001, 0.0])


def test_preview_of_more_updates_than_it_can_keep_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "preview", "--schedule", "cosine", "--steps", "10000001")
    assert (code, out) == (2, "")
    assert err == (
        "lrlab: steps: a preview is limited to 10,000,000 updates, got 10,000,001. A schedule has the same shape over "
        "fewer.\n"
    )


def test_preview_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(
        capsys, "preview", "--schedule", "step", "--set", "schedule.step_size=1", "--steps", "2", "--json"
    )
    assert code == 0
    assert json.loads(out) == {"schedule": "step", "lr": {name: [0.001, 0.0001] for name in GROUPS}}


def test_preview_shows_the_rate_that_each_group_really_gets(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(
        capsys, "preview", "--schedule", "constant", "--steps", "3", "--lr", "0.5",
        "--set", "layer_rates.stem=0.5", "--set", "layer_rates.layer[34]={ start = 1.0, end = 0.0 }",
    )  # fmt: skip
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines() if line] == [
        ["stem:"], ["update", "lr"], ["1", "2.500e-01"], ["2", "2.500e-01"], ["3", "2.500e-01"],
        ["layer1,", "layer2,"], ["update", "lr"], ["1", "5.000e-01"], ["2", "5.000e-01"], ["3", "5.000e-01"],
        ["layer3,", "layer4:"], ["update", "lr"], ["1", "5.000e-01"], ["2", "2.500e-01"], ["3", "0.000e+00"],
    ]  # fmt: skip


def test_preview_of_a_rule_that_listens_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "preview", "--schedule", "article", "--steps", "5")
    assert code == 2
    assert "its rate is not known in advance" in err


FIND = ("lr-find", "--width", "2", "--batch-size", "32", "--set", "optimizer.name=sgd", "--seeds", "2", "--steps", "60")


def test_lr_find_says_what_each_seed_suggests_and_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *FIND, "--start", "1e-4", "--end", "1e4")
    assert (code, err) == (0, "")
    what, *seeds, found, train, picture = out.splitlines()
    assert what == (
        "digits: resnet18 of width 2, sgd; the rate from 0.0001 to 10000 in 60 updates of 32 images, 2 seeds"
    )
    number = r"\d\.\d\de[-+]\d\d"
    pattern = rf"seed \d: ({number}), a tenth of the rate with the lowest loss \(\d\.\d{{3}}\); diverged at {number}"
    rates = sorted(float(match[1]) for seed in seeds if (match := re.fullmatch(pattern, seed)))
    assert len(rates) == 2
    match = re.fullmatch(rf"learning rate ({number}): median of 2 seeds, least ({number}), largest ({number})", found)
    assert match and [float(match[2]), float(match[3])] == rates
    assert float(match[1]) == pytest.approx((rates[0] * rates[1]) ** 0.5, rel=0.02)
    assert float(train.removeprefix("train with it: --lr ")) == pytest.approx(float(match[1]), rel=0.1)
    assert picture == "picture: lr-find.png"
    assert [path.name for path in tmp_path.iterdir()] == ["lr-find.png"]  # and no run

    code, again, err = said(capsys, *FIND, "--start", "1e-4", "--end", "1e4", "--json", "--figure", "b.png")
    document = json.loads(again)
    assert (code, document["figure"], document["steps"]) == (0, "b.png", 60)
    assert [f"{document[key]:.2e}" for key in ("suggestion", "least", "largest")] == [match[1], match[2], match[3]]
    assert [sweep["seed"] for sweep in document["sweeps"]] == [0, 1]
    assert all(len(sweep["lr"]) == len(sweep["loss"]) == len(sweep["smoothed"]) for sweep in document["sweeps"])
    assert err.splitlines()[:-1] == out.splitlines()[:-1]  # all else, on stderr
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "lr-find.png").read_bytes()


def test_lr_find_that_finds_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, *FIND, "--start", "1e-9", "--end", "1e-8")
    assert code == 0
    assert "seed 1: no suggestion: the loss never fell by more than its noise: try more updates, or other rates" in out
    assert "no rate to suggest: none of the sweeps shows one" in out
    code, out, _ = said(capsys, *FIND, "--start", "1e-9", "--end", "1e-8", "--json")
    assert json.loads(out)["suggestion"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--start", "1", "--end", "1"), 2, "lrlab: A sweep needs 0 < start < end, both finite, got 1 and 1."),
        (("--steps", "10"), 2, "lrlab: A sweep needs at least 20 updates, got 10."),
        (("--seeds", "0"), 2, "at least one seed"),
        (("--figure", "none/a.png"), 5, "none: no such folder"),
        (("--set", "optimizer.name=sgdd"), 2, "optimizer.name: must be"),
        (("--batch-size", "5000"), 2, "batch_size must be at most the number of training images"),
    ],
)
def test_lr_find_refuses_before_any_update(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = said(capsys, "lr-find", *arguments)
    assert (ended, message in err, "seed 0" in out) == (code, True, False), err
    assert list(tmp_path.iterdir()) == []


def write_losses(path: Path) -> None:
    """A loss that falls, is flat, and rises."""
    falling = [4.0 - step / 20 for step in range(60)]
    losses = [*falling, *[1.0] * 60, *(1.0 + step / 50 for step in range(60))]
    wiggle = [0.01 * (-1) ** step for step in range(180)]
    rows = [f"{10 * (step + 1)},{losses[step] + wiggle[step]}" for step in range(180)]
    path.write_text("\n".join(["step,loss", *rows]))


def test_replay_says_when_a_rule_would_have_decayed_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_losses(tmp_path / "losses.csv")
    options = ("--schedule", "slope", "--set", "schedule.window=20", "--set", "schedule.min_progress=0.05")
    code, out, err = said(capsys, "replay", "losses.csv", *options)
    assert (code, err) == (0, "")
    about, spacing, *moved, picture = out.splitlines()
    assert about.startswith("loss: 180 losses, updates 10 to 1,800; 36 looks, the rate starts at 0.001 and moves ")
    assert spacing == "one loss was recorded every 10 updates: lengths given in updates count losses here"
    update, word, before, arrow, after, *why = moved[0].split()
    assert 600 < int(update) <= 850  # the fall ends at 600
    assert (word, before, arrow, after) == ("decay", "0.001", "->", "0.0001")
    assert {"slope", "std_error", "p", "robust_p", "threshold"} <= {part for part in why if part.isidentifier()}
    assert picture == "picture: replay-slope.png"
    assert (tmp_path / "replay-slope.png").read_bytes().startswith(b"\x89PNG")

    code, out, _ = said(capsys, "replay", "losses.csv", *options, "--figure", "other.png", "--json")
    document = json.loads(out)
    assert (document["schedule"], document["figure"], len(document["decisions"])) == ("slope", "other.png", 36)
    decays = [10 * decision["step"] for decision in document["decisions"] if decision["decision"] == "decay"]
    assert decays[0] == int(update)


@pytest.fixture
def falling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a command runs in, with forty losses in losses.csv."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "losses.csv").write_text("loss\n" + "\n".join(str(2.0 - step / 40) for step in range(40)))
    return tmp_path


@pytest.mark.usefixtures("falling")
def test_a_replay_that_moves_nothing_tells_its_last_look(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "replay", "losses.csv", "--schedule", "slope", "--set", "schedule.window=20")
    assert (
        "the rate starts at 0.001 and moves 0 times" in out and "the last look: num_losses = 20, slope = -0.025" in out
    )


@pytest.mark.usefixtures("falling")
@pytest.mark.parametrize("rule", ["plateau", "greedy"])
def test_what_is_not_finite_in_a_decision_is_null_in_json(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "replay", "losses.csv", "--schedule", rule, "--set", "schedule.check_every=2", "--json")
    assert code == 0
    assert json.loads(out)["decisions"][0]["best"] is None  # infinity, before there was any


@pytest.mark.usefixtures("falling")
def test_a_picture_that_has_no_folder_is_said_before_the_replay(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "replay", "losses.csv", "--figure", "nowhere/a.png")
    assert (code, out) == (5, "")
    assert err == "lrlab: nowhere: no such folder. Make it, or choose another with --figure.\n"


@pytest.mark.filterwarnings("default:schedule 'slope' decides")
def test_a_replay_of_too_few_losses_says_how_many_it_takes_and_draws_nothing(
    falling: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, "replay", "losses.csv", "--schedule", "plateau", "--set", "schedule.check_every=41")
    assert (code, out) == (2, "")
    assert "schedule 'plateau' looks at 41 losses at a time, and there are 40. Lower schedule.check_every, or" in err
    assert not list(falling.glob("*.png"))
    options = ["--schedule", "slope", "--set", "schedule.window=41", "--set", "phases.warmup_steps=10"]
    code, out, err = said(capsys, "replay", "losses.csv", *options)
    assert code == 0 and "; 3 looks, the rate starts at 0.001 and moves 0 times" in out
    assert "warning: schedule 'slope' decides after 50 losses at the earliest, and there are 30 without warm-up" in err
    assert "it cannot change the rate. Lower schedule.window or schedule.check_every, or" in err
    code, out, _ = said(capsys, "replay", "losses.csv", "--schedule", "slope", "--set", "schedule.window=40")
    assert code == 0 and "; 4 looks" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("replay", "missing"), 3, "missing: there is no such file or folder"),
        (("replay", "losses.csv", "--column", "los"), 3, "no column 'los'. Name the loss with --column: loss"),
        (
            ("replay", "losses.csv", "--schedule", "cosine"),
            2,
            "'cosine' does not use losses, so it cannot be replayed",
        ),
        (("replay", "losses.csv", "--schedule", "snr"), 2, "'snr' reads the optimizer, not the loss"),
        (("calibrate", "--schedule", "slope", "--noise", "-1"), 2, "Noise: std must be >= 0"),
        (("refine", "missing"), 2, "missing does not exist. lrlab runs lists what there is"),
    ],
)
def test_what_cannot_be_played_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_losses(tmp_path / "losses.csv")
    ended, _, err = said(capsys, *arguments)
    assert (ended, message in err) == (code, True), err
    assert "Traceback" not in err


def test_calibrate_says_how_often_and_how_soon(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--schedule", "slope", "--set", "schedule.window=20", "--set", "schedule.min_progress=0.1")
    code, out, _ = said(capsys, "calibrate", *options, "--traces", "20", "--noise", "0.02")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "20 losses of each kind; a window is 20 updates, as many as it needs"
    assert re.fullmatch(r"flat for 10 windows:  decays in \d+\.\d% of the windows", lines[1])
    assert re.fullmatch(r"  after it began +\d\.\d\d windows \(quartiles .*\)", lines[4])
    code, out, _ = said(capsys, "calibrate", *options, "--traces", "20", "--noise", "0.02", "--json")
    document = json.loads(out)
    assert (document["schedule"], document["window"], document["never_share"]) == ("slope", 20, 0.0)


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of some words."""
    listed = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; "
    code += r"$(complete -p lrlab | sed 's/.*-F \([^ ]*\).*/\1/') "
    code += f"lrlab '{words[-1]}' '{words[-2]}'; echo ${{COMPREPLY[@]}}"
    command = ["bash", "--norc", "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_bash_completes_verbs_and_options_and_their_values(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    assert completed(script, "lrlab", "re") == {"refine", "replay", "report", "resume"}
    assert completed(script, "lrlab", "train", "--sch") == {"--schedule"}
    assert completed(script, "lrlab", "train", "--precision", "") == {"auto", "fp32", "bf16"}
    assert completed(script, "lrlab", "track", "runs/first", "--to", "m") == {"mlflow"}


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef lrlab"), ("fish", "# Fish completion for lrlab")])
def test_other_shells_have_a_script_too(shell: str, begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert out.startswith(begins)
    assert "generalisation" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_that_is_full_where_the_output_goes_is_said_in_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lrlab", "data", "list"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (5, "lrlab: the output cannot be written: no space left on its disk.\n")


def test_a_name_that_the_terminal_cannot_show_is_shown_otherwise(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("loss\n1\n")
    command = [sys.executable, "-m", "lrlab", "import", tmp_path / "log.csv", "--seed", "0", "--out", tmp_path / "日本"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{tmp_path}/\\u65e5\\u672c" in ended.stdout and (tmp_path / "日本" / "run.json").exists()


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    code = "from lrlab.cli import app, main; app.command(lambda: 1 / 0, name='bug'); raise SystemExit(main(['bug']))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


def test_a_network_that_does_not_fit_is_said_to_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    code, out, err = said(capsys, "train", "--data", "digits", "--width", "100000", "--run", str(run))
    assert (code, out) == (2, "")
    assert err == (
        "lrlab: out of memory: the images of digits and a network of width 100000 do not fit. Lower model.width, or "
        "free memory.\n"
    )
    assert not run.exists()


def test_a_configuration_may_come_through_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write("steps = 3\nschedule = { name = 'constant' }")
    code, out, _ = said(capsys, "preview", "--config", f"/dev/fd/{reading}")
    os.close(reading)
    assert code == 0 and len(out.splitlines()) == 4


def test_a_study_is_told_from_the_configuration_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text('name = "plan"\nseeds = [0]\n[arms]\na = {}\n')
    code, _, err = said(capsys, "train", "--config", str(tmp_path / "plan.toml"))
    assert code == 2 and "plan.toml: this is a study file, since it has arms. Run it with lrlab study" in err


def test_a_text_for_the_schedule_beside_an_unknown_key_is_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text('schedule = "cosine"\nwindow = 3\n')
    code, _, err = said(capsys, "train", "--config", str(tmp_path / "a.toml"))
    assert (code, [line[:30] for line in err.splitlines()]) == (
        2, ["lrlab: schedule: must be a tab", "lrlab: Unknown key 'window'. K"]
    )  # fmt: skip


def test_a_folder_without_its_kind_is_told_how_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "digits").mkdir()  # a data set's name goes before that of a folder
    monkeypatch.chdir(tmp_path)
    code, _, err = said(capsys, "data", "check", "imgs")
    assert (code, err) == (2, "lrlab: --data imgs: for a folder of images, write --data folder:imgs.\n")
    assert said(capsys, "data", "check", "digits")[0] == 0
    assert "nothing to download" in said(capsys, "data", "fetch", "digits")[2]
