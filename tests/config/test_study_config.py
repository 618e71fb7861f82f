from pathlib import Path

import pytest

from lrlab.config import ConfigError, read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))

PLAN = """
name = "plan"
seeds = [0, 1]
[base]
steps = 10
[arms]
a = { schedule.multiplier = 0.5 }
b = { schedule.name = "cosine" }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_arms_and_seeds_make_the_runs_seed_by_seed(tmp_path: Path) -> None:
    configs = read_study(write(tmp_path, PLAN)).configs()
    assert list(configs) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert all(config.seed == seed and config.steps == 10 for (_, seed), config in configs.items())
    assert [config.schedule.name for config in configs.values()] == ["article", "cosine"] * 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "plan"', 'name = "../plan"', "'../plan' cannot name a folder"),
        ("seeds = [0, 1]", "seeds = []", "seeds: .*at least 1"),
        ("seeds = [0, 1]", "seeds = [0, 0]", r"seeds: each must stand once, got \[0\]"),
        ("seeds = [0, 1]", "seds = [0, 1]", "(?s)seeds: must be given.*'seds'.*Did you mean 'seeds'?"),
        ("steps = 10", "seed = 10", "seed: write it into 'seeds'"),
        ("steps = 10", "stps = 10", "arm 'a': Unknown key 'stps'"),
        ("multiplier = 0.5", "multiplier = -1", "arm 'a': schedule.multiplier: must be greater than 0"),
        ("[arms]", "[arms", "not valid TOML"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_file_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, PLAN.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read \(No such file or directory\)"):
        read_study(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a" * 81, "a\\n"])
def test_an_arm_whose_name_may_not_become_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder: use up to 80 letters"):
        read_study(write(tmp_path, PLAN.replace("b = {", f'"{name}" = {{')))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_we_ship_are_sound(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    assert study.configs()
