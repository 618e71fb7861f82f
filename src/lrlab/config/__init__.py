"""The configuration of a run: what can be set, how it is read, and what is wrong with it."""

from lrlab.config.parse import differences, merge, parse_config, read_setting, read_toml, to_table, to_toml
from lrlab.config.parts import ConfigError
from lrlab.config.rates import LayerRate, MeasuredRate, PhasesConfig, PlannedRate
from lrlab.config.rules import (
    ArticleSchedule,
    GreedySchedule,
    PlateauSchedule,
    SlopeSchedule,
    SnrSchedule,
    StationaritySchedule,
)
from lrlab.config.run import (
    AveragingConfig,
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TelemetryConfig,
)
from lrlab.config.schedules import (
    SCHEDULES,
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    RefinedSchedule,
    ScheduleConfig,
    StepSchedule,
    TorchSchedule,
    WsdSchedule,
)
from lrlab.config.study import StudyConfig, read_study

__all__ = [
    "SCHEDULES",
    "ArticleSchedule",
    "AveragingConfig",
    "ConfigError",
    "ConstantSchedule",
    "CosineSchedule",
    "DataConfig",
    "EngineConfig",
    "EvaluateConfig",
    "GreedySchedule",
    "LayerRate",
    "LinearSchedule",
    "MeasuredRate",
    "ModelConfig",
    "OneCycleSchedule",
    "OptimizerConfig",
    "PhasesConfig",
    "PlannedRate",
    "PlateauSchedule",
    "RefinedSchedule",
    "RunConfig",
    "ScheduleConfig",
    "SlopeSchedule",
    "SnrSchedule",
    "StationaritySchedule",
    "StepSchedule",
    "StudyConfig",
    "TelemetryConfig",
    "TorchSchedule",
    "WsdSchedule",
    "differences",
    "merge",
    "parse_config",
    "read_setting",
    "read_study",
    "read_toml",
    "to_table",
    "to_toml",
]
