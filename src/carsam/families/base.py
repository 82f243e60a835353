"""What a family of models tells the rest: where its parts are and how to run them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from torch import Tensor

from carsam.images.preprocess import Framing


class SiteType(StrEnum):
    """What stands at a site."""

    LINEAR = "linear"
    CONV = "conv"
    CONV_TRANSPOSE = "conv_transpose"
    ATTENTION = "attention"


@dataclass(frozen=True)
class AttentionLayers:
    """The layers around the two products of an attention, by module path.

    Args:
        projections: the layers that make query, key and value; the same path three times where
            one layer makes all of them.
        output: the layer that reads what was attended.
        positions: the parameters with relative positions, which the queries are multiplied with.
        scales_in: None if any invertible matrix can move between queries and keys; otherwise only
            positive factors can, one for so many neighbouring channels of both.
        rotated: queries and keys are rotated by their places before they are multiplied, so that
            the same key is another vector at every place, and no constant can move out of keys.
    """

    projections: tuple[str, str, str]
    output: str
    positions: tuple[str, ...] = ()
    scales_in: int | None = None
    rotated: bool = False

    @property
    def fused(self) -> bool:
        """Whether one layer makes query, key and value."""
        return len(set(self.projections)) == 1


class Constant(StrEnum):
    """What the inputs of a site have in common in all images."""

    TOKENS = "tokens"
    """A mean for each of the decoder's own tokens, which play the same part in every image."""
    PLACES = "places"
    """The positions that the image's tokens have added to them."""
    CHANNELS = "channels"
    """A mean for each channel of a map."""


@dataclass(frozen=True)
class Site:
    """A place that can be quantized.

    Args:
        path: module path in the model.
        kind: group that rules speak of, such as `encoder.mlp`.
        type: an attention site is the two products inside the module at `path`.
        attention: the layers around them; given for an attention, and only there.
        constant: in its input, and worth taking out.
        own_tokens: of a layer that reads the decoder's tokens; those of prompts follow them.
    """

    path: str
    kind: str
    type: SiteType
    attention: AttentionLayers | None = None
    constant: Constant | None = None
    own_tokens: int = 0


State = dict[str, Tensor]
"""Activations of one image between two stages, by name."""


class Role(StrEnum):
    """What a stage does in its block; units are made of consecutive roles."""

    ENCODER_ATTENTION = "encoder attention"
    ENCODER_MLP = "encoder mlp"
    SELF_ATTENTION = "decoder self-attention"
    TOKEN_TO_IMAGE = "decoder token-to-image attention"
    DECODER_MLP = "decoder mlp"
    IMAGE_TO_TOKEN = "decoder image-to-token attention"
    MEMORY_SELF = "memory self-attention"
    MEMORY_CROSS = "attention to the memory"
    MEMORY_MLP = "memory mlp"
    OTHER = "other"


class Sample(StrEnum):
    """What calibrates: a picture with prompts, or a frame that follows others."""

    STILL = "still"
    CLIP = "clip"


ENCODER_ROLES = (Role.ENCODER_ATTENTION, Role.ENCODER_MLP)


@dataclass(frozen=True)
class NormBefore:
    """A layer normalisation that only layers read, so that scales can move between it and them.

    Args:
        norm: module path of the normalisation.
        layers: paths of all sites that read it.
        shifts: offsets can move too, as no zeros are padded between the two.
    """

    norm: str
    layers: tuple[str, ...]
    shifts: bool


@dataclass(frozen=True)
class SharedOffset:
    """A constant in what several layers read, which their biases can hold instead.

    The values go to `readers` (some with positions added) and, plus the output of `adder`, to the
    next normalisation, and nowhere else.

    Args:
        offsets: names of the original model's parameters, one of which is a part of the values.
        readers: paths of the sites that read them; the first one's input is the one to centre.
        adder: path of the site whose output is added to them.
    """

    offsets: tuple[str, ...]
    readers: tuple[str, ...]
    adder: str


@dataclass(frozen=True)
class Stage:
    """The smallest part of the model that runs by itself, residual and norm included.

    Args:
        path: sites at or below this module path belong to the stage, unless another stage's
            path fits them more closely.
        run: takes the model and the state before the stage, returns the state after it.
        outputs: names of the state's entries that the stage computes.
        block: module path of the block that the stage is a part of.
        role: what it does there.
        norm: in front of the stage's first layer, if scales can move between the two.
        shared: of the stage's output, if a constant can move out of it.
        per_box: names of the state's entries, among those the stage makes, that have a row for
            every box.
        also: module paths of other parts that belong to the stage.
        resizes: what it makes of an entry has other sizes than the entry had.
        samples: what it is calibrated on. What else there is runs through it, or passes it by.
    """

    path: str
    run: Callable[[Any, State], State]
    outputs: tuple[str, ...]
    block: str = ""
    role: Role = Role.OTHER
    norm: NormBefore | None = None
    shared: SharedOffset | None = None
    per_box: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    resizes: bool = False
    samples: tuple[Sample, ...] = (Sample.STILL, Sample.CLIP)

    @property
    def places(self) -> tuple[str, ...]:
        """Module paths of the block that the stage is a part of, and of what else belongs to it."""
        return self.block or self.path, *self.also


class Family(Protocol):
    """One family of models.

    `architecture` is transformers' class of its models. `exact_kinds` are the kinds of layers that
    are float in the papers and whose results quantized layers read: the simulation computes them
    so that their last bit does not depend on the order of a sum. `mask_token` is the place of the
    single mask's token among the decoder's.
    """

    name: str
    architecture: str
    exact_kinds: tuple[str, ...]
    mask_token: int

    def framing(self, config: Any) -> Framing:
        """Return how the input of a model of this configuration is filled."""
        ...

    def sides(self, config: Any) -> range:
        """Return the sides of inputs, in pixels, that such a model can be resized for."""
        ...

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size, one of `sides`."""
        ...

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order of execution."""
        ...

    def attention_configs(self, model: Any) -> tuple[Any, ...]:
        """Return the parts of the model's config that choose how attentions multiply."""
        ...

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the model cut into stages, in the order of execution."""
        ...

    def start(self, pixels: Tensor, prompts: Tensor | None = None, **others: Tensor) -> State:
        """Return the state before the first stage; only the prompts' entries grow with them.

        Args:
            pixels: (1, 3, S, S).
            prompts: (1, P, 4) in the S x S frame, boxes and clicks (`carsam.images.clicks`).
            others: in their place `points` (1, P, N, 2) with `labels` (1, P, N), and what else a
                family's first stages read.
        """
        ...

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding of pixels (1, 3, S, S): (1, C, h, w) first."""
        ...

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M).

        `prompts` are transformers' `input_points`, `input_labels`, `input_boxes` and
        `input_masks`.
        """
        ...


def sites_of_stages(
    stages: tuple[Stage, ...], sites: tuple[Site, ...]
) -> list[tuple[Stage, tuple[Site, ...]]]:
    """Return each stage with the sites that belong to it."""
    owners = {path: stage.path for stage in stages for path in (stage.path, *stage.also)}
    members: dict[str, list[Site]] = {stage.path: [] for stage in stages}
    for site in sites:
        holders = [path for path in owners if f"{site.path}.".startswith(f"{path}.")]
        members[owners[max(holders, key=len)]].append(site)
    return [(stage, tuple(members[stage.path])) for stage in stages]


def split_before_boxes(stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return the stages whose outputs do not depend on boxes, and those from the first that do."""
    places = [place for place, stage in enumerate(stages) if stage.per_box]
    begin = places[0] if places else len(stages)
    return stages[:begin], stages[begin:]


def split_after_encoder(stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return the stages up to the last of the encoder's blocks, and those after it."""
    places = [place for place, stage in enumerate(stages) if stage.role in ENCODER_ROLES]
    begin = places[-1] + 1 if places else 0
    return stages[:begin], stages[begin:]
