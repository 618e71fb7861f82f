"""One run from its configuration to its directory, on real digits."""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from lrlab.config import ConfigError, parse_config
from lrlab.data import ImageData, evaluation_batches, load_digits_data, set_aside
from lrlab.experiments import Evaluated, Experiment, Update
from lrlab.experiments.build import build_model
from lrlab.runs import Run, RunError, RunWriter, read_run
from lrlab.training import DivergedError, evaluate

SMALL: dict[str, Any] = {
    "model": {"width": 2},
    "steps": 30,
    "batch_size": 16,
    "schedule": {"name": "article", "check_every": 10, "multiplier": 1000.0},
    "evaluate": {"every": 10},
    "telemetry": {"every": 5, "flush_every": 7},
}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_digits_data()


def run(directory: Path, images: ImageData, **changes: Any) -> list[Any]:
    return list(Experiment(parse_config({**SMALL, **changes}), data=images).run(directory))


def weights_hash(directory: Path) -> str:
    (path,) = directory.glob("checkpoints/*/model.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def timeless(made: Run) -> list[dict[str, Any]]:
    """The evaluations of a run without the times, which differ from run to run."""
    times = ("seconds", "evaluation_seconds")
    return [{key: value for key, value in record.items() if key not in times} for record in made.evaluations()]


def test_a_run_leaves_everything_in_its_directory(tmp_path: Path, digits: ImageData) -> None:
    events = run(tmp_path / "run", digits)
    assert [event.step for event in events if isinstance(event, Update)] == list(range(1, 31))
    assert [event.step for event in events if isinstance(event, Evaluated)] == [10, 20, 30]

    made = read_run(tmp_path / "run")
    assert made.status == "complete"
    assert made.result["steps"] == 30
    assert made.result["epochs"] == pytest.approx(30 / (len(digits.train) // 16))
    assert made.result["test_accuracy"] == made.evaluations()[-1]["accuracy"]
    assert list(made.series("train/loss")[0]) == list(range(1, 31))
    assert list(made.series("grad_l2/layer3")[0]) == [5, 10, 15, 20, 25, 30]
    names = ["stem", "layer1", "layer2", "layer3", "layer4", "linear"]
    quantities = ["grad_l2", "grad_rms", "grad_mean", "grad_max", "grad_out_l2", "grad_out_rms"]
    assert list(made.columns) == [
        *("step", "epoch", "train/loss"),
        *(f"{quantity}/{name}" for quantity in ["lr", *quantities] for name in names),
    ]
    assert list(made.series("lr/linear")[1]) == pytest.approx([1e-3] * 10 + [1e-4] * 10 + [1e-5] * 10)
    assert [decision["decision"] for decision in made.decisions()] == ["decay", "decay", "decay"]
    assert sorted(path.name for path in (tmp_path / "run" / "confusion").iterdir()) == [
        "step-000010.png",
        "step-000020.png",
        "step-000030.png",
    ]
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    assert made.info["data"]["classes"] == [str(digit) for digit in range(10)]


def test_what_the_layers_say_is_in_the_rows_and_changes_no_weight(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "without", digits)
    run(tmp_path / "with", digits, telemetry={"layers_every": 10, "noise_every": 10, "flush_every": 7})
    sgd = {"optimizer": {"name": "sgd", "lr": 0.01}, "telemetry": {"layers_every": 10}}
    run(tmp_path / "sgd", digits, **sgd)

    made = read_run(tmp_path / "with")
    names = ["stem", "layer1", "layer2", "layer3", "layer4", "linear"]
    for quantity in ("weight_l2", "weight_rms", "update_ratio", "grad_cosine", "adam_snr"):
        assert [column for column in made.columns if column.startswith(f"{quantity}/")] == [
            f"{quantity}/{name}" for name in names
        ]
        steps, values = made.series(f"{quantity}/layer2")
        assert steps.tolist() == [10, 20, 30] and all(map(math.isfinite, values))
    assert made.series("grad_variance/whole")[0].tolist() == [10, 20, 30]
    assert all(variance > 0 for variance in made.series("grad_variance/layer2")[1])
    assert [column for column in made.columns if column.startswith("dead_relu/")] == [
        f"dead_relu/{name}"
        for name in names[:-1]  # behind the linear layer there is none
    ]
    assert all(0 <= share < 1 for share in made.series("dead_relu/layer4")[1])
    assert weights_hash(tmp_path / "with") == weights_hash(tmp_path / "without")
    assert not [column for column in read_run(tmp_path / "sgd").columns if column.startswith("adam_snr")]
    rate = made.series("lr/layer2")[1][9]
    moved = made.series("update_ratio/layer2")[1][0] * made.series("weight_l2/layer2")[1][0]
    size = made.series("weight_l2/layer2")[1][0] / made.series("weight_rms/layer2")[1][0]  # sqrt of the parameters
    assert 0.1 * rate < moved / size < 2 * rate  # Adam moves each parameter by about the rate


def test_the_checkpoint_holds_the_weights_and_a_true_manifest(tmp_path: Path, digits: ImageData) -> None:
    experiment = Experiment(parse_config(SMALL), data=digits)
    list(experiment.run(tmp_path / "run"))
    folder = tmp_path / "run" / "checkpoints" / "step-000030"
    loaded = load_file(folder / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in experiment.model.state_dict().items())
    facts = json.loads((folder / "manifest.json").read_text())["files"]["model.safetensors"]
    content = (folder / "model.safetensors").read_bytes()
    assert facts == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_run_repeated_is_the_same_to_the_byte(tmp_path: Path, digits: ImageData) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, digits)
    assert weights_hash(tmp_path / "one") == weights_hash(tmp_path / "two")
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert all(list(one.series(column)[1]) == list(two.series(column)[1]) for column in one.columns)
    assert timeless(one) == timeless(two)


@pytest.mark.parametrize(
    "change", [{"telemetry": {"every": 1}}, {"telemetry": {"every": 30}}, {"evaluate": {"every": 7}}], ids=str
)
def test_watching_more_or_less_does_not_change_the_weights(
    tmp_path: Path, digits: ImageData, change: dict[str, Any]
) -> None:
    run(tmp_path / "one", digits, data={"flip": True, "crop_padding": 1})
    run(tmp_path / "two", digits, data={"flip": True, "crop_padding": 1}, **change)
    assert weights_hash(tmp_path / "one") == weights_hash(tmp_path / "two")


def test_an_evaluation_says_how_long_training_took_so_far_and_how_long_evaluations(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Experiment.evaluate

    def slow(self: Experiment, step: int) -> Any:
        time.sleep(0.3)
        return evaluate(self, step)

    monkeypatch.setattr(Experiment, "evaluate", slow)
    started = time.perf_counter()
    run(tmp_path / "run", digits)
    elapsed = time.perf_counter() - started
    made = read_run(tmp_path / "run")
    training, evaluating = (
        [record[name] for record in made.evaluations()] for name in ("seconds", "evaluation_seconds")
    )
    assert 0 < training[0] < training[1] < training[2] <= made.result["train_seconds"]
    assert all(seconds >= 0.3 * number for number, seconds in enumerate(evaluating, 1))
    assert training[2] + evaluating[2] <= elapsed, "no second is counted twice"


AVERAGED: dict[str, Any] = {"averaging": {"decay": 0.9, "every": 4}, "steps": 30, "evaluate": {"every": 3}}


def test_averaging_does_not_change_training(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "plain", digits, evaluate={"every": 3})
    run(tmp_path / "averaged", digits, **AVERAGED)
    plain, averaged = read_run(tmp_path / "plain"), read_run(tmp_path / "averaged")
    assert all(list(plain.series(column)[1]) == list(averaged.series(column)[1]) for column in plain.columns)
    # the first averaging comes after update 4: before, the weights themselves are evaluated
    equal = [one == other for one, other in zip(timeless(plain), timeless(averaged), strict=True)]
    assert equal == [True] + [False] * 9


def test_what_is_evaluated_and_kept_is_the_average(tmp_path: Path, digits: ImageData) -> None:
    experiment = Experiment(parse_config({**SMALL, **AVERAGED}), data=digits)
    average: dict[str, torch.Tensor] = {}
    for event in experiment.run(tmp_path / "run"):
        if isinstance(event, Update) and event.step % 4 == 0:
            now = {name: tensor.detach().double() for name, tensor in experiment.model.named_parameters()}
            average = {name: 0.9 * average[name] + 0.1 * now[name] for name in now} if average else now
    loaded = load_file(tmp_path / "run" / "checkpoints" / "step-000030" / "model.safetensors")
    weights = experiment.model.state_dict()
    assert loaded.keys() == weights.keys()
    for name, tensor in average.items():
        # float32 keeps 24 bits, and a few roundings of it add up
        torch.testing.assert_close(loaded[name].double(), tensor, rtol=1e-4, atol=1e-6)
    assert not torch.equal(loaded["linear.weight"], weights["linear.weight"])

    experiment.model.load_state_dict(loaded)
    batches = evaluation_batches(digits.test, mean=digits.mean, std=digits.std, batch_size=500)
    result = evaluate(experiment.model, batches, engine=experiment.engine, num_classes=10)
    assert read_run(tmp_path / "run").result["test_loss"] == result.loss


def test_an_average_has_the_statistics_of_its_own_activations(tmp_path: Path, digits: ImageData) -> None:
    config = parse_config({**SMALL, **AVERAGED, "data": {"flip": True, "crop_padding": 1}})
    experiment = Experiment(config, data=digits)
    list(experiment.run(tmp_path / "run"))
    loaded = load_file(tmp_path / "run" / "checkpoints" / "step-000030" / "model.safetensors")
    twin = build_model(config.model, num_classes=10, in_channels=1, seed=0).double()
    twin.load_state_dict(loaded)
    means: list[torch.Tensor] = []
    twin.get_submodule("stem.1").register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        for step in range(1, 31):  # fewer images than the estimate would take
            twin(experiment.batches.batch(step).images.double())
    expected = torch.stack(means).mean(0)
    torch.testing.assert_close(loaded["stem.1.running_mean"].double(), expected, rtol=1e-4, atol=1e-6)
    # and they are not those of the weights that were trained
    assert not torch.allclose(experiment.model.get_buffer("stem.1.running_mean").double(), expected, rtol=1e-2)


def test_a_checkpoint_without_an_evaluation_has_an_average_with_statistics_of_its_own(
    tmp_path: Path, digits: ImageData
) -> None:
    saved = {}
    for every in (12, 30):  # evaluated at the update that is saved, or not
        config = {**SMALL, **AVERAGED, "evaluate": {"every": every}, "checkpoint": {"every": 12, "keep": 9}}
        list(Experiment(parse_config(config), data=digits).run(tmp_path / f"every-{every}"))
        saved[every] = load_file(tmp_path / f"every-{every}" / "checkpoints" / "step-000012" / "model.safetensors")
    assert all(torch.equal(tensor, saved[30][name]) for name, tensor in saved[12].items())


def test_decisions_after_a_loss_that_was_not_finite_are_not_kept(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as on a GPU, where nobody looks at a loss before its row is written
    monkeypatch.setattr("lrlab.training.network.Network.check_finite", lambda *_: None)
    schedule = {"name": "plateau", "check_every": 1}
    changes = {"schedule": schedule, "optimizer": {"name": "sgd", "lr": 1e4}, "telemetry": {"flush_every": 30}}
    with pytest.raises(DivergedError) as raised:
        run(tmp_path / "run", digits, **changes, evaluate={"every": 30})
    made = read_run(tmp_path / "run")
    steps = [decision["step"] for decision in made.decisions()]
    assert raised.value.step < 30
    assert steps == list(range(1, raised.value.step + 1))


def test_mirror_images_add_to_an_evaluation_and_change_nothing_of_it(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "plain", digits)
    run(tmp_path / "mirrored", digits, evaluate={"every": 10, "mirror": True})
    plain, mirrored = read_run(tmp_path / "plain"), read_run(tmp_path / "mirrored")
    records = timeless(mirrored)
    found = [record.pop("mirror") for record in records]
    assert records == timeless(plain)
    assert [sorted(mirror) for mirror in found] == [["accuracy", "loss"]] * 3
    assert "test_accuracy_mirror" not in plain.result
    assert mirrored.result["test_accuracy_mirror"] == found[-1]["accuracy"]
    (events,) = (tmp_path / "mirrored").glob("events.out.tfevents.*")
    assert events.read_bytes().count(b"test/accuracy_mirror") == 3


def test_labels_are_smoothed_for_training_and_not_for_testing(tmp_path: Path, digits: ImageData) -> None:
    still = {"optimizer": {"lr": 1e-30}, "schedule": {"name": "constant"}, "steps": 1}  # both see the first weights
    run(tmp_path / "plain", digits, **still)
    run(tmp_path / "smoothed", digits, **still, label_smoothing=0.5)
    plain, smoothed = read_run(tmp_path / "plain"), read_run(tmp_path / "smoothed")
    assert plain.series("train/loss")[1][0] != smoothed.series("train/loss")[1][0]
    assert timeless(plain) == timeless(smoothed)


def test_with_validation_images_the_test_images_are_left_alone(tmp_path: Path) -> None:
    table = SMALL | {"data": {"name": "digits", "validation_fraction": 0.25}}
    experiment = Experiment(parse_config(table))
    assert (len(experiment.data.train), len(experiment.data.validation or ())) == (1079, 359)
    list(experiment.run(tmp_path / "run"))
    made = read_run(tmp_path / "run")
    last = made.evaluations()[-1]
    assert last["split"] == made.evaluated_split == "validation"
    assert sum(map(sum, last["confusion"])) == made.info["data"]["num_validation"] == 359
    assert made.result["validation_accuracy"] == last["accuracy"]
    assert made.result["test_accuracy"] is None and made.result["test_loss"] is None


def test_images_of_ones_own_have_a_share_set_aside_where_the_configuration_says_so(
    tmp_path: Path, digits: ImageData
) -> None:
    run(tmp_path / "asked", digits, data={"validation_fraction": 0.25})
    run(tmp_path / "given", set_aside(digits, 0.25))
    for name in ("asked", "given"):
        made = read_run(tmp_path / name)
        assert made.evaluated_split == "validation"
        assert {record["split"] for record in made.evaluations()} == {"validation"}
        assert made.info["data"]["num_validation"] > 0 and made.result["validation_accuracy"] is not None


def test_of_many_decisions_between_two_flushes_none_is_lost(tmp_path: Path, digits: ImageData) -> None:
    schedule = {"name": "plateau", "check_every": 1}
    settings = {"telemetry": {"every": 1_000, "outputs_every": 1_000, "flush_every": 50_000}}
    with pytest.MonkeyPatch.context() as patch:
        for module in ("schedulers.base", "experiments.session"):
            patch.setattr(f"lrlab.{module}.NUM_DECISIONS", 8)
        run(tmp_path / "run", digits, schedule=schedule, steps=30, **settings)
    assert [decision["step"] for decision in read_run(tmp_path / "run").decisions()] == list(range(1, 31))


def test_another_seed_gives_other_weights(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "one", digits)
    run(tmp_path / "two", digits, seed=1)
    assert weights_hash(tmp_path / "one") != weights_hash(tmp_path / "two")


def test_epochs_end_the_run(tmp_path: Path, digits: ImageData) -> None:
    assert len(digits.train) == 1438
    experiment = Experiment(
        parse_config({key: value for key, value in SMALL.items() if key != "steps"} | {"epochs": 3, "batch_size": 300}),
        data=digits,
    )
    updates = [event for event in experiment.run(tmp_path / "run") if isinstance(event, Update)]
    assert [update.epoch for update in updates] == [1] * 4 + [2] * 4 + [3] * 4  # 1438 / 300 = 4.8


def test_dlibs_ending_stops_once_the_rate_is_below_the_threshold(tmp_path: Path, digits: ImageData) -> None:
    events = run(tmp_path / "run", digits, stop_below_lr=5e-4)  # the first decay, after update 10, goes to 1e-4
    assert isinstance(events[-1], Evaluated)
    made = read_run(tmp_path / "run")
    assert (made.status, made.result["steps"]) == ("complete", 10)
    assert list(made.series("train/loss")[0]) == list(range(1, 11))


def test_dlibs_ending_does_not_take_a_warm_up_for_a_fall(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "run", digits, schedule={"name": "one_cycle"}, stop_below_lr=1e-4)  # it begins at 4e-5
    assert 20 < read_run(tmp_path / "run").result["steps"] < 30


def test_dlibs_ending_counts_the_rate_of_the_first_update(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "run", digits, schedule={"name": "linear"}, stop_below_lr=1e-3)  # the base rate
    made = read_run(tmp_path / "run")
    assert made.result["steps"] == 1
    assert made.result["fell_to_lr"] == pytest.approx(1e-3 * 29 / 30, rel=0.01)


@pytest.mark.filterwarnings("ignore:schedule .* decides after")
def test_dlibs_ending_takes_a_cooldown_for_a_fall_even_below_the_floor_of_the_rule(
    tmp_path: Path, digits: ImageData
) -> None:
    schedule = {"name": "slope", "min_lr": 1e-4}
    phases = {"cooldown_steps": 20, "cooldown_shape": "linear"}  # from 1e-3, by 5e-5 an update, to zero
    run(tmp_path / "run", digits, schedule=schedule, phases=phases, stop_below_lr=9e-5)
    result = read_run(tmp_path / "run").result
    assert (result["steps"], result["fell_to_lr"]) == (28, pytest.approx(5e-5))  # of 30


def test_an_experiment_can_be_run_once(tmp_path: Path, digits: ImageData) -> None:
    experiment = Experiment(parse_config(SMALL), data=digits)
    list(experiment.run(tmp_path / "one"))
    with pytest.raises(RuntimeError, match="make a new Experiment for another run"):
        next(experiment.run(tmp_path / "two"))
    assert not (tmp_path / "two").exists()


def test_an_interrupt_while_rows_are_written_loses_none(
    tmp_path: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = RunWriter.write_rows
    calls = []

    def interrupted(self: RunWriter, rows: Any) -> None:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        written(self, rows)

    monkeypatch.setattr(RunWriter, "write_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", digits)
    made = read_run(tmp_path / "run")
    assert made.status == "preempted"
    assert list(made.series("train/loss")[0]) == list(range(1, made.result["steps"] + 1))


def test_a_loss_that_is_not_finite_ends_the_run_before_its_update(tmp_path: Path, digits: ImageData) -> None:
    huge = {"optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {"name": "constant"}}
    experiment = Experiment(parse_config({**SMALL, **huge}), data=digits)
    with pytest.raises(DivergedError, match=r"the loss of update \d+ is (nan|inf), first in the output of \w+"):
        list(experiment.run(tmp_path / "run"))
    made = read_run(tmp_path / "run")
    assert made.status == "diverged"
    rows = pq.read_table(tmp_path / "run" / "metrics").to_pylist()
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(math.isfinite(row["train/loss"]) for row in rows)
    assert made.result["steps"] == rows[-1]["step"] == made.info["diverged"]["step"] - 1
    assert made.info["diverged"]["group"] in experiment.group_names
    assert made.info["diverged"]["group"] in made.info["diverged"]["message"]


def test_stopped_early_a_run_is_preempted_and_keeps_its_rows(tmp_path: Path, digits: ImageData) -> None:
    events = Experiment(parse_config(SMALL), data=digits).run(tmp_path / "run")
    for event in events:
        if event.step == 12 and isinstance(event, Update):
            break
    events.close()  # type: ignore[attr-defined]
    made = read_run(tmp_path / "run")
    assert (made.status, made.result["steps"]) == ("preempted", 12)
    assert list(made.series("train/loss")[0]) == list(range(1, 13))


def test_a_directory_that_holds_a_run_is_left_as_it_is(tmp_path: Path, digits: ImageData) -> None:
    run(tmp_path / "run", digits)
    before = weights_hash(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        run(tmp_path / "run", digits, seed=9)
    assert weights_hash(tmp_path / "run") == before
    assert read_run(tmp_path / "run").status == "complete"


def test_a_batch_larger_than_the_data_set_is_refused_before_any_work(digits: ImageData) -> None:
    with pytest.raises(ConfigError, match=r"batch_size must be at most the number of training images, got 5000"):
        Experiment(parse_config({**SMALL, "batch_size": 5000}), data=digits)


def test_a_batch_of_one_small_image_is_refused_and_one_of_two_is_not(digits: ImageData) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 2, got 1: layer4 reduces images of 8 pixels"):
        Experiment(parse_config({**SMALL, "batch_size": 1}), data=digits)
    Experiment(parse_config({**SMALL, "batch_size": 2}), data=digits)


def test_a_rule_that_never_gets_to_look_is_warned_of(digits: ImageData) -> None:
    with pytest.warns(UserWarning, match="decides after 1000 updates at the earliest, but sees only 30 in this run"):
        Experiment(parse_config({**SMALL, "schedule": {"name": "article"}}), data=digits)


def test_a_step_schedule_that_never_decays_is_warned_of(digits: ImageData) -> None:
    step = {"name": "step", "step_size": SMALL["steps"]}
    with pytest.warns(UserWarning, match="schedule 'step' first decays after 30 updates, but sees 30 in this run"):
        Experiment(parse_config({**SMALL, "schedule": step}), data=digits)
    Experiment(parse_config({**SMALL, "schedule": {**step, "step_size": SMALL["steps"] - 1}}), data=digits)


def test_after_100_updates_with_augmentation_the_weights_are_the_same_with_every_probe(
    tmp_path: Path, digits: ImageData
) -> None:
    table = {"steps": 100, "data": {"flip": True, "crop_padding": 1, "cutout": 2}}
    watched = {"every": 1, "outputs_every": 1, "layers_every": 1, "noise_every": 7}
    run(tmp_path / "with", digits, **table, telemetry=watched)
    run(tmp_path / "without", digits, **table, telemetry={"every": 1000, "outputs_every": 1000})
    assert weights_hash(tmp_path / "with") == weights_hash(tmp_path / "without")
    assert len(read_run(tmp_path / "with").series("grad_variance/whole")[0]) == 14
