"""The model card is what Hugging Face reads, says what run.json says, and shows every name as it is."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from scipy import stats

from lrlab.config import parse_config, read_toml, to_table
from lrlab.report.model_card import is_sealed, model_card, text
from lrlab.runs import Run, RunWriter, read_run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
CONFUSION = [[6, 2, 0], [1, 11, 0], [0, 0, 0]]

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b",
    "`code` ``` fence",
    "**bold** _under_ ~~gone~~",
    "[link](javascript:alert(1))",
    "![](https://example.org/x.png)",
    "https://example.org",
    "www.example.org",
    "somebody@example.org",
    "--- \\ ---",
    "# heading",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; &#0;",
    "<!-- comment",
    "$x^2$ :smile: @user",
    "'single' \"double\" : [yaml, {a: b}] !!python/object:os.system",
    "naïve 猫 🐈 é",
    "- 1. + = % ? .",
)
"""Names of classes: printable, as data must have them."""


def write(
    directory: Path,
    *,
    classes: Sequence[str] = ("cat", "dog", "eel"),
    confusion: Sequence[Sequence[int]] = CONFUSION,
    config: Mapping[str, Any] | None = None,
    step: int = 10,
    evaluated: int = 10,
    split: str = "test",
    **facts: Any,
) -> Run:
    with RunWriter(directory, parse_config({"steps": 20, "batch_size": 8, **(config or {})})) as writer:
        writer.describe(
            data={
                "name": "whatever",
                "classes": list(classes),
                "num_train": 80,
                "image_shape": [1, 8, 8],
                "mean": [0.3056764],
                "std": [0.25],
            },
            engine={
                "device": "cpu",
                "precision": "fp32",
                "ranks": 1,
                "threads": 2,
                "num_parameters": 12_345,
                "num_steps": 20,
            },
        )
        writer.describe(**facts)
        right = sum(row[k] for k, row in enumerate(confusion))
        record = {"step": evaluated, "split": split, "loss": 0.5, "confusion": [list(row) for row in confusion]}
        writer.write_evaluation({**record, "accuracy": right / sum(map(sum, confusion))}, png=PNG)
        writer.finish("preempted", {"steps": step})
    return read_run(directory)


def front(card: str) -> Any:
    _, head, _ = re.split(r"^---$", card, maxsplit=2, flags=re.M)
    return yaml.safe_load(head)


def rendered(card: str) -> str:
    """The body as HTML, by CommonMark with GitHub's tables, strikethrough and raw HTML."""
    body = re.split(r"^---$", card, maxsplit=2, flags=re.M)[2]
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [[unescaped(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]


def unescaped(cell: str) -> str:
    assert "<" not in cell, f"markup in {cell}"
    return cell.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


def test_hugging_face_reads_the_accuracy_from_it(tmp_path: Path) -> None:
    run = write(tmp_path / "run", config={"data": {"name": "cifar10"}})
    (tmp_path / "README.md").write_text(model_card(run, step=10))
    card = ModelCard.load(tmp_path / "README.md")
    [result] = card.data.eval_results
    assert (result.task_type, result.dataset_type, result.dataset_name) == (
        "image-classification",
        "uoft-cs/cifar10",
        "CIFAR-10",
    )
    assert (result.dataset_split, result.metric_type, result.metric_value) == ("test", "accuracy", 0.85)
    assert (card.data.library_name, card.data.datasets, card.data.model_name) == ("lrlab", ["uoft-cs/cifar10"], "run")
    assert card.data.metrics == ["accuracy"] and "image-classification" in card.data.tags


def test_accuracies_have_their_number_of_images_and_an_exact_interval(tmp_path: Path) -> None:
    card = model_card(write(tmp_path / "run"), step=10)
    # Clopper and Pearson's bounds are quantiles of beta distributions
    low, high = stats.beta.ppf(0.025, 17, 4), stats.beta.ppf(0.975, 18, 3)
    assert (
        f"**85.00 % of the 20 test images** are classified correctly (17 of them; exact 95 % interval "
        f"{100 * low:.2f} to {100 * high:.2f} %, Clopper-Pearson)" in card
    )
    rows = cells(rendered(card))
    assert ["cat", "8", "6", "75.00", "34.91 to 96.81"] in rows
    assert ["dog", "12", "11", "91.67", "61.52 to 99.79"] in rows
    assert ["eel", "0", "0", "n/a", "n/a"] in rows


def test_it_says_how_the_network_was_trained(tmp_path: Path) -> None:
    config = {
        "seed": 3,
        "schedule": {"name": "slope", "window": 40},
        "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True},
        "averaging": {"decay": 0.9},
        "data": {"flip": True, "crop_padding": 2},
    }
    run = write(
        tmp_path / "run", config=config, resumed=[{"step": 4, "status": "preempted", "inexact": ["torch: a -> b"]}]
    )
    said = {row[0]: row[1] for row in cells(rendered(model_card(run, step=10))) if len(row) == 2}
    assert said["architecture"].startswith("resnet18 of width 64,") and "12,345 parameters" in said["architecture"]
    assert said["weights"] == "moving average of the weights (decay 0.9, every 1) after update 10 of 20"
    assert said["images"].startswith("grey, 8 pixels high and 8 wide")
    assert (said["mean"], said["std"], said["seed"]) == ("0.305676", "0.25", "3")
    assert said["data"].endswith("80 training images; mirrored at random, shifted by up to 2 pixels")
    assert said["schedule"].startswith("slope (test = t, window = 40")
    assert said["optimizer"] == "sgd, base rate 0.1, weight decay 1e-05, momentum 0.9, Nesterov's"
    assert said["updates"] == "10 (1 epochs)"
    assert said["resumed"] == "after update 4, not as if it had never stopped: torch: a -> b"
    assert run.info["environment"]["processor"] in said["hardware"]
    assert f"torch {run.info['environment']['packages']['torch']}" in said["versions"]


def test_an_accuracy_of_another_update_is_not_stated(tmp_path: Path) -> None:
    card = model_card(write(tmp_path / "run", evaluated=5), step=10)
    assert "model-index" not in front(card)
    assert "It was not evaluated after update 10, so no accuracy is stated." in card
    assert ["eel"] in cells(rendered(card))


def test_an_accuracy_on_images_that_were_set_aside_is_called_that(tmp_path: Path) -> None:
    run = write(tmp_path / "run", config={"data": {"validation_fraction": 0.2}}, split="validation")
    card = model_card(run, step=10)
    assert front(card)["model-index"][0]["results"][0]["dataset"]["split"] == "validation"
    assert "of the 20 validation images" in card and "the accuracy is too high" in card


def test_names_of_classes_are_shown_as_they_are(tmp_path: Path) -> None:
    number = len(HOSTILE)
    confusion = [[2 if row == column else 0 for column in range(number)] for row in range(number)]
    run = write(tmp_path / "run", classes=HOSTILE, confusion=confusion)
    card = model_card(run, step=10)
    html = rendered(card)
    shown = [row for row in cells(html) if len(row) == 5][1:]
    assert [row[0] for row in shown] == list(HOSTILE)
    assert all(row[1:] == ["2", "2", "100.00", "15.81 to 100.00"] for row in shown)
    assert set(re.findall(r"<(\w+)", html)) == set(
        re.findall(r"<(\w+)", rendered(model_card(write(tmp_path / "plain"), step=10)))
    )
    # GitHub and Hugging Face make links of bare addresses, which this reader does not
    assert not re.search(r"https?://|www\.|\w@\w", card.partition("## How it was trained")[0])
    assert front(card) == front(model_card(write(tmp_path / "other" / "run", confusion=[[2]], classes=["a"]), step=10))


def test_names_of_runs_and_folders_break_neither_yaml_nor_markdown(tmp_path: Path) -> None:
    for index, name in enumerate(name.replace("/", " ") for name in HOSTILE):
        folder = tmp_path / "secret place" / name
        config = {"data": {"name": "folder", "dir": str(folder)}, "layer_rates": {f"linear|{re.escape(name)}": 1.0}}
        run = write(tmp_path / str(index) / name, config=config)
        card = model_card(run, step=10)
        head = front(card)
        assert head["model-index"][0]["name"] == name
        assert head["model-index"][0]["results"][0]["dataset"] == {"type": "folder", "name": name, "split": "test"}
        assert len(ModelCard(card).data.eval_results) == 1
        html = rendered(card)
        [heading] = re.findall(r"<h1>(.*?)</h1>", html)
        assert unescaped(heading) == name.strip()
        assert "secret place" not in card  # where things are on a machine is nobody's business
        assert html.count("<pre>") == 2 and "<script" not in html and "<a " not in html
        assert is_sealed(card)


def test_what_cannot_be_printed_is_not(tmp_path: Path) -> None:
    name = "a\nb\x1b\u202e\u2028\udcff"
    card = model_card(
        write(
            tmp_path / "run",
            environment={
                "python": "3",
                "packages": {"lrlab": "1"},
                "platform": "x",
                "processor": name,
                "num_cpus": 2,
                "command": [],
            },
        ),
        step=10,
    )
    assert card.encode() and text(name) == "a\N{REPLACEMENT CHARACTER}b" + 4 * "\N{REPLACEMENT CHARACTER}"
    assert text(name) in card and name not in card


def test_a_card_that_was_edited_is_known(tmp_path: Path) -> None:
    card = model_card(write(tmp_path / "run"), step=10)
    assert is_sealed(card)
    for edited in (card + "\n", card.replace("85.00", "99.00"), "", "# a card", card.rpartition("<!--")[0]):
        assert not is_sealed(edited)


def test_a_run_from_before_ranks_were_counted_and_whose_loss_is_not_finite_has_a_card(tmp_path: Path) -> None:
    run = write(tmp_path / "run")
    lines = (run.directory / "evaluations.jsonl").read_text()
    (run.directory / "evaluations.jsonl").write_text(lines.replace('"loss": 0.5', '"loss": null'))
    engine = {name: value for name, value in run.info["engine"].items() if name != "ranks"}
    card = model_card(Run(run.directory, {**run.info, "engine": engine}, run.config), step=10)
    assert "mean cross-entropy not finite." in card
    assert "| batch | 8 images |" in card


@pytest.mark.parametrize(
    ("ranks", "command"), [(1, "lrlab train --config config.toml`"), (2, "torchrun --nproc-per-node 2")]
)
def test_it_says_how_to_make_the_network_again(tmp_path: Path, ranks: int, command: str) -> None:
    run = write(tmp_path / "run")
    engine = {**run.info["engine"], "ranks": ranks}
    card = model_card(Run(run.directory, {**run.info, "engine": engine}, run.config), step=10)
    assert command in card
    [toml] = re.findall(r"```toml\n(.*?)\n```", card, re.S)
    (tmp_path / "config.toml").write_text(toml)
    assert to_table(parse_config(read_toml(tmp_path / "config.toml"))) == dict(run.config)


def test_a_run_that_went_on_with_another_number_of_processes_does_not_claim_to_be_made_by_the_last(
    tmp_path: Path,
) -> None:
    card = model_card(write(tmp_path / "run", resumed=[{"step": 4, "status": "failed", "ranks": 2}]), step=10)
    assert "torchrun --nproc-per-node 2 -m -- lrlab train --config config.toml --run NEW" in card
    assert "| batch | 8 images, shared by 2 then 1 processes, batch normalisation of each one's part |" in card
    assert "this network was made by 2 then 1 processes" in card
    assert "comes to the same weights" not in card


def test_a_run_that_was_made_longer_claims_neither_to_have_never_stopped_nor_to_be_made_again(tmp_path: Path) -> None:
    longer = [{"step": 4, "status": "complete", "inexact": [], "longer": "steps 20 -> 30"}]
    card = model_card(write(tmp_path / "run", resumed=longer), step=10)
    said = {row[0]: row[1] for row in cells(rendered(card)) if len(row) == 2}
    assert said["resumed"] == (
        "after update 4, not as if it had never stopped: made longer than its rate was planned for (steps 20 -> 30 "
        "at update 4)"
    )
    assert "comes to the same weights" not in card
    assert "holds the last length alone: the same network takes a run of the first length" in card
    assert "comes to the same weights" in model_card(write(tmp_path / "other"), step=10)
