"""A run that was stopped and goes on equals one that never was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch import Tensor

from lrlab.compare.tasks import settings_of
from lrlab.config import parse_config
from lrlab.data import DataError, ImageData, load_digits_data, set_aside
from lrlab.experiments import Evaluated, Experiment, Update, verify_run
from lrlab.experiments.facts import resumed_with_reasons
from lrlab.report import write_report
from lrlab.runs import LockedError, RunError, lock_run, read_run, sound_checkpoints
from lrlab.studies import Member
from lrlab.studies.members import check_same_config
from lrlab.training import DivergedError
from lrlab.training.checkpoint import CheckpointError, load_state

SMALL: dict[str, Any] = {
    "model": {"width": 2},
    "steps": 40,
    "batch_size": 16,
    "data": {"flip": True, "crop_padding": 1, "cutout": 2},
    "schedule": {"name": "slope", "window": 10, "check_every": 4, "min_progress": 0.9},
    "evaluate": {"every": 15},
    "telemetry": {"every": 3, "outputs_every": 5, "flush_every": 7},
    "checkpoint": {"every": 10},
    "engine": {"threads": 1},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "slope": {},
    "article that forgets Adam's moments": {"schedule": {"name": "article", "check_every": 6, "multiplier": 1000.0}},
    "plateau in phases": {
        "schedule": {"name": "plateau", "check_every": 3, "patience": 1},
        "phases": {"warmup_steps": 5, "cooldown_fraction": 0.3},
    },
    "snr": {"schedule": {"name": "snr", "check_every": 10, "sample_every": 2}},
    "measured rates": {"layer_rates": {"stem": 0.5, "linear": {"measured": "weak_gradients", "every": 4}}},
    "one cycle of sgd, averaged, mirrored": {
        "schedule": {"name": "one_cycle"},
        "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True},
        "averaging": {"decay": 0.9, "every": 3},
        "evaluate": {"every": 15, "mirror": True},
        "label_smoothing": 0.1,
    },
    "every layer at every update": {"telemetry": {"layers_every": 1, "flush_every": 7}},
    "noise at every third": {"telemetry": {"noise_every": 3, "flush_every": 7}},
    "every layer at every seventh": {"telemetry": {"layers_every": 7, "flush_every": 5}},
    "torch's own": {"schedule": {"name": "torch:CosineAnnealingWarmRestarts", "T_0": 7}},
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_digits_data()


def build(images: ImageData, **changes: Any) -> Experiment:
    return Experiment(parse_config({**SMALL, **changes}), data=images)


def stop_at(directory: Path, experiment: Experiment, step: int, *, kind: type = Update, resumes: bool = False) -> None:
    events = experiment.run(directory, resumes=resumes)
    for event in events:
        if event.step == step and isinstance(event, kind):
            break
    events.close()


def timeless(value: Any) -> Any:
    """Plain values without the seconds, and of a tensor its bits."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in ("seconds", "evaluation_seconds")}
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    return [timeless(part) for part in value] if isinstance(value, list | tuple) else value


def state_of(directory: Path) -> tuple[bytes, Any]:
    """Weights, and all the rest of the last checkpoint."""
    files = sound_checkpoints(directory)[0].files
    return files["model.safetensors"], timeless(load_state(files["state.pt"]))


def events_of(directory: Path) -> list[tuple[int, str]]:
    """Step and tag of all that TensorBoard would show."""
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        events = map(Event.FromString, RawEventFileLoader(str(path)).Load())
        found += [(event.step, value.tag) for event in events for value in event.summary.value]
    return sorted(found)


def assert_same(one: Path, other: Path) -> None:
    made, again = read_run(one), read_run(other)
    assert (made.status, again.status) == ("complete", "complete")
    assert state_of(one) == state_of(other)
    assert made.columns == again.columns
    for column in made.columns:
        for values, repeated in zip(made.series(column), again.series(column), strict=True):
            np.testing.assert_array_equal(values, repeated, err_msg=column)
    assert timeless(made.evaluations()) == timeless(again.evaluations())
    assert made.decisions() == again.decisions()
    events = events_of(one)
    assert events == events_of(other)
    assert len(events) == len(set(events))
    assert sorted(path.name for path in (one / "confusion").iterdir()) == sorted(
        path.name for path in (other / "confusion").iterdir()
    )


@pytest.mark.filterwarnings("ignore:schedule .* decides after")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_stopped_twice_in_an_epoch_ends_as_one_that_never_was(
    name: str, tmp_path: Path, digits: ImageData
) -> None:
    list(build(digits, **VARIANTS[name]).run(tmp_path / "whole"))
    assert len(read_run(tmp_path / "whole").series("train/loss")[0]) == 40
    stop_at(tmp_path / "parts", build(digits, **VARIANTS[name]), 13)
    stop_at(tmp_path / "parts", build(digits, **VARIANTS[name]), 30, resumes=True)  # before its evaluation
    stop_at(tmp_path / "parts", build(digits, **VARIANTS[name]), 30, kind=Evaluated, resumes=True)
    list(build(digits, **VARIANTS[name]).run(tmp_path / "parts", resumes=True))
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert [stop["step"] for stop in read_run(tmp_path / "parts").info["resumed"]] == [13, 30, 30]


def test_a_run_stopped_at_any_update_ends_as_one_that_never_was(tmp_path: Path, digits: ImageData) -> None:
    short = {"steps": 13, "evaluate": {"every": 9}, "checkpoint": {"every": 5}}
    list(build(digits, **short).run(tmp_path / "whole"))
    for step in range(1, 14):
        stop_at(tmp_path / f"at-{step}", build(digits, **short), step)
        list(build(digits, **short).run(tmp_path / f"at-{step}", resumes=True))
        assert_same(tmp_path / "whole", tmp_path / f"at-{step}")


def test_what_a_killed_process_recorded_after_its_checkpoint_is_recorded_once(
    tmp_path: Path, digits: ImageData
) -> None:
    list(build(digits).run(tmp_path / "whole"))
    events = build(digits).run(tmp_path / "run")
    for event in events:
        if event.step == 33:  # rows and decisions beyond the checkpoint of update 30 are on disk
            break
    events.close()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000033")  # as if it had been killed instead
    list(build(digits).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").info["resumed"][0]["step"] == 30
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_complete_run_goes_on_with_more_updates_as_one_that_was_planned_so(tmp_path: Path, digits: ImageData) -> None:
    often = {"evaluate": {"every": 20}}  # else the end of the shorter one is an evaluation that the long one has not
    list(build(digits, steps=60, **often).run(tmp_path / "long"))
    list(build(digits, steps=40, **often).run(tmp_path / "run"))
    list(build(digits, steps=60, **often).run(tmp_path / "run", resumes=True))
    assert_same(tmp_path / "long", tmp_path / "run")


def test_a_complete_run_is_left_as_it_is(tmp_path: Path, digits: ImageData) -> None:
    list(build(digits).run(tmp_path / "run"))
    with pytest.raises(RunError, match="the run is complete. To continue it, give more --epochs or --steps."):
        next(build(digits).run(tmp_path / "run", resumes=True))
    with pytest.raises(RunError, match="with another configuration .steps: 40 -> 30, but a run can only be"):
        next(build(digits, steps=30).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").status == "complete"


FALLS: dict[str, Any] = {
    "schedule": {"name": "article", "check_every": 10, "multiplier": 1000.0, "factor": 0.1},  # 1e-4, 1e-5, 1e-6
    "evaluate": {"every": 10},
}


@pytest.mark.parametrize("more", [{}, {"steps": 60}, {"stop_below_lr": 2e-4}], ids=str)
def test_a_run_that_its_rate_ended_says_so_and_is_left_as_it_is(
    more: dict[str, Any], tmp_path: Path, digits: ImageData
) -> None:
    run = tmp_path / "run"
    list(build(digits, **FALLS, stop_below_lr=5e-4).run(run))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    message = r"ended at update 10, since its highest rate, 0.0001, .* To continue, --set stop_below_lr=0.0001"
    with pytest.raises(RunError, match=message):
        next(build(digits, **FALLS, **{"stop_below_lr": 5e-4, **more}).run(run, resumes=True))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lower", [{"stop_below_lr": 1e-4}, {"stop_below_lr": 2e-5}, {}], ids=str)
def test_with_a_lower_threshold_or_none_it_goes_on_as_if_that_had_been_planned(
    lower: dict[str, Any], tmp_path: Path, digits: ImageData
) -> None:
    list(build(digits, **FALLS, **lower).run(tmp_path / "whole"))
    list(build(digits, **FALLS, stop_below_lr=5e-4).run(tmp_path / "run"))
    list(build(digits, **FALLS, **lower).run(tmp_path / "run", resumes=True))
    assert_same(tmp_path / "whole", tmp_path / "run")
    assert read_run(tmp_path / "run").result["steps"] == (20 if lower else 40)


def test_where_the_rate_fell_at_the_last_update_a_lower_threshold_gives_it_nothing_to_do(
    tmp_path: Path, digits: ImageData
) -> None:
    list(build(digits, **FALLS, steps=10, stop_below_lr=5e-4).run(tmp_path / "run"))
    with pytest.raises(RunError, match="the run is complete. To continue it, give more --epochs or --steps"):
        next(build(digits, **FALLS, steps=10, stop_below_lr=5e-5).run(tmp_path / "run", resumes=True))
    list(build(digits, **FALLS, steps=15, stop_below_lr=5e-5).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").result["steps"] == 15


COOLS: dict[str, Any] = {"schedule": {"name": "article", "check_every": 100}, "phases": {"cooldown_steps": 20}}


@pytest.mark.filterwarnings("ignore:steps 40 -> 80")
@pytest.mark.filterwarnings("ignore:schedule .* decides after")
@pytest.mark.parametrize("plan", [{"schedule": {"name": "cosine"}}, COOLS], ids=["cosine", "cooldown"])
def test_a_run_that_its_planned_rate_ended_goes_on_where_a_longer_plan_falls_later(
    plan: dict[str, Any], tmp_path: Path, digits: ImageData
) -> None:
    run = tmp_path / "run"
    list(build(digits, **plan, stop_below_lr=5e-4).run(run))
    ended = read_run(run).result["steps"]
    assert 20 <= ended < 40
    with pytest.raises(RunError, match=r"config.toml. Or give more --epochs or --steps: in a longer run"):
        next(build(digits, **plan, stop_below_lr=5e-4).run(run, resumes=True))
    list(build(digits, **plan, steps=80, stop_below_lr=5e-4).run(run, resumes=True))
    made = read_run(run)
    assert (made.status, made.result["steps"]) == ("complete", ended + (20 if plan is not COOLS else 40))
    assert made.lengthened


def test_where_a_longer_plan_is_below_the_threshold_too_the_run_stays_and_says_so(
    tmp_path: Path, digits: ImageData
) -> None:
    cools = {**FALLS, "phases": {"cooldown_steps": 5}}  # the rule, not the cooldown, lets the rate fall
    list(build(digits, **cools, stop_below_lr=5e-4).run(tmp_path / "run"))
    with pytest.warns(UserWarning, match="the old length. .* No update is made: the rate, 0.0001, is below"):
        list(build(digits, **cools, steps=80, stop_below_lr=5e-4).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").result["steps"] == 10


def test_a_threshold_that_is_raised_or_added_is_another_configuration(tmp_path: Path, digits: ImageData) -> None:
    stop_at(tmp_path / "run", build(digits, stop_below_lr=1e-5), 15)
    with pytest.raises(RunError, match="another configuration .stop_below_lr: 1e-05 -> 2e-05"):
        next(build(digits, stop_below_lr=2e-5).run(tmp_path / "run", resumes=True))
    stop_at(tmp_path / "other", build(digits), 15)
    with pytest.raises(RunError, match="another configuration .stop_below_lr: None -> 1e-05"):
        next(build(digits, stop_below_lr=1e-5).run(tmp_path / "other", resumes=True))


def test_another_configuration_is_refused_with_the_difference_and_a_harmless_one_is_not(
    tmp_path: Path, digits: ImageData
) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    changed = {"optimizer": {"lr": 0.01}, "seed": 1}
    with pytest.raises(RunError, match=r"optimizer.lr: 0.001 -> 0.01; seed: 0 -> 1\). Undo the change"):
        next(build(digits, **changed).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").status == "preempted"
    harmless = {"telemetry": {**SMALL["telemetry"], "flush_every": 2}, "checkpoint": {"keep": 3}}
    list(build(digits, **harmless).run(tmp_path / "run", resumes=True))
    list(build(digits).run(tmp_path / "whole"))
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_configuration_edited_in_the_directory_is_noticed(tmp_path: Path, digits: ImageData) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace("label_smoothing = 0.0", "label_smoothing = 0.1"))
    with pytest.raises(RunError, match="label_smoothing: 0.0 -> 0.1"):
        next(build(digits, label_smoothing=0.1).run(tmp_path / "run", resumes=True))


def test_other_images_are_refused(tmp_path: Path, digits: ImageData) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    with pytest.raises(
        DataError, match=r"differ from those the run began with \(num_train: 1438 -> 719; num_validation: 0 -> 719"
    ):
        next(build(set_aside(digits, 0.5)).run(tmp_path / "run", resumes=True))


@pytest.mark.parametrize("what", ["labels", "images"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_number_of_other_images_or_labels_is_refused(
    tmp_path: Path, digits: ImageData, what: str, split: str
) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    held = getattr(digits, split)
    turned = replace(held, **{what: getattr(held, what).flip(0)})  # so that mean and deviation are the same
    others = replace(digits, **{split: turned})
    called = {"train": "training", "test": "test"}[split]
    with pytest.raises(
        DataError, match=rf"began with \(pixels or labels of the {called} images\)\. Restore the old ones"
    ):
        next(build(others).run(tmp_path / "run", resumes=True))
    next(build(digits).run(tmp_path / "run", resumes=True))


def test_a_run_made_longer_than_its_rate_was_planned_for_says_so_wherever_it_is_taken_up(
    tmp_path: Path, digits: ImageData
) -> None:
    planned = {"schedule": {"name": "cosine"}, "steps": 20}
    for seed in (0, 1):
        list(build(digits, **planned, seed=seed).run(tmp_path / f"cosine-seed{seed}"))
    with pytest.warns(UserWarning, match="steps 20 -> 40: the rate was planned for the old length"):
        list(build(digits, **planned | {"steps": 40}).run(tmp_path / "cosine-seed0", resumes=True))
    run, other = (read_run(tmp_path / f"cosine-seed{seed}") for seed in (0, 1))
    assert (run.lengthened, other.lengthened) == ("steps 20 -> 40 at update 20", "")
    assert "resumed" in settings_of(run) and "resumed" not in settings_of(other)
    assert (
        "made longer than its rate was planned for (steps 20 -&gt; 40 at update 20)"
        in write_report(run.directory).read_text()
    )
    goes_on, cosine = run.series("lr/stem")[1][20:], np.cos(np.pi * np.arange(20, 40) / 39)
    np.testing.assert_allclose(goes_on, 1e-3 * (1 + cosine) / 2, rtol=1e-6, atol=1e-9)  # from its first update on
    config = parse_config({**SMALL, **planned, "steps": 40})
    with pytest.raises(RunError, match="so it is no run of this study"):
        check_same_config(Member("cosine", 0, config, run.directory))


@pytest.mark.parametrize("ended", [15, 20])
def test_a_run_made_longer_in_its_config_file_is_one_that_was_made_longer(
    ended: int, tmp_path: Path, digits: ImageData
) -> None:
    run, planned = tmp_path / "run", {"schedule": {"name": "cosine"}, "steps": 20}
    if ended < 20:
        stop_at(run, build(digits, **planned), ended)
    else:
        list(build(digits, **planned).run(run))
    written = (run / "config.toml").read_text()
    (run / "config.toml").write_text(written.replace("steps = 20", "steps = 40"))
    config = parse_config(dict(read_run(run).config))
    for stop in (ended + 1, 41):
        with pytest.warns(UserWarning, match="steps 20 -> 40: the rate was planned for the old length"):
            stop_at(run, Experiment(config, data=digits), stop, resumes=True)
        shutil.rmtree(run / "checkpoints" / f"step-{ended + 1:06d}", ignore_errors=True)  # as if it had been killed
    assert read_run(run).result["steps"] == 40
    assert read_run(run).lengthened == f"steps 20 -> 40 at update {ended}"


@pytest.mark.filterwarnings("ignore:.* planned for the old length", "ignore:schedule .* decides after")
@pytest.mark.parametrize("schedule", ["constant", "slope"])
def test_rates_of_layers_are_those_of_the_longer_plan_from_its_first_update_on(
    schedule: str, tmp_path: Path, digits: ImageData
) -> None:
    planned = {"layer_rates": {"stem": {"shape": "linear", "start": 1.0, "end": 0.1}}, "schedule": {"name": schedule}}
    list(build(digits, **planned, steps=10).run(tmp_path / "run"))
    list(build(digits, **planned, steps=20).run(tmp_path / "run", resumes=True))
    list(build(digits, **planned, steps=20).run(tmp_path / "whole"))
    rates, expected = (read_run(tmp_path / name).series("lr/stem")[1] for name in ("run", "whole"))
    np.testing.assert_array_equal(rates[10:], expected[10:])


@pytest.mark.parametrize("longer", [{"schedule": {"name": "constant"}}, {"schedule": SMALL["schedule"]}])
def test_a_rate_that_does_not_span_the_run_is_the_same_in_a_longer_one(
    tmp_path: Path, digits: ImageData, longer: dict[str, Any]
) -> None:
    list(build(digits, **longer, steps=20).run(tmp_path / "run"))
    list(build(digits, **longer, steps=40).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").lengthened == ""


def test_a_complete_run_that_cannot_go_on_stays_what_it_was(tmp_path: Path, digits: ImageData) -> None:
    run = tmp_path / "run"
    list(build(digits).run(run))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    longer = {"steps": 60}
    with pytest.raises(DataError, match="differ from those the run began with"):
        next(build(set_aside(digits, 0.5), **longer).run(run, resumes=True))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    (weights,) = run.glob("checkpoints/step-000040/state.pt")
    state = load_state(weights.read_bytes())
    assert state["session"]["evaluated_at"] == 40
    experiment = build(digits, **longer)
    experiment.optimizer.param_groups[0]["params"] = []  # of another network, as far as the checkpoint is concerned
    with pytest.raises(CheckpointError):
        next(experiment.run(run, resumes=True))
    info = json.loads(before[run / "run.json"])
    after = read_run(run)
    assert (after.status, after.result) == (info["status"], info["result"])


def test_a_run_that_was_stopped_and_whose_checkpoints_are_gone_is_not_begun_anew(
    tmp_path: Path, digits: ImageData
) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
        shutil.rmtree(path)
    with pytest.raises(RunError, match="the run is preempted and its checkpoints are gone. Restore one"):
        next(build(digits).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").last_step == 15


def test_a_run_of_a_folder_goes_on_where_the_folder_has_moved(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("train/dark", "train/light", "test/dark", "test/light"):
        (tmp_path / "here" / name).mkdir(parents=True)
        for index in range(16):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "here" / name / f"{index}.png")
    settings = {**SMALL, "steps": 20, "batch_size": 8, "checkpoint": {"every": 10, "keep": 9}}
    here, there = ({**settings, "data": {"name": "folder", "dir": str(tmp_path / name)}} for name in ("here", "there"))
    stop_at(tmp_path / "run", Experiment(parse_config(here)), 15)
    (tmp_path / "here").rename(tmp_path / "there")
    list(Experiment(parse_config(there)).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").status == "complete"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000020")  # the last one left is of before
    found = verify_run(tmp_path / "run")
    assert (found.first, found.last, found.differences) == (10, 15, [])


def test_another_number_of_threads_is_said_to_cost_exactness(tmp_path: Path, digits: ImageData) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    with pytest.warns(UserWarning, match=r"not bit-exact: .*\(threads: 1 -> 2\)"):
        list(build(digits, engine={"threads": 2}).run(tmp_path / "run", resumes=True))
    torch.set_num_threads(1)
    assert read_run(tmp_path / "run").info["resumed"] == [
        {"step": 15, "status": "preempted", "precision": "fp32", "ranks": 1, "inexact": ["threads: 1 -> 2"]}
    ]


def test_on_a_gpu_going_on_is_not_called_exact(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(tmp_path / "run", build(digits), 15)
    experiment, run = build(digits), read_run(tmp_path / "run")
    checkpoint = sound_checkpoints(tmp_path / "run")[0]
    info = {**run.info, "resumed": [{"step": 15}]}
    assert resumed_with_reasons(experiment, run.info, info, checkpoint, fell_to=None) == [{"step": 15, "inexact": []}]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A")
    experiment.engine = replace(experiment.engine, device=torch.device("cuda"))
    with pytest.warns(UserWarning, match=r"not bit-exact: .* convolutions on a GPU are not deterministic\)"):
        (last,) = resumed_with_reasons(experiment, run.info, info, checkpoint, fell_to=None)
    assert last["inexact"] == ["device: cpu -> cuda (A)", "convolutions on a GPU are not deterministic"]


def test_another_arithmetic_is_said_and_kept_on_record(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    stop_at(tmp_path / "run", build(digits, engine={"precision": "auto"}), 15)
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda: False)
    assert read_run(tmp_path / "run").precision == "bf16"
    with pytest.warns(UserWarning, match=r"one that was never stopped \(precision: bf16 -> fp32\)"):
        list(build(digits, engine={"precision": "auto"}).run(tmp_path / "run", resumes=True))
    assert read_run(tmp_path / "run").precision == "bf16 then fp32"


def test_evaluations_in_batches_of_another_size_are_said_to_cost_exactness(tmp_path: Path, digits: ImageData) -> None:
    stop_at(tmp_path / "run", build(digits), 10)
    with pytest.warns(UserWarning, match=r"not bit-exact.*\(evaluate.batch_size: \d+ -> 7\)"):
        stop_at(tmp_path / "run", build(digits, evaluate={"every": 15, "batch_size": 7}), 12, resumes=True)


def test_a_run_that_diverged_does_not_go_on(tmp_path: Path, digits: ImageData) -> None:
    huge = {"optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {"name": "constant"}}
    with pytest.raises(RuntimeError, match="diverged"):
        list(build(digits, **huge).run(tmp_path / "run"))
    with pytest.raises(RunError, match="the run diverged, and would diverge again"):
        next(build(digits, **huge).run(tmp_path / "run", resumes=True))


def test_a_stretch_is_verified_and_a_changed_weight_is_not(tmp_path: Path, digits: ImageData) -> None:
    list(Experiment(parse_config(SMALL)).run(tmp_path / "run"))
    found = verify_run(str(tmp_path / "run"))
    assert (found.first, found.last, found.differences) == (30, 40, [])
    assert found.sentence == (
        "updates 31 to 40 repeated: weights, state, rows, evaluations and decisions are the same to the bit"
    )
    lines = (tmp_path / "run" / "decisions.jsonl").read_text().splitlines()
    last = {**json.loads(lines[-1]), "decision": "raise"}
    (tmp_path / "run" / "decisions.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert verify_run(tmp_path / "run").differences == ["decisions"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_stop_at_an_update_that_is_due_for_evaluation_is_no_difference(
    tmp_path: Path, digits: ImageData, *, goes_on: bool
) -> None:
    settings = {"evaluate": {"every": 15}, "checkpoint": {"every": 10, "keep": 9}}
    stop_at(tmp_path / "run", build(digits, **settings), 15)
    if goes_on:  # it is evaluated first
        stop_at(tmp_path / "run", build(digits, **settings), 18, resumes=True)
        shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000018")
    found = verify_run(tmp_path / "run")
    assert (found.first, found.last, found.differences) == (10, 15, [])


DESTROYS: dict[str, Any] = {
    "optimizer": {"name": "sgd", "lr": 1e-3},
    "schedule": {"name": "torch:StepLR", "step_size": 3, "gamma": 1e40},
    "checkpoint": {"every": 2},
    "evaluate": {"every": 4},
}
"""The fourth update leaves weights of 1e30 and more."""


def test_a_stretch_before_a_divergence_is_verified_though_an_evaluation_was_not_finite(
    tmp_path: Path, digits: ImageData
) -> None:
    with pytest.raises(DivergedError, match="the loss of update 5 is nan"):
        list(build(digits, **DESTROYS, steps=6).run(tmp_path / "run"))
    assert read_run(tmp_path / "run").evaluations()[0]["loss"] is None
    found = verify_run(tmp_path / "run")
    assert (found.first, found.last, found.differences) == (2, 4, [])


def test_a_run_whose_last_update_destroys_the_network_has_diverged(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(DivergedError, match="after update 4, the last one, the loss of the evaluation is nan"):
        list(build(digits, **DESTROYS, steps=4).run(tmp_path / "run"))
    run = read_run(tmp_path / "run")
    assert (run.status, run.result["steps"], run.result["test_accuracy"]) == ("diverged", 4, None)
    assert [checkpoint.step for checkpoint in sound_checkpoints(tmp_path / "run")] == [2]


def test_a_run_that_was_made_longer_is_verified_as_it_was_planned_then(tmp_path: Path, digits: ImageData) -> None:
    often = {"checkpoint": {"every": 10, "keep": 9}}
    list(build(digits, **often).run(tmp_path / "run"))
    stop_at(tmp_path / "run", build(digits, **often, steps=60), 42, resumes=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000042")  # as if it had been killed instead
    assert read_run(tmp_path / "run").config["steps"] == 60
    found = verify_run(tmp_path / "run")
    assert (found.first, found.last, found.differences) == (30, 40, [])


def test_a_run_under_way_is_not_verified(tmp_path: Path, digits: ImageData) -> None:
    list(build(digits, checkpoint={}).run(tmp_path / "run"))
    with lock_run(tmp_path / "run"), pytest.raises(LockedError, match="another process is writing this run"):
        verify_run(tmp_path / "run")


def test_to_verify_takes_two_checkpoints(tmp_path: Path, digits: ImageData) -> None:
    list(build(digits, checkpoint={}).run(tmp_path / "run"))
    with pytest.raises(RunError, match="needs two intact checkpoints, and this run has 1"):
        verify_run(tmp_path / "run")
