"""The configuration of one run: typed, checked before any work, and complete enough to repeat the run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lrlab.config.parts import Count, Fraction, NotNegative, Part, Positive, Seed, WholePath
from lrlab.config.rates import LayerRate, Pattern, PhasesConfig, PlannedRate
from lrlab.config.rules import ArticleSchedule
from lrlab.config.schedules import OVER_THE_RUN, OneCycleSchedule, ScheduleConfig, TorchSchedule, WsdSchedule

DEFAULT_EPOCHS = 5


class DataConfig(Part):
    """Which images."""

    name: Literal["cifar10", "cifar100", "digits", "folder"] = "digits"
    """Data set: CIFAR-10, CIFAR-100, scikit-learn's 8x8 digits, or a folder of images."""
    dir: WholePath | None = None
    """Folder that holds the images or the archive; without it CIFAR is downloaded once, into a cache."""
    test_fraction: Fraction | None = None
    """Share of the examples held out for testing, where the data set has no test split of its own."""
    validation_fraction: Fraction | None = None
    """Share of the training images set aside; evaluations are then of these, and the test images are left alone."""
    flip: bool = False
    """Mirror each training image left to right with probability one half."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Shift each training image by up to this many pixels each way, its border reflected."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Blank a square of this side, in pixels, at a random place of each training image."""

    @property
    def evaluated_split(self) -> Literal["test", "validation"]:
        """What evaluations are of."""
        return "test" if self.validation_fraction is None else "validation"

    @model_validator(mode="after")
    def _fits_the_data_set(self) -> Self:
        if self.name == "folder" and self.dir is None:
            raise ValueError("A folder data set needs its directory: --data folder:DIR.")
        if self.name.startswith("cifar") and self.test_fraction is not None:
            raise ValueError(f"data.test_fraction: {self.name} has its own test split; leave the key out.")
        if self.name == "digits" and self.dir is not None:
            raise ValueError("data.dir: digits come with scikit-learn; leave the key out.")
        return self


class ModelConfig(Part):
    """Which network."""

    name: Literal["resnet18", "resnet34"] = "resnet18"
    """Residual network with the stem for small images: one 3x3 convolution, no pooling."""
    width: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Planes of the first stage; the later ones have 2, 4 and 8 times as many."""
    batchnorm: Literal["per_rank", "synchronised"] = "per_rank"
    """Of which images batch normalisation takes mean and variance, where several ranks share a batch: of its rank's
    part, as PyTorch does by default, or of the whole batch, as one process does."""


class OptimizerConfig(Part):
    """Which optimizer."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer, PyTorch's own."""
    lr: Positive = 1e-3
    """Base learning rate, which a schedule multiplies or decays."""
    weight_decay: NotNegative = 1e-5
    """Weight decay; for adam and sgd an L2 penalty added to the gradient."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum, for sgd alone (0.9 where it is left out)."""
    nesterov: bool = False
    """Nesterov's form of the momentum, for sgd alone."""

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> Self:
        if self.name != "sgd" and self.momentum is not None:
            raise ValueError(f"optimizer.momentum: only sgd has it, got {self.name}; leave the key out.")
        if self.name != "sgd" and self.nesterov:
            raise ValueError(f"optimizer.nesterov: only sgd has it, got {self.name}; leave the key out.")
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optimizer.nesterov needs a momentum above 0, got optimizer.momentum = 0. "
                "Raise it, or leave nesterov out."
            )
        return self


class AveragingConfig(Part):
    """Whether the weights are averaged over the updates; evaluations and the checkpoint are then of the average.

    Training goes on with the weights themselves, so it is the same with an average and without. The average begins as
    a copy of the weights when it is first taken, so early in a run it lags behind by about every / (1 - decay)
    updates; before that, the weights themselves are evaluated. Its statistics of batch normalisation are estimated
    from training images at each evaluation.
    """

    decay: Fraction | None = None
    """Exponential moving average of the weights: average <- decay * average + (1 - decay) * weights."""
    every: Count = 1
    """Updates between two averagings."""

    @model_validator(mode="after")
    def _has_an_average(self) -> Self:
        if self.decay is None and self.every != 1:
            raise ValueError(
                f"averaging.every = {self.every} has no effect without averaging.decay. "
                "Set the decay too, as in averaging.decay = 0.99, or leave the key out."
            )
        return self


class EvaluateConfig(Part):
    """When the whole test set is evaluated, or the validation images where some are set aside."""

    every: Count = 1000
    """Updates between two evaluations; one more comes at the end."""
    batch_size: Count = 500
    """Images evaluated at once; it changes speed and memory, not the result beyond rounding."""
    mirror: bool = False
    """Also evaluate with the logits averaged over each image and its mirror image."""


class TelemetryConfig(Part):
    """What is recorded on the way; the loss and the rates are recorded at every update."""

    every: Count = 1
    """Updates between two measurements of the parameters' gradients."""
    outputs_every: Count = 25
    """Updates between two measurements of the gradients through the groups' outputs, as in the article."""
    layers_every: Count | None = None
    """Updates between two measurements of each layer group's weights, how far the update moves them, the cosine of
    successive gradients, dead ReLUs and, with Adam, its signal-to-noise ratio; left out, they are not measured."""
    noise_every: Count | None = None
    """Updates between two measurements of the gradient's noise scale, each of which costs about one more update; left
    out, it is not measured."""
    flush_every: Count = 1000
    """Updates between two writes of recorded rows to disk."""


class CheckpointConfig(Part):
    """When all that a run needs to go on is written; always at its end, and when it is stopped."""

    every: Count | None = None
    """Updates between two checkpoints; where it is left out the clock alone counts."""
    minutes: Positive = 5.0
    """Minutes between two checkpoints at the most."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Newest checkpoints that are kept."""


class EngineConfig(Part):
    """How a step is computed."""

    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass: fp32; bf16 autocast; auto takes bf16 where the processor has it."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Processor threads for one operation; PyTorch's own choice where it is left out."""
    compile: Literal["auto", True, False] = "auto"
    """torch.compile for the network and the telemetry (true), for a large network's telemetry (auto), or nothing.

    With true, updates whose outputs are watched are computed without the compiled network, which rounds otherwise: the
    last digits then depend on telemetry.outputs_every and layers_every.
    """
    keep_memory: bool = True
    """Keep the memory that a step frees for the next one; on systems with glibc."""
    flush_denormals: bool = False
    """Let numbers below 1.2e-38 become zero, which is faster on some processors."""


class RunConfig(Part):
    """Everything that decides how a run goes."""

    data: DataConfig = DataConfig()
    """Which images."""
    model: ModelConfig = ModelConfig()
    """Which network."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Which optimizer."""
    schedule: ScheduleConfig = ArticleSchedule()
    """How the learning rate moves."""
    phases: PhasesConfig = PhasesConfig()
    """A warm-up before the schedule, and a cooldown after it."""
    layer_rates: dict[Pattern, LayerRate] = Field(default_factory=dict)
    """Multipliers of the rates of layer groups, by name or regular expression: a number, planned, or measured."""
    averaging: AveragingConfig = AveragingConfig()
    """Whether the weights are averaged over the updates."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """When the test set is evaluated."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """What is recorded."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When the run is saved."""
    engine: EngineConfig = EngineConfig()
    """How a step is computed."""
    epochs: Count | None = None
    """Passes over the training set (5 where neither this nor steps is given)."""
    steps: Count | None = None
    """Optimizer updates, instead of epochs."""
    batch_size: Count = 128
    """Images in one update; the incomplete batch at the end of an epoch is left out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label's weight that the training loss spreads over all classes; the test loss is without it."""
    stop_below_lr: Positive | None = None
    """End the run early once every rate has fallen below this, be it in a cooldown (dlib's ending)."""
    seed: Seed = 0
    """Seed of the initial weights, the order of the examples and their augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""

    @property
    def rate_spans_run(self) -> bool:
        """Whether the rate depends on how long the run is to be, so that a longer one is another from its start on."""
        phases = self.phases
        return (
            self.schedule.name in OVER_THE_RUN
            or bool(phases.warmup_fraction or phases.cooldown_fraction or phases.cooldown_steps)
            or any(isinstance(rate, PlannedRate) for rate in self.layer_rates.values())
        )

    @model_validator(mode="before")
    @classmethod
    def _one_horizon(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        epochs, steps = values.get("epochs"), values.get("steps")
        if epochs is not None and steps is not None:
            raise ValueError(f"Give epochs or steps, not both: got epochs = {epochs} and steps = {steps}.")
        return values if steps is not None or epochs is not None else {**values, "epochs": DEFAULT_EPOCHS}

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.phases == PhasesConfig():
            return self
        if isinstance(self.schedule, WsdSchedule | OneCycleSchedule | TorchSchedule):
            instead = ", or use schedule.name = 'constant'" if isinstance(self.schedule, WsdSchedule) else ""
            raise ValueError(f"phases: cannot be combined with schedule {self.schedule.name}; leave them out{instead}.")
        if self.steps is not None and sum(self.phases.lengths(self.steps)) > self.steps:
            warmup, cooldown = self.phases.lengths(self.steps)
            raise ValueError(
                f"phases: warm-up and cooldown must fit into {self.steps} steps, got {warmup} + {cooldown}."
            )
        return self

    @model_validator(mode="after")
    def _rates_fit(self) -> Self:
        # torch's own schedulers may have a min_lr too, with a meaning and a type of its own
        floor = None if isinstance(self.schedule, TorchSchedule) else getattr(self.schedule, "min_lr", None)
        if floor is not None and floor > self.optimizer.lr:
            raise ValueError(f"schedule.min_lr must be at most optimizer.lr, got {floor:g} and {self.optimizer.lr:g}.")
        phases = self.phases  # a cooldown ends below the floor, and rates of layers are multiplied after it
        goes_below = bool(self.layer_rates) or (phases.end < 1 and (phases.cooldown_steps or phases.cooldown_fraction))
        if self.stop_below_lr is not None and floor is not None and self.stop_below_lr <= floor and not goes_below:
            raise ValueError(
                f"stop_below_lr must be above schedule.min_lr, got {self.stop_below_lr:g} and {floor:g}: "
                "the rate would never fall below it."
            )
        return self
