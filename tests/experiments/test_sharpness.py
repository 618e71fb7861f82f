"""Sharpness of a run at its checkpoints: what is measured, where it is written, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lrlab.config import ConfigError, parse_config
from lrlab.data import load_digits_data, normalise
from lrlab.data.randomness import order
from lrlab.experiments import Experiment, SharpnessPlan, measure_sharpness, verify_run
from lrlab.models import layer_groups, resnet18
from lrlab.report import write_report
from lrlab.runs import LockedError, RunError, lock_run, read_run
from lrlab.training.curvature import measure_curvature
from lrlab.training.surface import LossSurface

pytestmark = pytest.mark.usefixtures("blank_pictures")

TABLE = {
    "model": {"width": 2}, "steps": 6, "batch_size": 16, "schedule": {"name": "cosine"},
    "optimizer": {"name": "adam", "lr": 0.01}, "checkpoint": {"every": 2, "keep": 5}, "label_smoothing": 0.1,
}  # fmt: skip
PLAN = SharpnessPlan(num_samples=2, num_examples=32, num_vectors=2)
QUICK = SharpnessPlan(num_samples=1, num_examples=16, num_vectors=1, by_group=False)


def train(directory: Path, **over: object) -> Path:
    list(Experiment(parse_config({**TABLE, **over}), data=load_digits_data()).run(directory))
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def test_a_run_whose_layers_were_watched_is_measured_too(tmp_path: Path) -> None:
    run = train(tmp_path / "run", telemetry={"layers_every": 2, "noise_every": 3})
    assert [found.step for found in measure_sharpness(read_run(run), QUICK)] == [2, 4, 6]


def test_what_is_in_the_rows_is_the_curvature_at_the_weights_of_the_checkpoint(run: Path) -> None:
    before = {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()}

    found = list(measure_sharpness(read_run(run), PLAN, at=[4]))

    assert [one.step for one in found] == [4]
    assert {path: path.read_bytes() for path in before} == before
    data = load_digits_data()
    model = resnet18(num_classes=10, in_channels=1, width=2).to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(run / "checkpoints" / "step-000004" / "model.safetensors"))
    expected = []
    for sample in order(0, 0, len(data.train))[:64].split(32):
        batches = [
            (normalise(data.train.images[part], mean=data.mean, std=data.std), data.train.labels[part])
            for part in sample.split(16)
        ]
        loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        surface = LossSurface(model, layer_groups(model), batches, batchnorm="training", loss=loss)
        expected.append(measure_curvature(surface, seed=0, num_vectors=2))
    read = read_run(run)
    for quantity in ("hessian_max", "hessian_trace", "sam_sharpness"):
        for group in ("whole", "stem", "linear"):
            values = [getattr(one, quantity)[group] for one in expected]
            steps, mean = read.series(f"{quantity}/{group}")
            assert steps.tolist() == [4]
            assert mean[0] == pytest.approx(np.mean(values), rel=1e-4)
            for end, value in (("low", min(values)), ("high", max(values))):
                assert read.series(f"{quantity}_{end}/{group}")[1][0] == pytest.approx(value, rel=1e-4)
    assert read.series("train/loss")[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert read.info["sharpness"] == {
        "batchnorm": "training", "examples": 32, "samples": 2, "groups": True, "vectors": 2, "rho": 0.05,
    }  # fmt: skip
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Scalars("hessian_max/whole")] == [4]


def test_adams_second_moments_are_those_of_the_parameters_they_belong_to(run: Path) -> None:
    (found,) = measure_sharpness(read_run(run), QUICK, at=[6])

    # the same by hand: an optimizer over the model's own parameters, not over tensors that hold a whole group
    state = torch.load(run / "checkpoints" / "step-000006" / "state.pt", weights_only=True)["optimizer"]["state"]
    data = load_digits_data()
    model = resnet18(num_classes=10, in_channels=1, width=2).to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(run / "checkpoints" / "step-000006" / "model.safetensors"))
    groups, moments = layer_groups(model), []
    for index, group in enumerate(groups.values()):
        whole = state[index]["exp_avg_sq"] / (1 - 0.999**6)
        for parameter in group:
            numbers, whole = whole[: parameter.numel()], whole[parameter.numel() :]
            if parameter.dim() == 4:  # in memory the channels come last
                out, channels, height, width = parameter.shape
                numbers = numbers.view(out, height, width, channels).permute(0, 3, 1, 2)
            moments.append(numbers.reshape(parameter.shape))
    places = order(0, 0, len(data.train))[:16]
    batch = normalise(data.train.images[places], mean=data.mean, std=data.std), data.train.labels[places]
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    surface = LossSurface(model, groups, [batch], batchnorm="training", loss=loss)
    expected = measure_curvature(surface, seed=0, num_vectors=1, by_group=False, second_moments=moments)
    assert found.samples[0].preconditioned_max == pytest.approx(expected.preconditioned_max, rel=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "edge", "preconditioned"),
    [
        ({"name": "sgd", "lr": 0.1, "momentum": 0.0}, 2 / 0.1, None),
        ({"name": "sgd", "lr": 0.1}, 2 * 1.9 / 0.1, None),
        ({"name": "sgd", "lr": 0.1, "nesterov": True}, 2 * 1.9 / 2.8 / 0.1, None),
        ({"name": "adam", "lr": 0.1}, 2 / 0.1, 3.8 / 0.1 / 0.1),
    ],
)
def test_the_edge_of_stability_is_that_of_the_optimizer(
    tmp_path: Path, optimizer: dict[str, object], edge: float, preconditioned: float | None
) -> None:
    run = train(tmp_path / "run", optimizer=optimizer, schedule={"name": "constant"}, steps=2)
    (found,) = measure_sharpness(read_run(run), QUICK)
    assert found.edges["hessian_edge/whole"] == pytest.approx(edge)
    if preconditioned is None:
        assert "preconditioned_edge/whole" not in found.edges
        assert "preconditioned_max/whole" not in found.values()
    else:
        assert found.edges["preconditioned_edge/whole"] == pytest.approx(preconditioned)


def test_where_a_decay_has_just_reset_adam_there_is_no_edge_of_what_it_sees_and_the_sentence_says_why(
    tmp_path: Path,
) -> None:
    schedule = {"name": "article", "check_every": 4, "multiplier": 1e6}  # it decays at update 4
    run = train(tmp_path / "run", schedule=schedule)
    before, reset, after = measure_sharpness(read_run(run), QUICK)
    assert "preconditioned_edge/whole" not in reset.edges
    assert reset.edges["hessian_edge/whole"] == pytest.approx(2 / 0.01)
    assert "nothing as Adam sees it, whose moments a decay has just reset, trace" in reset.sentence
    for found in (before, after):
        assert "as Adam sees it" in found.sentence and "reset" not in found.sentence
    for column in ("preconditioned_max/whole", "preconditioned_edge/whole"):
        assert read_run(run).series(column)[0].tolist() == [2, 6]
    assert "largest eigenvalue, preconditioned" in write_report(run).read_text()


def test_the_edge_is_at_the_rate_that_the_weights_were_reached_with_and_none_where_rates_differ(tmp_path: Path) -> None:
    run = train(tmp_path / "run", layer_rates={"linear": 2.0})
    rates = dict(zip(*read_run(run).series("lr/stem"), strict=True))
    found = list(measure_sharpness(read_run(run), SharpnessPlan(1, 16, num_vectors=1), at=[2, 4]))
    for one in found:
        assert one.edges["hessian_edge/stem"] == pytest.approx(2 / rates[one.step])
        assert one.edges["hessian_edge/linear"] == pytest.approx(1 / rates[one.step])
        assert one.edges["hessian_edge/whole"] is None
    assert "update 4: largest eigenvalue" in found[1].sentence
    assert "edge" not in found[1].sentence


def test_what_is_there_is_not_measured_again_and_nothing_else_may_stand_beside_it(run: Path) -> None:
    first = [one.step for one in measure_sharpness(read_run(run), QUICK, at=[6, 2])]
    rest = [one.step for one in measure_sharpness(read_run(run), QUICK)]
    assert (first, rest) == ([2, 6], [4])
    assert list(measure_sharpness(read_run(run), QUICK)) == []
    other = SharpnessPlan(num_samples=1, num_examples=16, batchnorm="evaluation", num_vectors=1, by_group=False)
    with pytest.raises(
        RunError, match=r"measured with batchnorm = training, .* with batchnorm = evaluation, which cannot"
    ):
        list(measure_sharpness(read_run(run), other))
    (run / "metrics" / "sharpness.parquet").unlink()
    assert [one.step for one in measure_sharpness(read_run(run), other, at=[2])] == [2]
    assert read_run(run).info["sharpness"]["batchnorm"] == "evaluation"


def test_what_does_not_fit_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a multiple of the batch size, 16, .* got 20. Use 32"):
        list(measure_sharpness(read_run(run), SharpnessPlan(num_examples=20)))
    with pytest.raises(ConfigError, match=r"--samples must be at least 1, got 0"):
        list(measure_sharpness(read_run(run), SharpnessPlan(num_samples=0)))
    with pytest.raises(
        ConfigError, match=r"200 samples of 16 images need more than the 1,\d+ training images of the run"
    ):
        list(measure_sharpness(read_run(run), SharpnessPlan(num_samples=200, num_examples=16)))
    with pytest.raises(RunError, match=r"no checkpoint at update 3; there are some at 2, 4, 6"):
        list(measure_sharpness(read_run(run), QUICK, at=[3]))
    with lock_run(run), pytest.raises(LockedError):
        list(measure_sharpness(read_run(run), QUICK))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="it has no checkpoints"):
        list(measure_sharpness(read_run(run), QUICK))


@pytest.mark.filterwarnings("ignore:steps 6 -> 8")
def test_a_measured_run_is_still_verified_and_a_resumed_one_forgets_what_lies_ahead(run: Path) -> None:
    list(measure_sharpness(read_run(run), QUICK))
    assert verify_run(run).differences == []

    for path in (run / "checkpoints").glob("step-*"):
        if path.name > "step-000004":
            shutil.rmtree(path)
    longer = parse_config({**TABLE, "steps": 8, "schedule": {"name": "constant"}})
    config = (run / "config.toml").read_text().replace("steps = 6", "steps = 8")
    assert longer.steps == 8 and "steps = 8" in config
    resumed = Experiment(parse_config({**TABLE, "steps": 8}), data=load_digits_data())
    list(resumed.run(run, resumes=True))
    assert read_run(run).series("hessian_max/whole")[0].tolist() == [2, 4]


def test_the_report_draws_it_with_the_edge(run: Path) -> None:
    list(measure_sharpness(read_run(run), QUICK))
    page = write_report(run).read_text()
    assert "largest eigenvalue of the Hessian" in page
    assert "edge of stability" in page
    assert (run / "figures" / "sharpness_whole.png").exists()
