"""Several ranks are to a training what one is: the same batches, the same loss, the same decisions, the same rows."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from filelock import FileLock
from torch import Tensor, nn
from torch.optim import SGD

from lrlab.config import parse_config
from lrlab.data import Augmentation, Batch, Batches, evaluation_batches, load_digits_data
from lrlab.experiments import Experiment
from lrlab.models import layer_groups, resnet18
from lrlab.probes import DeadReluProbe, GradientProbe, OutputGradientProbe, Probe, UpdateRatioProbe
from lrlab.schedulers import SlopeLR
from lrlab.training import (
    ALONE,
    DivergedError,
    ElsewhereError,
    Engine,
    EngineError,
    Network,
    RankError,
    Ranks,
    evaluate,
    joined,
    synchronise,
    train,
)

CPU = torch.device("cpu")
ENGINE = Engine(CPU, "fp32")
NUM_UPDATES = 50
DATA = load_digits_data()

Found = dict[str, Any]
Batcher = Callable[[int], Batch]


def float64(batch: Batch) -> Batch:
    return replace(batch, images=batch.images.double())


def batches_of(ranks: Ranks, *, batch_size: int = 32) -> Batcher:
    augmentation = Augmentation(flip=True, crop_padding=1, cutout=2)
    batches = Batches(DATA, batch_size=batch_size, seed=1, augmentation=augmentation)
    return lambda step: float64(batches.batch(step, part=ranks.rank, num_parts=ranks.size))


def network_of(ranks: Ranks, *, synchronised: bool) -> Network:
    torch.manual_seed(0)
    model: nn.Module = resnet18(num_classes=10, in_channels=1, width=2).double()
    with torch.no_grad():  # units that are dead, and some that live in one part of a batch and not in another
        model.get_submodule("stem.1").bias[0] = -9.0
        model.get_submodule("layer1.0.bn1").bias.fill_(-3.0)
        model.get_submodule("layer2.0.bn1").bias.fill_(-2.5)
    model = synchronise(model, ranks, device=CPU) if synchronised else model
    return Network(model, layer_groups(model), engine=ENGINE, ranks=ranks)


def trained(ranks: Ranks) -> Found:
    """Fifty updates with probes and a rule, then an evaluation: in float64, with synchronised batch normalisation."""
    network = network_of(ranks, synchronised=True)
    optimizer = SGD([whole for [whole] in network.groups.values()], lr=0.05, momentum=0.9)
    scheduler = SlopeLR(optimizer, window=20, check_every=5, min_progress=0.3)
    children = dict(network.model.named_children())
    probes: list[Probe] = [
        GradientProbe(network.groups, sums=network.gradient_sums),
        OutputGradientProbe(children, every=5, total=network.total),
        DeadReluProbe(children, every=5, total=network.total),
        UpdateRatioProbe(network.groups, optimizer),
    ]
    updates = train(network, batches_of(ranks), optimizer, scheduler, num_steps=NUM_UPDATES, probes=probes)
    losses = [float(update.loss) for update in updates]
    shown = evaluation_batches(DATA.test, mean=DATA.mean, std=DATA.std, batch_size=50)  # 359 images: eight, one smaller
    evaluation = evaluate(
        network.model,
        ((images.double(), labels) for images, labels in shown),
        engine=ENGINE,
        num_classes=10,
        mirror=True,
        ranks=ranks,
    )
    return {
        "losses": losses,
        "rows": [probe.take_rows() for probe in probes],
        "decisions": [{**one} for one in scheduler.take_decisions()],
        "evaluation": evaluation,
        "checksum": network.checksum(),
        "statistics": [buffer.clone() for buffer in network.model.buffers()],
    }


def one_update_per_rank(ranks: Ranks) -> list[Tensor]:
    network = network_of(ranks, synchronised=False)
    optimizer = SGD([whole for [whole] in network.groups.values()], lr=0.05)
    list(train(network, batches_of(ranks), optimizer, SlopeLR(optimizer, window=20, check_every=5), num_steps=1))
    return [buffer.clone() for buffer in network.model.buffers()]


def diverged_on(bad: int, ranks: Ranks) -> Found:
    """Train with an image that is not a number in the part of one rank, and say how it ended."""
    network = network_of(ranks, synchronised=True)
    optimizer = SGD([whole for [whole] in network.groups.values()], lr=0.05)
    whole = batches_of(ranks)

    def batch(step: int) -> Batch:
        found = whole(step)
        if step == 3 and ranks.rank == bad:
            found.images[0, 0, 0, 0] = float("nan")
        return found

    updates = train(network, batch, optimizer, SlopeLR(optimizer, window=20, check_every=5), num_steps=9)
    try:
        return {"made": [update.step for update in updates]}
    except DivergedError as error:
        return {"step": error.step, "group": error.group, "text": str(error)}


def averaged(ranks: Ranks) -> Found:
    """A whole run with averaged weights and synchronised batch normalisation."""
    settings: dict[str, Any] = {
        "model": {"width": 2, "batchnorm": "synchronised"},
        "averaging": {"decay": 0.5},
        "telemetry": {"layers_every": 2, "noise_every": 3},
        "schedule": {"name": "constant"},
        "batch_size": 16,
        "steps": 6,
    }
    experiment = Experiment(parse_config(settings), data=DATA, ranks=ranks)
    with TemporaryDirectory() as folder:
        *_, evaluated = experiment.run(Path(folder) / "run")
        return {
            "files": len(list(Path(folder).rglob("*"))),
            "loss": evaluated.evaluation.loss,
            "statistics": [buffer.clone() for buffer in experiment.evaluated_model.buffers()],
        }


class NoImagesError(Exception):
    exit_code = 3


def failed_together(ranks: Ranks) -> Found:
    found: Found = {}
    try:
        with ranks.together():
            if ranks.rank == 1:
                raise NoImagesError("no images here")
    except (NoImagesError, ElsewhereError) as error:
        found["together"] = (type(error).__name__, error.exit_code, str(error))
    try:
        ranks.check_same("weights", "those" if ranks.rank else "these")
    except RankError as error:
        found["same"] = str(error)
    ranks.check_same("weights", "these")
    try:
        ranks.check_same_number("weights", 7 + ranks.rank)
    except RankError as error:
        found["number"] = str(error)
    ranks.check_same_number("weights", -7)
    order = []
    with ranks.first_here():
        order.append(ranks.rank)
    return found | {
        "highest": ranks.highest(10 * ranks.rank),
        "first": ranks.first(f"of rank {ranks.rank}"),
    }


def all_jobs(ranks: Ranks) -> Found:
    return {
        "trained": trained(ranks),
        "one": one_update_per_rank(ranks),
        "diverged": diverged_on(1, ranks),
        "together": failed_together(ranks),
        "averaged": averaged(ranks),
    }


def run_rank(rank: int, size: int, port: int, folder: str, job: Callable[[Ranks], Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= place
    with joined(device="cpu") as ranks:
        assert (ranks.rank, ranks.size) == (rank, size)
        torch.save(job(ranks), Path(folder) / f"{rank}.pt")
        ranks.meet()
    os._exit(0)  # gloo's threads: see lrlab.cli.main


def run_ranks(size: int, folder: Path, job: Callable[[Ranks], Any]) -> list[Any]:
    """Do a job on several ranks, and return what each came to; once, whoever else is in need of it."""
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            with TemporaryDirectory(dir=folder.parent) as making:
                mp.spawn(run_rank, args=(size, port, making, job), nprocs=size)
                shutil.copytree(making, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.fixture(scope="module")
def alone() -> Found:
    return trained(ALONE)


@pytest.fixture(scope="module")
def two(of_all_tests: Path) -> list[Found]:
    return run_ranks(2, of_all_tests / "two", all_jobs)


@pytest.fixture(scope="module")
def four(of_all_tests: Path) -> list[Found]:
    return [{"trained": found} for found in run_ranks(4, of_all_tests / "four", trained)]


@pytest.fixture(scope="module")
def of_all_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pytest's workers have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(params=["two", "four"])
def ranks(request: pytest.FixtureRequest) -> Iterator[list[Found]]:
    return [found["trained"] for found in request.getfixturevalue(request.param)]


def test_losses_of_fifty_updates_are_those_of_one_process(alone: Found, ranks: list[Found]) -> None:
    assert len(alone["losses"]) == NUM_UPDATES
    for found in ranks:
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)


def test_after_the_last_update_all_hold_the_same_bits(ranks: list[Found]) -> None:
    first, *others = ranks
    for found in others:
        assert found["checksum"] == first["checksum"]
        assert found["losses"] == first["losses"]
        assert found["rows"] == first["rows"]
        assert all(map(torch.equal, found["statistics"], first["statistics"]))


def test_probes_measure_the_gradient_of_the_whole_batch(alone: Found, ranks: list[Found]) -> None:
    for probe, expected in zip(ranks[0]["rows"], alone["rows"], strict=True):
        assert probe.keys() == expected.keys()
        for step, row in expected.items():
            assert probe[step] == pytest.approx(row, rel=1e-5, abs=1e-12)
    dead = {value for row in alone["rows"][2].values() for value in row.values()}
    assert len(dead) > 2, "there is something to count"


def test_a_rule_hears_the_loss_of_the_whole_batch_and_decides_as_alone(alone: Found, ranks: list[Found]) -> None:
    assert {one["decision"] for one in alone["decisions"]} == {"keep", "decay"}
    for found in ranks:
        for mine, expected in zip(found["decisions"], alone["decisions"], strict=True):
            assert mine["decision"] == expected["decision"]
            assert mine["step"] == expected["step"]
            assert mine["lr_after"] == pytest.approx(expected["lr_after"])


def test_an_evaluation_is_shared_out_and_counts_every_image_once(alone: Found, ranks: list[Found]) -> None:
    expected = alone["evaluation"]
    for found in ranks:
        evaluation = found["evaluation"]
        assert sum(map(sum, evaluation.confusion)) == len(DATA.test)
        assert evaluation.confusion == expected.confusion
        assert evaluation.loss == pytest.approx(expected.loss, rel=1e-6)
        assert evaluation.mirror.accuracy == expected.mirror.accuracy
        assert evaluation.class_accuracy == expected.class_accuracy


def test_synchronised_statistics_are_those_of_the_whole_batch(alone: Found, ranks: list[Found]) -> None:
    for mine, expected in zip(ranks[0]["statistics"], alone["statistics"], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-9)


def test_per_rank_running_statistics_are_the_mean_of_the_ranks(two: list[Found]) -> None:
    halves = []
    for part in range(2):
        network = network_of(ALONE, synchronised=False)
        network.model.train()
        network.logits(batches_of(Ranks(rank=part, size=2))(1).images)
        halves.append([buffer.clone() for buffer in network.model.buffers()])
    for mine, theirs, one, other in zip(two[0]["one"], two[1]["one"], *halves, strict=True):
        assert torch.equal(mine, theirs)
        torch.testing.assert_close(mine.double(), (one.double() + other.double()) / 2)


def test_what_is_not_finite_on_one_rank_stops_all_before_the_update(two: list[Found]) -> None:
    for found in two:
        assert found["diverged"]["step"] == 3
        assert found["diverged"]["group"] == "stem"  # as the rank says that has the image


def test_what_fails_on_one_rank_fails_on_all(two: list[Found]) -> None:
    first, second = (found["together"] for found in two)
    assert second["together"] == ("NoImagesError", 3, "no images here")
    assert first["together"] == ("ElsewhereError", 3, "")  # it was said already
    assert first["same"] == second["same"]
    assert "rank 1 of 2 differs from rank 0 in weights" in first["same"]
    assert first["number"] == second["number"]
    assert "the 2 ranks have computed different weights" in first["number"]


def test_ranks_tell_each_other(two: list[Found]) -> None:
    for found in two:
        assert found["together"]["highest"] == 10
        assert found["together"]["first"] == "of rank 0"


def test_averaged_weights_have_the_statistics_that_one_process_finds(two: list[Found]) -> None:
    first, second = (found["averaged"] for found in two)
    expected = averaged(ALONE)
    assert (first["files"] > 10, second["files"]) == (True, 0)  # one writes for all
    assert first["loss"] == second["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    for mine, theirs, alone in zip(first["statistics"], second["statistics"], expected["statistics"], strict=True):
        assert torch.equal(mine, theirs)
        torch.testing.assert_close(mine, alone, rtol=2e-3, atol=1e-4)


def test_alone_nothing_is_exchanged() -> None:
    network = network_of(ALONE, synchronised=True)
    assert not any(
        type(module) is not nn.BatchNorm2d for module in network.model.modules() if "Norm" in repr(module)[:20]
    )
    assert network.total is None
    assert (ALONE.highest(3), ALONE.first("this")) == (3, "this")
    with joined(device="cpu", environment={}) as ranks:
        assert ranks is ALONE


def test_a_single_rank_is_alone() -> None:
    with joined(device="cpu", environment={"WORLD_SIZE": "1", "RANK": "0"}) as ranks:
        assert ranks is ALONE


NOBODY = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
"""Where no rank waits for others."""


@pytest.mark.parametrize("seconds", ["soon", "0", "-3", "inf", "nan"])
def test_a_timeout_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv("LRLAB_RANK_TIMEOUT", seconds)
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **NOBODY}
    with (
        pytest.raises(EngineError, match=f"a number of seconds above 0, got '{seconds}'"),
        joined(device="cpu", environment=place),
    ):
        pass


@pytest.mark.parametrize(("num_gpus", "counted"), [(1, "1 GPU"), (2, "2 GPUs")])
def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, num_gpus: int, counted: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    place = {"RANK": "2", "LOCAL_RANK": "2", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", **NOBODY}
    with (
        pytest.raises(EngineError, match=f"rank 2: 3 ranks were started on a machine with {counted}: each takes one"),
        joined(device="auto", environment=place),
    ):
        pass


def test_processes_that_nobody_numbered_are_refused() -> None:
    with (
        pytest.raises(EngineError, match="LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT must be set too"),
        joined(device="cpu", environment={"WORLD_SIZE": "4", "RANK": "1"}),
    ):
        pass
