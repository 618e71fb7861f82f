from pathlib import Path

import pytest

from lrlab.config import ConfigError, parse_config, read_study, to_toml

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
        ("seeds = [0, 1]", "seeds = [0, 1]\nsteps = 3", "Unknown key 'steps'.* Did you mean 'base.steps'"),
        ("steps = 10", 'data = "cifar10"', "base: data: must be a table of keys, as in data.name, got"),
        ("seeds = [0, 1]", "seeds = []", "seeds: must have at least 1, got 0."),
        ("seeds = [0, 1]", "seeds = [0, 0]", r"seeds: must not repeat a value, got \[0\]"),
        ("seeds = [0, 1]", "seds = [0, 1]", "(?s)seeds: must be given.*'seds'.*Did you mean 'seeds'?"),
        ("steps = 10", "seed = 10", "seed: list it in 'seeds'"),
        ("steps = 10", "stps = 10", "base: Unknown key 'stps'"),
        ("multiplier = 0.5", "multiplier = -1", "arm 'a': schedule.multiplier: must be greater than 0"),
        ("[arms]", "[arms", "not valid TOML"),
        ("b = {", "A = {", "arms 'a' and 'A' differ only in case, and some file systems would give them one folder"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_file_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, PLAN.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        read_study(path)
    assert str(path) in str(error.value)


TUNED = (
    PLAN.replace("b = {", "b = { optimizer.weight_decay = 0, ")
    + """
[tune]
rates = [1e-3, 1e-2]
seeds = [1000, 1001]
"""
)


def test_every_arm_is_tuned_at_every_rate_with_every_seed_on_images_set_aside(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, TUNED))
    configs = study.tuning_configs()
    assert len(configs) == 2 * 2 * 2
    assert {(config.optimizer.lr, config.seed) for (arm, _, _), config in configs.items() if arm == "a"} == {
        (1e-3, 1000), (1e-2, 1000), (1e-3, 1001), (1e-2, 1001)
    }  # fmt: skip
    assert {config.data.validation_fraction for config in configs.values()} == {0.1}
    tuned = study.configs({"a": 1e-2, "b": 1e-3})
    assert [(arm, config.optimizer.lr) for (arm, _), config in tuned.items()] == [("a", 1e-2), ("b", 1e-3)] * 2
    assert {config.data.validation_fraction for config in tuned.values()} == {None}
    assert tuned["b", 0].optimizer.weight_decay == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1000, 1001]", "seeds = [1, 1000]", r"must differ from the study's seeds, got \[1\] in both"),
        ("seeds = [1000, 1001]", "seeds = [7, 7]", r"tune.seeds: must not repeat a value, got \[7\]"),
        ("seeds = [1000, 1001]", "", "tune.seeds: must be given"),
        ("rates = [1e-3, 1e-2]", "rates = [1e-3]", "tune.rates: must have at least 2, got 1."),
        ("rates = [1e-3, 1e-2]", "rates = [1e-3, 0.001]", "tune.rates: must not repeat a value"),
        ("rates = [1e-3, 1e-2]", "rates = [1e-3, -1]", "tune.rates.1: must be greater than 0"),
        ("rates = [1e-3, 1e-2]", "rates = [1e-3, 1e-7]", "arm 'a' at optimizer.lr 1e-07: schedule.min_lr must"),
        ("rates = [", "rats = [", "Unknown key 'tune.rats'. Known: tune.rates, .* Did you mean 'tune.rates'?"),
        ("steps = 10", "steps = 10\noptimizer.lr = 1", r"base: optimizer.lr: \[tune\] chooses the rate"),
        ("weight_decay = 0", "lr = 1", r"arm 'b': optimizer.lr: \[tune\] chooses the rate"),
        ("cosine", "torch:CyclicLR",
         r"arm 'b': schedule.name: \[tune\] chooses optimizer.lr, and torch:CyclicLR has rates of its own"),
        ("steps = 10", "data.validation_fraction = 0.2", "base: data.validation_fraction: .*leave it out"),
        ("steps = 10", 'data = "cifar10"', "base: data: must be a table of keys, as in data.name, got"),
        ("steps = 10", 'optimizer = "sgd"', "base: optimizer: must be a table of keys, as in optimizer.name"),
        ("a = {", "tuning = {", "arm 'tuning': this name is reserved for the runs of"),
        ("a = {", "Tuning = {", "arm 'Tuning': this name is reserved for the runs of"),
    ],
)  # fmt: skip
def test_a_tuning_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TUNED
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read_study(write(tmp_path, TUNED.replace(old, new)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: there is no such file. TOML files in .*: none."):
        read_study(tmp_path / "none.toml")
    plan = write(tmp_path, PLAN)
    with pytest.raises(ConfigError, match=f"is a folder, not a file. TOML files in .*: {plan}."):
        read_study(tmp_path)


def test_the_configuration_of_a_run_is_told_from_a_study(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="study.toml: this is the configuration of one run, without arms. Use lrlab tr"
    ):
        read_study(write(tmp_path, to_toml(parse_config({}))))


def test_another_format_is_told_from_toml(tmp_path: Path) -> None:
    plan = tmp_path / "study.yaml"
    plan.write_text("name: plan\n")
    with pytest.raises(ConfigError, match=r"not valid TOML .* It looks like YAML; lrlab reads TOML"):
        read_study(plan)


def test_all_that_is_wrong_with_the_arms_is_said_at_once(tmp_path: Path) -> None:
    wrong = TUNED.replace("[arms]", "[arms]\nc = { batch_size = 0 }").replace(
        "steps = 10", 'steps = 10\nmodel.width = "8"'
    )
    wrong = wrong.replace("rates = [1e-3, 1e-2]", "rates = [1e-3, 1e-7]").replace(
        "a = {", "d = { schedule.min_lr = 1e-6, model.width = 4 }\na = {"
    )
    path = write(tmp_path, wrong)
    with pytest.raises(ConfigError) as error:
        read_study(path)
    lines = str(error.value).splitlines()
    assert lines == [
        f"{path}: arm 'c', arm 'a', arm 'b': model.width: must be a valid integer, got '8'.",
        f"{path}: arm 'c': batch_size: must be greater than or equal to 1, got 0.",
        f"{path}: arm 'd' at optimizer.lr 1e-07: schedule.min_lr must be at most optimizer.lr, got 1e-06 and 1e-07.",
    ]


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a" * 81, "a\\n"])
def test_an_arm_whose_name_may_not_become_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder: use up to 80 letters"):
        read_study(write(tmp_path, PLAN.replace("b = {", f'"{name}" = {{')))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_we_ship_are_sound(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    assert study.configs()
