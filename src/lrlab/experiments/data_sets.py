"""The data sets by name: which there are, where they come from, and whether one is sound."""

from __future__ import annotations

from lrlab.config import ConfigError, DataConfig
from lrlab.config.parts import unknown
from lrlab.data import cache_directory, check_cifar, fetch_cifar, summary
from lrlab.experiments.build import ARCHIVES, build_data


def list_data_sets() -> list[str]:
    """Return a line for each data set."""
    archives = [
        f"{name:<12}{archive.num_bytes / 1e6:,.0f} MB from {archive.url}, kept in {cache_directory()}"
        for name, archive in ARCHIVES.items()
    ]
    return [
        "digits      1,797 grey images of 8x8 in 10 classes, part of scikit-learn: nothing to download",
        *archives,
        "folder:DIR  DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/* with --set data.test_fraction=0.2",
    ]


def fetch_data_set(name: str) -> str:
    """Download a data set into the cache if it is not there, and return the path of its archive.

    Raises: ConfigError for a name that is nothing to download; DataError if it cannot be had.
    """
    if name not in ARCHIVES:
        if name == "digits":
            raise ConfigError("digits come with scikit-learn: there is nothing to download.")
        raise ConfigError(unknown("data set to download", name, ARCHIVES))
    return str(fetch_cifar(ARCHIVES[name], cache_directory()))


def check_data_set(config: DataConfig) -> str:
    """Read a data set whole and say what it holds; nothing is downloaded for it.

    Raises: DataError with all that is wrong with it, or where it is not there.
    """
    how = f"\n{check_cifar(ARCHIVES[config.name], config.dir)}" if config.name in ARCHIVES else ""
    return summary(build_data(config)) + how
