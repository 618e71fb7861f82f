"""What others may rely on by name. A change here is a change for them: it belongs in the changelog."""

import inspect
from importlib import import_module

import pytest

PUBLIC = {
    "lrlab": {
        "ArticleLR", "Experiment", "GradientProbe", "GreedyLR", "LayerwiseLR", "OutputGradientProbe", "PhasesLR",
        "PlateauLR", "RefinedLR", "Run", "RunConfig", "SlopeLR", "SnrLR", "StationarityLR", "__version__",
        "compare_runs", "find_runs", "layer_groups", "load_trained", "parse_config", "range_test", "read_run",
        "write_report",
    },
    "lrlab.models": {"LayerGroups", "ResNet", "layer_groups", "resnet18", "resnet34"},
    "lrlab.probes": {
        "AdamSnrProbe",
        "DeadReluProbe",
        "GradientCosineProbe",
        "GradientProbe",
        "NoiseScaleProbe",
        "OutputGradientProbe",
        "Probe",
        "UpdateRatioProbe",
        "WeightNormProbe",
    },
    "lrlab.schedulers": {
        "ArticleLR", "Decision", "GreedyLR", "LayerwiseLR", "PhasesLR", "PlateauLR", "RefinedLR", "RuleLR",
        "SignalScheduler", "SlopeLR", "SnrLR", "StationarityLR", "WeakGradients", "refined_multipliers",
    },
    "lrlab.training": {
        "ALONE", "Calibration", "Curvature", "CurvatureError", "DivergedError", "ElsewhereError", "Engine",
        "EngineError", "Evaluation", "LossSurface", "Network", "OutOfMemoryError", "RangeTest", "RankError", "Ranks",
        "RateRange", "Recorder", "Rows", "Score", "Sweep", "SweepRecorder", "Update", "calibrate", "choose_engine",
        "divergence", "estimate_statistics", "evaluate", "features", "joined", "measure_curvature", "memory_errors",
        "predict", "range_test", "restored", "synchronise", "train",
    },
    "lrlab.runs": {
        "Checkpoint", "DamagedError", "LockedError", "Onlooker", "Run", "RunError", "RunWriter", "Status",
        "StorageError", "check_resumable", "check_vacant", "find_runs", "list_runs", "lock_run", "read_info",
        "read_run", "sound_checkpoints",
    },
    "lrlab.compare": {
        "Arm", "ArmTime", "CompareError", "Comparison", "Difference", "LeftOut", "Measure", "Median", "PairRace",
        "Profile", "Race", "compare_runs", "count_verdicts", "notes", "race_sentence", "sentence", "to_document",
        "write_csv",
    },
    "lrlab.studies": {
        "Choice", "ClusterError", "Died", "Ended", "Member", "Progress", "Resources", "StudyEvent", "Waiting",
        "run_study", "study_members", "tuning_members",
    },
    "lrlab.report": {"confusion_png", "write_figures", "write_range_test", "write_replay", "write_report"},
}  # fmt: skip


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_these(package: str) -> None:
    assert set(import_module(package).__all__) == PUBLIC[package]


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_function_and_class_is_documented(package: str) -> None:
    module = import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    bare = [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and not (value.__doc__ or "").strip()
    ]
    assert bare == []


def test_a_name_that_is_not_there_is_said_to_be_none() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'. It has: __version__, ArticleLR"):
        import_module("lrlab").Trainer  # noqa: B018
