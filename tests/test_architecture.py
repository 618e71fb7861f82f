"""Who may import whom. Data flows one way; nothing that is not listed is allowed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "lrlab"

MAY_IMPORT = {
    "config": set(),
    "gradients": set(),
    "moments": {"gradients"},
    "schedules": set(),
    "data": set(),
    "models": set(),
    "schedulers": {"gradients", "moments", "schedules"},
    "probes": {"gradients", "moments"},
    "training": {"gradients", "schedulers", "probes", "data"},
    "runs": {"config"},
    "compare": {"config", "runs"},
    "report": {"runs", "compare"},
    "integrations": {"schedulers", "probes", "runs"},
    "experiments": {
        "config",
        "gradients",
        "schedules",
        "data",
        "models",
        "schedulers",
        "probes",
        "training",
        "runs",
        "report",
    },
    "studies": {"config", "data", "experiments", "training", "runs"},
    "cli": {"config", "experiments", "studies", "runs", "compare", "report", "integrations"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""docs/decisions/0001 says where this differs from the first design."""

NO_TORCH = ("config", "runs", "compare", "report", "studies", "cli")
OPTIONAL = {
    "lightning", "pytorch_lightning", "transformers", "accelerate", "ray", "onnx", "onnxruntime", "onnxscript",
    "trackio", "mlflow", "wandb",
}  # fmt: skip
TORCH_ONLY = ("schedulers", "probes", "gradients", "moments", "schedules")


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("lrlab.")} - {"__version__"}
    assert ours - {room(path)} <= MAY_IMPORT[room(path)]


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in NO_TORCH], ids=str)
def test_rooms_that_read_runs_name_no_torch(path: Path) -> None:
    assert not any(name.split(".")[0] == "torch" for name in imported(path))


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in TORCH_ONLY], ids=str)
def test_schedulers_and_probes_need_torch_alone(path: Path) -> None:
    outside = {name.split(".")[0] for name in imported(path)} - {"lrlab", "torch"} - sys.stdlib_module_names
    assert not outside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_an_optional_library_is_imported_by_the_module_named_after_it_alone(path: Path) -> None:
    theirs = {name.split(".")[0] for name in imported(path)} & OPTIONAL
    named_after = {"onnx", "onnxruntime", "onnxscript"} if path.stem == "onnx" else {path.stem}
    assert theirs <= (named_after if room(path) in ("integrations", "studies", "experiments") else set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_a_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 260, "one subject a file, about 250 lines at the most"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement in a fresh interpreter."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_lrlab_loads_neither_torch_nor_pyarrow() -> None:
    assert not {"torch", "pyarrow", "pydantic"} & loaded_by("import lrlab")


@pytest.mark.parametrize("package", ["runs", "compare", "report", "studies", "studies.messages", "cli.follow"])
def test_reading_runs_and_having_others_make_them_loads_no_torch(package: str) -> None:
    assert "torch" not in loaded_by(f"import lrlab.{package}")


def test_schedulers_and_probes_load_torch_and_nothing_heavy() -> None:
    heavy = {"pydantic", "pyarrow", "sklearn", "scipy", "matplotlib", "rich", "cyclopts"}
    assert not heavy & (loaded_by("import lrlab.schedulers, lrlab.probes") - loaded_by("import torch"))


def test_importing_the_integrations_loads_no_library() -> None:
    assert not {"torch", *OPTIONAL} & loaded_by("import lrlab.integrations")


def test_importing_the_experiments_loads_no_library_of_onnx() -> None:
    assert not {"onnx", "onnxruntime", "onnxscript"} & loaded_by("import lrlab.experiments")


def test_help_loads_neither_torch_nor_pydantic() -> None:
    statement = "from lrlab.cli import main; main(['train', '--help'])"
    assert not {"torch", "pydantic", "pyarrow", "matplotlib"} & loaded_by(statement)
