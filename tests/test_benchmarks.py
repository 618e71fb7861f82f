"""The benchmarks' arithmetic, and that their loops run; what they measure is not a test's business."""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import aa
import curvature
import layer_probes
import logging_ways
import measuring
import precision
import report
import schedulers
import startup
import studies
import telemetry
import throughput
import time_to_accuracy
from logging_ways import histogram
from loops import Enough, MemoryLoader, Meter, Setting, load_data
from lrlab.compare import compare_runs
from lrlab.config import parse_config, to_toml
from lrlab.data import normalise
from lrlab.experiments import Update
from lrlab.runs import Run, find_runs, read_run
from lrlab.training import choose_engine
from measuring import digits, interleave, median_with_interval, ratios, spread, table
from throughput import LOOPS, NEEDS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_variants_take_turns_round_after_round() -> None:
    order = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    assert interleave(["a", "b"], measure, repeats=3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert order == ["a", "b"] * 3


def test_a_ratio_is_that_of_one_round() -> None:
    slowing, twice_as_slow = [1.0, 2.0, 8.0], [2.0, 4.0, 16.0]
    assert ratios(twice_as_slow, slowing) == [2, 2, 2]


def test_rounds_that_do_not_match_have_no_ratios() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_spread_of_five_values_by_hand() -> None:
    assert spread([5, 1, 4, 2, 3]) == {"n": 5, "min": 1, "low": 2, "median": 3, "high": 4, "max": 5}


def test_the_interval_of_a_median_holds_it_and_lies_within_the_values() -> None:
    found = median_with_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found["median"] == 3
    assert 1 <= found["interval_low"] <= 3 <= found["interval_high"] <= 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (1.2, "1.20"),
        (9.999, "10.0"),
        (123.4, "123"),
        (12345, "12,300"),
        (-0.5, "-0.500"),
        (0.0, "0.00"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert digits(value) == text


def test_a_table_is_markdown_with_its_columns_in_line() -> None:
    assert table(["what", "ms"], [["a", "1"], ["longer", "1,000"]]).splitlines() == [
        "| what   |    ms |",
        "| ------ | ----: |",
        "| a      |     1 |",
        "| longer | 1,000 |",
    ]


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"processor": "AMD EPYC (family 26, model 2)", "num_cpus": 2}, "epyc-2-cores"),
        ({"processor": "Apple M4 Max", "num_cpus": 16}, "apple-m4-max-16-cores"),
        ({"processor": "AMD EPYC", "num_cpus": 16, "gpu": "NVIDIA H200"}, "nvidia-h200"),
    ],
)
def test_hardware_is_one_word_of_a_file_name(facts: dict[str, object], word: str) -> None:
    assert measuring.hardware(facts) == word


def test_results_hold_the_table_the_figures_and_the_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    facts = measuring.environment() | {"date": "2026-11-24", "processor": "AMD EPYC", "num_cpus": 2}
    measuring.publish("what", title="A title", page="| a table |", document={"seconds": [1.0]}, facts=facts)
    text = (tmp_path / "what_epyc-2-cores_202611.md").read_text()
    assert text.startswith("# A title\n\n| a table |\n")
    assert "torch" in text and "2026-11-24" in text
    written = json.loads((tmp_path / "what_epyc-2-cores_202611.json").read_text())
    assert written["seconds"] == [1.0]
    assert written["environment"]["packages"]["torch"]


def test_a_meter_throws_the_first_updates_away() -> None:
    meter = Meter(seconds=0.1, warmup=4, at_least=2, device="cpu")
    made = 0
    with pytest.raises(Enough):
        while True:
            made += 1
            time.sleep(0.2 if made <= 2 else 0.02)
            meter.update()
    assert made > 4 + 2
    assert 0.02 <= meter.seconds_per_update < 0.1, "the slow first two are not in it"


def options(**changes: Any) -> argparse.Namespace:
    """Those of --quick."""
    quick = {"quick": True, "data_dir": None, "device": "cpu", "workers": 0, "width": 4, "seconds": 0.1}
    return argparse.Namespace(**(quick | changes))


@pytest.mark.filterwarnings("ignore:precision bf16")  # where the processor has it not
@pytest.mark.parametrize("name", ["textbook", "lrlab fp32", "lrlab bf16", *throughput.YARDSTICKS])
def test_the_loops_and_the_yardsticks_can_be_measured(name: str) -> None:
    assert throughput.measure_here(name, 16, "bf16", options()) > 0


@pytest.mark.parametrize("name", ["textbook", "lrlab fp32", "matrix product fp32", "convolution fp32"])
def test_what_is_measured_in_float32_is_computed_in_float32_on_a_gpu_too(name: str) -> None:
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        throughput.measure_here(name, 16, "bf16", options())
        assert not any(backend.allow_tf32 for backend in backends)
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def test_images_from_memory_are_those_of_any_loader(tmp_path: Path) -> None:
    data = load_data(None, quick=True)
    meter = Meter(seconds=0.1, warmup=2, at_least=1, device="cpu")
    torch.manual_seed(0)
    images, labels = next(iter(MemoryLoader(Setting(data, 4, 16, "cpu", 0, tmp_path, meter, "fp32"))))
    torch.manual_seed(0)
    indices = torch.randperm(len(data.train))[:16]
    torch.testing.assert_close(images, normalise(data.train.images[indices], mean=data.mean, std=data.std))
    assert torch.equal(labels, data.train.labels[indices])


@pytest.mark.parametrize("name", [name for name in LOOPS if name.partition(",")[0] in NEEDS])
def test_the_frameworks_can_be_measured(name: str) -> None:
    if missing := [package for package in NEEDS[name.partition(",")[0]] if not importlib.util.find_spec(package)]:
        pytest.skip(f"{' and '.join(missing)} not installed; make bench sets it up")
    quickest = choose_engine(device="cpu", precision="auto").precision
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), "--quick", "--measure", name, "16", quickest]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["rate"] > 0


def test_the_network_takes_the_operations_that_are_known() -> None:
    # 555.42 million multiplications forward, twice that backward but for the images' own gradient
    assert throughput.flops_per_image(width=64, side=32) == pytest.approx(3.329e9, rel=1e-3)


def test_a_share_is_that_of_the_quicker_yardstick_in_the_same_arithmetic() -> None:
    rates = dict(zip(throughput.YARDSTICKS, ([10.0, 12.0], [40.0, 40.0], [20.0, 18.0], [30.0, 30.0]), strict=True))
    summary = throughput.summarise({**rates, "textbook": [5.0, 5.0], "lrlab bf16": [5.0, 10.0]}, batch_size=4, flops=2)
    assert summary["loops"]["textbook"]["share_of_best_rate"]["median"] == 0.5
    assert summary["loops"]["lrlab bf16"]["share_of_best_rate"]["max"] == 0.5
    assert summary["loops"]["lrlab bf16"]["ratio_to"]["textbook"]["median"] == 1.5


def test_without_instructions_for_bf16_the_best_is_fp32(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.available(["textbook", "lrlab bf16"], "fp32") == ["textbook"]
    assert "left out: lrlab bf16, since this machine has no instructions for it" in capsys.readouterr().out
    assert throughput.available(["textbook", "lrlab bf16"], "bf16") == ["textbook", "lrlab bf16"]
    with pytest.raises(SystemExit, match="No loop is left"):
        throughput.available(["lrlab bf16"], "fp32")
    names = throughput.yardsticks("fp32")
    assert names == ["matrix product fp32", "convolution fp32"]
    rates = {**dict(zip(names, ([10.0], [20.0]), strict=True)), "textbook": [4.0], "Lightning, best": [5.0]}
    summary = throughput.summarise(rates, batch_size=4, flops=2)
    assert summary["loops"]["Lightning, best"]["share_of_best_rate"]["median"] == 0.5
    text = throughput.page({4: rates}, flops=2, data="noise", options=options(repeats=1, threads=2))
    assert "'best': fp32, channels-last" in text


def test_every_variant_of_telemetry_makes_its_blocks() -> None:
    data = load_data(None, quick=True)
    seconds = telemetry.measure_blocks(options(precision="fp32", repeats=2), data, batch_size=8, size=2)
    assert {name: len(found) for name, found in seconds.items()} == dict.fromkeys(telemetry.VARIANTS, 2)
    summary = telemetry.summarise(seconds, batch_size=8, size=2)
    assert [row[0] for row in telemetry.rows_of(summary)] == list(telemetry.VARIANTS[1:])


def test_the_cost_of_each_layer_probe_is_measured_in_its_own_step() -> None:
    measured = layer_probes.measure(options(precision="fp32", repeats=2), load_data(None, quick=True), 8)
    names = [probe.__name__ for probe in layer_probes.PROBES]
    assert {name: len(found) for name, found in measured.items()} == dict.fromkeys([*names, "the rest of the step"], 2)
    assert all(seconds > 0 for found in measured.values() for seconds in found)


def test_what_sharpness_costs_is_measured_in_turns() -> None:
    found = curvature.measure(options(repeats=2), load_data(None, quick=True), 2, 64)
    names = ["training steps", "product, all weights", "product, layer4 alone"]
    assert {name: len(seconds) for name, seconds in found.items()} == dict.fromkeys(names, 2)
    assert "| width 2: product, all weights" in curvature.page({"width 2": found})


def test_the_large_study_of_the_report_is_one_that_a_report_reads(tmp_path: Path) -> None:
    report.write_study(tmp_path / "many", 4, 60)
    runs = find_runs(tmp_path / "many")
    assert [(run.arm, run.seed, run.status) for run in runs] == [(f"arm{index}", 0, "complete") for index in range(4)]
    assert all(len(run.evaluations()) == report.NUM_EVALUATIONS and run.last_step == 60 for run in runs)
    assert len(runs[0].columns) == 57 and len(runs[0].decisions()) == 9


def test_the_scalars_that_telemetry_is_compared_with_are_those_of_the_gradients(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 5)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}])
    model(torch.randn(4, 3)).square().sum().backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    with SummaryWriter(tmp_path) as writer:
        logging_ways.scalars(optimizer, writer)(Update(1, 1, torch.tensor(2.5), (0.125,)))
    logged = EventAccumulator(str(tmp_path)).Reload()
    assert {tag: logged.Scalars(tag)[0].value for tag in logged.Tags()["scalars"]} == pytest.approx(
        {
            "train/loss": 2.5,
            "lr/all": 0.125,
            "grad_l2/all": gradient.norm().item(),
            "grad_rms/all": gradient.square().mean().sqrt().item(),
            "grad_mean_abs/all": gradient.abs().mean().item(),
            "grad_max_abs/all": gradient.abs().max().item(),
        }
    )


def test_the_histogram_counts_the_finite_numbers_whatever_their_order_in_memory() -> None:
    gradient = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    counts, edges = histogram(gradient.contiguous(memory_format=torch.channels_last)) or ([], [])
    assert (sum(counts), len(counts), edges[0], edges[-1]) == (96, 64, 0, 95)
    gradient[0, 0, 0, 0] = torch.nan
    counts, edges = histogram(gradient) or ([], [])
    assert (sum(counts), edges[0]) == (95, 1)
    assert histogram(torch.full((3,), torch.inf)) is None


def test_a_gradient_that_is_kept_elsewhere_is_not_taken_for_a_cheap_one() -> None:
    with pytest.raises(RuntimeError, match="nothing would be measured"):
        logging_ways.histograms(nn.Linear(1, 1))(Update(1, 1, torch.tensor(0.0), ()))


@pytest.mark.parametrize("way", [logging_ways.recorded_row, logging_ways.scalar_row])
def test_a_row_can_be_measured_either_way(tmp_path: Path, way: Callable[..., float]) -> None:
    assert way(torch.rand(40), directory=tmp_path / "run", num_rows=3) > 0


def test_a_cost_lost_in_the_noise_is_not_divided_by() -> None:
    assert telemetry.quotient(0.04, 0.01) == 4
    assert telemetry.quotient(0.04, -0.001) is None


def test_python_starts_before_lrlab_is_imported() -> None:
    assert 0 < startup.measure(startup.PYTHON) < 10


def test_a_column_of_one_character_is_one_that_markdown_knows() -> None:
    assert table(["what", "n"], [["a", "5"]]).splitlines()[1] == "| ---- | -: |"


def test_the_loop_of_every_rule_can_be_timed() -> None:
    costs, base = schedulers.measure_costs(num_turns=2, num_updates=300)
    assert costs.keys() == schedulers.RULES.keys()
    assert 0 < base < 1e5 and all(-base < cost < 1e5 for cost in costs.values())


def test_replays_can_be_timed() -> None:
    losses = torch.ones(3_000, dtype=torch.float64)
    assert all(0 < schedulers.measure_replay(name, losses=losses) < 60 for name in schedulers.LOSS_RULES)


STUDY = """
name = "two"
seeds = [0]
[base]
batch_size = 16
model.width = 4
steps = 60
evaluate.every = 20
schedule.name = "constant"
engine.threads = 1
[arms]
reaches = { optimizer.lr = 5e-3 }
slow = { optimizer.lr = 1e-9 }
"""


def test_time_to_accuracy_reads_when_a_run_first_reached_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time_to_accuracy, "TARGETS", (0.5,))
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    study = tmp_path / "two.toml"
    study.write_text(STUDY)
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy.py", str(study), "--root", str(tmp_path / "runs")])
    time_to_accuracy.main()

    run = read_run(tmp_path / "runs" / "two" / "reaches" / "seed0")
    first = next(record for record in run.evaluations() if record["accuracy"] >= 0.5)
    assert time_to_accuracy.reached(run, 0.5, "plain") == {
        "seconds": first["seconds"],
        "seconds_with_evaluations": first["seconds"] + first["evaluation_seconds"],
        "epochs": first["step"] / (1438 // 16),
    }
    rows = [line for line in capsys.readouterr().out.splitlines() if "50%" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["reaches", "slow"]
    assert "1 of 1" in rows[0]
    assert "0 of 1" in rows[1] and "not within" in rows[1]
    assert len(list((tmp_path / "results").glob("time-to-accuracy_*"))) == 2


def test_a_first_arm_that_was_stopped_gives_a_bound() -> None:
    def one(seconds: float | None) -> dict[str, object]:
        targets = {"0.9": None if seconds is None else {"seconds": seconds}}
        return {"train_seconds": 600.0, "answers": {"plain": {"targets": targets}}}

    assert time_to_accuracy.times_as_fast(one(300.0), one(30.0), "plain", "0.9") == (10, False)
    assert time_to_accuracy.times_as_fast(one(None), one(30.0), "plain", "0.9") == (20, True)
    assert time_to_accuracy.times_as_fast(one(300.0), one(None), "plain", "0.9") is None


def test_the_cost_of_bfloat16_by_hand() -> None:
    figures = precision.summarise({0: (0.50, 0.51), 1: (0.52, 0.51), 2: (0.51, 0.54)})
    assert figures["mean"] == pytest.approx(1.0)
    # differences 1, -1, 3: standard error 2 / sqrt(3), Student's 97.5 % quantile with 2 degrees of freedom 4.303
    assert (figures["low"], figures["high"]) == pytest.approx(
        (1 - 4.303 * 2 / 3**0.5, 1 + 4.303 * 2 / 3**0.5), rel=1e-3
    )
    assert figures["std_of_seeds_fp32"] == pytest.approx(1.0)


def test_a_study_by_workers_is_measured_beside_its_runs_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(studies.PLAN.format(seeds=[0], steps=5))
    found = studies.measure(path, 2)
    assert (found["runs"], found["complete"], found["differing"]) == (2, 2, {})
    assert 0 < found["start_seconds"] < found["runs_seconds"] < found["seconds"]
    part = studies.shares(found, found["runs_seconds"], 2)
    assert all(0 < share < 1 for share in part.values()) and sum(part.values()) < 1
    assert "2 of 2 runs complete" in studies.page([found], 2, 5)
    runs = tmp_path / "runs" / "tiny"
    apart = studies.differences(runs / "cosine" / "seed0", runs / "constant" / "seed0")
    assert apart[:2] == ["weights", "metrics"]


@pytest.fixture
def runs_of_one_arm(tmp_path: Path) -> list[Run]:
    """Twenty runs as they are on disk: seeds 100, 101, ..., and accuracies 0.50, 0.51, ..."""
    config = to_toml(parse_config({"steps": 10, "seed": 7}))
    ended = {"format_version": 1, "status": "complete", "environment": {"command": ["lrlab", "train"]}}
    runs = []
    for number in range(20):
        folder = tmp_path / "aa" / "cosine" / f"seed{100 + number}"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(config.replace("seed = 7", f"seed = {100 + number}"))
        result = {"test_accuracy": 0.5 + number / 100, "train_seconds": 1.0}
        (folder / "run.json").write_text(json.dumps({**ended, "result": result}))
        runs.append(read_run(folder))
    return runs


def test_the_machine_of_runs_is_the_one_that_all_were_made_on(runs_of_one_arm: list[Run]) -> None:
    made_on = {"processor": "AMD EPYC", "num_cpus": 16, "python": "3.13.1", "packages": {"torch": "2.13.0"}}
    for run in runs_of_one_arm[:2]:
        run.info.update(environment=made_on, engine={"device": "cuda (NVIDIA H200)"})
    runs_of_one_arm[2].info.update(environment=made_on, engine={"device": "cpu"})

    facts = measuring.machine(runs_of_one_arm[:2])

    assert facts.items() >= made_on.items() and measuring.hardware(facts) == "nvidia-h200"
    with pytest.raises(SystemExit, match="made on different machines or versions"):
        measuring.machine(runs_of_one_arm[:3])


def test_runs_of_one_arm_are_paired_by_their_position(runs_of_one_arm: list[Run], tmp_path: Path) -> None:
    folders = aa.lay_out(runs_of_one_arm, np.arange(20), tmp_path / "laid", added=0.125)
    assert [folder.name for folder in folders] == ["study0", "study1"]
    (found,) = compare_runs(find_runs(folders[1])).differences
    assert (found.reference, found.arm) == ("again", "once")
    assert list(found.seeds) == [0, 1, 2, 3, 4]
    # runs 10 to 14 once, 15 to 19 again: each pair is five hundredths apart, and what was added
    assert found.differences == pytest.approx([-0.05 - 0.125] * 5)


def test_every_pairing_has_each_run_once() -> None:
    first, *others = aa.orders(20)
    assert first.tolist() == list(range(20))
    assert all(sorted(order.tolist()) == list(range(20)) for order in others)
    assert len({tuple(order) for order in others}) == aa.NUM_SHUFFLES


def test_a_schedule_against_itself_is_told_from_a_better_one(runs_of_one_arm: list[Run]) -> None:
    shuffled = np.random.default_rng(1).permutation(20)
    assert aa.alarms(aa.compared_in(runs_of_one_arm, shuffled))["count"] == 0
    assert aa.alarms(aa.compared_in(runs_of_one_arm, shuffled, added=0.9))["count"] == 2


def test_shares_of_a_study_by_hand() -> None:
    found = {"update_seconds": 12.0, "evaluation_seconds": 2.0, "start_seconds": 1.0}
    assert studies.shares(found, 10.0, 2) == {"update": 0.6, "evaluation": 0.1, "start": 0.1}
