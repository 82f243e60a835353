"""What a step of a method is given: one unit of the model, its sites, what flows through it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from carsam.families.base import Site, SiteType, Stage, State
from carsam.formats.journal import Entry
from carsam.grids.observers import Statistics
from carsam.methods.cost import Costed
from carsam.methods.order import Ordered
from carsam.methods.recipe import Bits
from carsam.methods.steps.training.teacher import Teacher
from carsam.methods.units import UnitPlan
from carsam.progress import Progress, Silent
from carsam.simulation import slots


@dataclass(frozen=True)
class Unit:
    """One unit under quantization; its weights are still the float model's at the first step.

    Args:
        model: the prepared model; the units before this one are quantized already.
        plan: stages and sites; `plan.run(model, state)` runs the unit.
        inputs: float activations before the unit, one state per image.
        quantized_inputs: the same along the quantized path.
        targets: float activations after the unit.
        statistics: of the float activations, by site path and operand.
        seed: for everything random in this unit.
        progress: hears of steps and warnings.
        notes: what steps found worth recording, for the manifest.
        following: the stages after the unit, which are still float.
        keep: makes a list of states that need not all stay in memory.
        later: the recipe's steps that are still to run on the unit.
    """

    model: Any
    plan: UnitPlan
    inputs: Sequence[State]
    quantized_inputs: Sequence[State]
    targets: Sequence[State]
    statistics: dict[tuple[str, str], Statistics]
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    notes: list[dict[str, Any]] = field(default_factory=list)
    following: tuple[Stage, ...] = ()
    keep: Callable[[Iterable[State]], Sequence[State]] = tuple
    later: tuple["UnitStep", ...] = ()

    @property
    def sites(self) -> tuple[tuple[Site, Bits], ...]:
        """The sites to quantize, with their bits."""
        return self.plan.sites


@dataclass(frozen=True)
class WholeModel:
    """The whole model, before its first unit or after its last, for steps that run once.

    Before the first unit it begins after the encoder's blocks.

    Args:
        model: the prepared model, float or with all of its units quantized.
        stages: of the model, in the order of execution, up to the masks.
        sites: what is quantized in them, with its bits.
        states: before the first of the stages, one per image; of the images' other views as well,
            if the step needs them.
        teacher: the float model, if the step needs it; None where no stage computes masks.
        seed: for everything random.
        progress: hears of steps and warnings.
        notes: what steps found worth recording, for the manifest.
        keep: makes a list of states that need not all stay in memory.
        entry: keeps what the step needs to go on after it was stopped; None keeps nothing.
    """

    model: Any
    stages: tuple[Stage, ...]
    sites: tuple[tuple[Site, Bits], ...]
    states: Sequence[State]
    teacher: Teacher | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    notes: list[dict[str, Any]] = field(default_factory=list)
    keep: Callable[[Iterable[State]], Sequence[State]] = tuple
    entry: Entry | None = None


class UnitStep(Costed, Ordered, ABC):
    """A step that runs on one unit after the other, with its parameters as fields."""

    operands: ClassVar[tuple[str, ...]] = ()
    """What the step is for, `weight` among them: where all of it stays in float it has nothing to
    do. None is everything."""

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Tell whether the histogram of an operand in `Unit.statistics` is read."""
        return False

    @property
    def needs_quantized_path(self) -> bool:
        """Whether `Unit.quantized_inputs` is read; it costs a pass through the quantized unit."""
        return False

    def acts_on(self, site: Site, bits: Bits) -> bool:
        """Whether the step can have something to do at a site of these bits."""
        quantized = {*slots.operands(site)} if bits.activations is not None else set()
        if bits.weights is not None and site.type is not SiteType.ATTENTION:
            quantized.add("weight")
        return not self.operands or not quantized.isdisjoint(self.operands)

    @abstractmethod
    def run_(self, unit: Unit) -> None:
        """Change the unit's weights or quantizers."""


class WholeModelStep(Costed, Ordered, ABC):
    """A step that runs once, on the whole model, with its parameters as fields."""

    @property
    def needs_views(self) -> bool:
        """Whether `WholeModel.states` must hold other views of the images as well."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether `WholeModel.teacher` is read; it costs a pass through the float encoder."""
        return False

    @property
    def changes_encoder(self) -> bool:
        """Whether blocks of the encoder are changed; a step of the opening never does."""
        return True

    def kept_after(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return the stages, from the first on, after which the step keeps every image's state."""
        return ()

    @abstractmethod
    def run_(self, whole: WholeModel) -> None:
        """Before the first unit change the float model and not its outputs; after the last, the
        quantized model's scales, codes, norms and biases.
        """
