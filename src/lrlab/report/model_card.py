"""The model card of a network that a run came to, in the format of Hugging Face: metadata as YAML, then Markdown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import scipy  # its statistics load when they are first used
import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined

from lrlab.report.again import launcher, processes_in_turn
from lrlab.runs import Run

KNOWN: Final = {
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "digits": ("scikit-learn's digits", None),
}
"""Data set -> what it is called, and where Hugging Face has it."""

_MISSING: Final = "\N{REPLACEMENT CHARACTER}"
_MARKUP: Final = re.compile(r"[\\`*_{}\[\]<>#|~&$!@:^]|\.(?=[^\W\d])")
"""What could begin markup inside a line; a point before a letter could make a link of the words about it."""


@dataclass(frozen=True)
class Counted:
    """How many of some images are classified correctly."""

    name: str
    """Of their class; empty for all."""
    images: int
    correct: int

    @property
    def share(self) -> float:
        """Of the images."""
        return self.correct / self.images

    @property
    def percent(self) -> str:
        """The same in per cent; of no images it is not known."""
        return f"{100 * self.share:.2f}" if self.images else "n/a"

    @property
    def interval(self) -> str:
        """Exact 95 % interval of the share, in per cent.

        Source: Clopper & Pearson, 1934, Biometrika 26(4).
        """
        if not self.images:
            return "n/a"
        found = scipy.stats.binomtest(self.correct, self.images).proportion_ci(0.95, method="exact")
        return f"{100 * found.low:.2f} to {100 * found.high:.2f}"


def model_card(run: Run, *, step: int) -> str:
    """Return the card of the network after an update of a run.

    Nothing that a user named is markup in it, and no path of theirs is told: of a folder of images its last name alone.
    Its last line is a seal, by which `is_sealed` knows a card that nobody edited.

    Args:
        run: with what run.json says once it is under way.
        step: of its newest checkpoint.
    """
    environment = Environment(
        loader=PackageLoader("lrlab.report"),
        autoescape=False,  # it knows HTML alone; here every name goes through `text` or `quoted`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": text, "quoted": quoted}
    config, info = run.config, run.info
    data_name, hub_data = _data(config["data"])
    toml = tomli_w.dumps({**config, "data": {k: v for k, v in config["data"].items() if k != "dir"}}).strip()
    card = environment.get_template("model_card.md.j2").render(
        name=f"{run.study} {run.arm} seed{run.seed}" if run.study else run.place.name,
        data_name=data_name,
        hub_data=hub_data,
        data_type=hub_data or config["data"]["name"],
        config={**config, "averaging": {"decay": None, **config["averaging"]}},
        step=step,
        epochs=step / (info["data"]["num_train"] // config["batch_size"]),
        data=info["data"],
        engine=info["engine"],
        processes=processes_in_turn(run) if max(run.num_ranks_in_turn) > 1 else "",
        is_of_several_numbers=len(run.num_ranks_in_turn) > 1,
        environment=info["environment"],
        packages={name: version for name, version in info["environment"]["packages"].items() if version},
        measured=_measured(run, step),
        augmentation=_augmentation(config["data"]),
        schedule_settings=_settings(config),
        base_lr=run.base_lr,
        resumed=_resumed(info.get("resumed", ()), lengthened=run.lengthened),
        lengthened=run.lengthened,
        command=_command(run),
        toml=toml,
        fence="`" * max(3, 1 + max(map(len, re.findall("`+", toml)), default=0)),
    )
    return card + _seal(card)


def is_sealed(card: str) -> bool:
    """Whether a card is as `model_card` wrote it."""
    body, _, _ = card.rpartition("<!--")
    return card == body + _seal(body)


def _seal(card: str) -> str:
    return f"<!-- lrlab export, sha256 of all above: {hashlib.sha256(card.encode()).hexdigest()} -->\n"


def text(value: object) -> str:
    """Return text as Markdown that shows it as it is: no markup, no link, no new cell, nothing invisible."""
    return _MARKUP.sub(r"\\\g<0>", _printable(str(value)))


def quoted(value: object) -> str:
    """Return text as a double-quoted scalar of YAML."""
    return json.dumps(_printable(str(value)), ensure_ascii=False)


def _printable(value: str) -> str:
    return "".join(letter if letter.isprintable() else _MISSING for letter in value)


def _data(config: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a data set is called, and where Hugging Face has it."""
    if config["name"] == "folder":
        return Path(config["dir"]).name, None
    return KNOWN[config["name"]]


def _measured(run: Run, step: int) -> dict[str, Any] | None:
    """What the evaluation after an update found; None if there was none."""
    found = [one for one in run.evaluations() if one["step"] == step and one["split"] == run.evaluated_split]
    if not found:
        return None
    confusion, names = found[-1]["confusion"], run.info["data"]["classes"]
    classes = [Counted(name, sum(row), row[k]) for k, (name, row) in enumerate(zip(names, confusion, strict=True))]
    whole = Counted("", sum(one.images for one in classes), sum(one.correct for one in classes))
    return {"split": run.evaluated_split, "whole": whole, "classes": classes, "loss": found[-1]["loss"]}


def _augmentation(config: Mapping[str, Any]) -> str:
    words = [
        *(["mirrored at random"] if config.get("flip") else []),
        *([f"shifted by up to {config['crop_padding']} pixels"] if config.get("crop_padding") else []),
        *([f"a square of {config['cutout']} pixels blanked"] if config.get("cutout") else []),
    ]
    return f"; {', '.join(words)}" if words else ", not augmented"


def _settings(config: Mapping[str, Any]) -> str:
    """The settings of the schedule but for a long table, and what lies around it."""
    settings = {name: value for name, value in config["schedule"].items() if name != "name"}
    words = [f"{name} = {value}" for name, value in settings.items() if not isinstance(value, list | dict)]
    phases = {
        name: value for name, value in config.get("phases", {}).items() if name.startswith(("warmup", "cooldown_"))
    }
    lengths = [f"{name} = {value}" for name, value in phases.items() if name != "cooldown_shape"]
    layers = ["rates per layer"] if config.get("layer_rates") else []
    found = [*words, *lengths, *layers]
    return f" ({', '.join(found)})" if found else ""


def _resumed(resumed: Sequence[Mapping[str, Any]], *, lengthened: str) -> str:
    """After which updates a run went on, and whether exactly as if it had not stopped."""
    reasons = sorted({reason for one in resumed for reason in one.get("inexact", ())})
    if lengthened:
        reasons.append(f"made longer than its rate was planned for ({lengthened})")
    after = ", ".join(f"{one['step']:,}" for one in resumed)
    exactly = f"not as if it had never stopped: {'; '.join(reasons)}" if reasons else "as if it had never stopped"
    return f"after update {after}, {exactly}" if resumed else ""


def _command(run: Run) -> str:
    """What makes a run again from its configuration, by as many processes as began it."""
    where = {"folder": " --data folder:DIR", "digits": ""}.get(run.config["data"]["name"], " --data-dir DIR")
    options = f"train --config config.toml{where}"
    first = launcher(run.num_ranks_in_turn[0])
    return f"{first}lrlab {options}{' --run NEW' if first else ''}"
