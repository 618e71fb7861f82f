"""Options that several verbs share, and the groups in which help lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from lrlab.cli.parsing import at_most_one

WHAT = Group.create_ordered("What to train")
SWEEP = Group.create_ordered("Sweep")
RATE = Group.create_ordered("Learning rate")
LENGTH = Group.create_ordered("How long (one of the two)", validator=at_most_one)
MACHINE = Group.create_ordered("Machine")
CLUSTER = Group.create_ordered("On a cluster")
COMPARED = Group.create_ordered("What to compare")
RECORDS = Group.create_ordered("Files and output")

Settings = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        metavar="KEY=VALUE",
        group=RATE,
        help="Set any configuration key; overrides all other options; repeatable.",
    ),
]
ScheduleName = Annotated[
    str | None,
    Parameter(
        metavar="NAME",
        group=RATE,
        help="article, slope, snr, stationarity, greedy, plateau; constant, step, cosine, linear, wsd, one_cycle, "
        "refined; torch:<Class> [article].",
    ),
]
RuleName = Annotated[
    str | None,
    Parameter(name="--schedule", metavar="NAME", group=RATE, help="article, slope, greedy or plateau [article]."),
]
PlannedName = Annotated[
    str | None,
    Parameter(
        name="--schedule",
        metavar="NAME",
        group=RATE,
        help="constant, step, cosine, linear, wsd, one_cycle, refined; torch:<Class>.",
    ),
]
Rate = Annotated[float | None, Parameter(metavar="X", group=RATE, help="Base learning rate [0.001].")]
Json = Annotated[
    bool, Parameter(name="--json", group=RECORDS, help="Print one JSON document on stdout, all else on stderr.")
]
ConfigFile = Annotated[
    Path | None,
    Parameter(metavar="FILE.toml", group=RECORDS, help="Configuration file; the options given here override it."),
]
Data = Annotated[
    str | None, Parameter(metavar="NAME", group=WHAT, help="cifar10, cifar100, digits or folder:DIR [digits].")
]
DataName = Annotated[str, Parameter(name="NAME", help="cifar10, cifar100, digits or folder:DIR.")]
DataDir = Annotated[
    Path | None,
    Parameter(metavar="DIR", group=WHAT, help="Folder with the archive or its files [a cache; downloaded once]."),
]
Model = Annotated[
    Literal["resnet18", "resnet34"] | None,
    Parameter(metavar="resnet18|resnet34", group=WHAT, help="Network [resnet18]."),
]
Width = Annotated[int | None, Parameter(metavar="N", group=WHAT, help="Channels of its first stage [64].")]
BatchSize = Annotated[int | None, Parameter(metavar="N", group=WHAT, help="Images in one update [128].")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    Parameter(metavar="auto|cpu|cuda", group=MACHINE, help="Where to compute [auto]."),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"] | None,
    Parameter(metavar="auto|fp32|bf16", group=MACHINE, help="Arithmetic of the forward pass [fp32]."),
]
