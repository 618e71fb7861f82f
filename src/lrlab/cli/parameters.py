"""Options that several verbs share, and the groups in which help lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from lrlab.cli.parsing import at_most_one

WHAT = Group.create_ordered("What to train")
RATE = Group.create_ordered("Learning rate")
LENGTH = Group.create_ordered("How long (one of the two)", validator=at_most_one)
MACHINE = Group.create_ordered("Machine")
COMPARED = Group.create_ordered("What to compare")
RECORDS = Group.create_ordered("Records")

Settings = Annotated[
    list[str] | None,
    Parameter(name="--set", metavar="KEY=VALUE", group=RATE, help="Set any key of the configuration; repeatable."),
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
Rate = Annotated[float | None, Parameter(metavar="X", group=RATE, help="Base learning rate [0.001].")]
Json = Annotated[
    bool, Parameter(name="--json", group=RECORDS, help="Print one JSON document on stdout, all else on stderr.")
]
ConfigFile = Annotated[
    Path | None,
    Parameter(metavar="FILE.toml", group=RECORDS, help="Configuration; the options given here go before it."),
]
DataName = Annotated[str, Parameter(name="NAME", help="cifar10, cifar100, digits or folder:DIR.")]
DataDir = Annotated[
    Path | None,
    Parameter(metavar="DIR", group=WHAT, help="Folder with its archive or files [a cache, downloaded to once]."),
]
