"""Finding the SAM among the tensors of a file: under which prefix its names stand."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor

from carsam.errors import UserError, few
from carsam.families.weight_files import ADVICE, Contents
from carsam.formats.model_paths import ADAPTER_ADVICE

PARTS = {
    "image_encoder": "encoder",
    "vision_encoder": "encoder",
    "prompt_encoder": "prompts",
    "mask_decoder": "decoder",
    "sam_prompt_encoder": "prompts",
    "sam_mask_decoder": "decoder",
    "shared_image_embedding": "prompts",
}
"""First word of the names in a SAM or SAM 2, of Meta or transformers -> what it names."""

SAM_NAME = re.compile(rf"(?P<prefix>(?:[^.]+\.)*?)(?P<part>{'|'.join(PARTS)})\..+")

WRAPPED = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What DataParallel, torch.compile and others write into names, at any place."""

AVERAGE = re.compile(r"ema|averag|swa|teacher|shadow|momentum", re.IGNORECASE)
"""In the prefix of a copy that training kept of its model."""

ADAPTER = re.compile(r"\blora_|\.base_layer\.", re.IGNORECASE)
PACKED = ".weight_packed"


@dataclass
class _Group:
    """The names of one SAM in a file.

    Args:
        label: how the file calls it.
        names: name without prefix -> name in the file.
        parts: values of `PARTS` that it has.
        holders: mappings of the file that its tensors stand in.
    """

    label: str
    names: dict[str, str] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)

    def add(self, plain: str, name: str, origin: str) -> None:
        if plain in self.names:
            raise UserError(
                f"{origin} holds {plain} twice, as {self.names[plain]} and as {name}. Save the "
                "state dict of one model by itself."
            )
        self.names[plain] = name


def find_sam(contents: Contents, origin: str, warn: Callable[[str], object]) -> dict[str, Tensor]:
    """Return the tensors of the SAM in a file, without prefixes and other traces of training.

    Of several the most complete one counts, the trained one before its averages, the first before
    later ones.

    Args:
        origin: the file's name, for messages.
        warn: told what was left out.

    Raises:
        UserError: there is none, or it consists of adapters or packed codes.
    """
    _refuse_unfinished(contents.tensors, origin)
    groups = _groups(contents, origin)
    if not groups:
        raise _nothing_found(contents, origin)
    chosen = min(groups, key=lambda group: (-len(group.parts), bool(AVERAGE.search(group.label))))
    rivals = [g.label for g in groups if g is not chosen and len(g.parts) == len(chosen.parts)]
    if rivals:
        warn(
            f"{origin} holds several SAMs; {chosen.label} is loaded, not {few(rivals)}. To load "
            "another one, save its state dict by itself."
        )
    grouped = {name for group in groups for name in group.names.values()}
    left = [
        name
        for name, holder in contents.holders.items()
        if holder in chosen.holders and name not in grouped
    ]
    if left:
        warn(f"{origin} holds more than a SAM; left out: {few(left)}.")
    return {plain: contents.tensors[name] for plain, name in chosen.names.items()}


def _refuse_unfinished(names: Iterable[str], origin: str) -> None:
    names = list(names)
    adapters = [name for name in names if ADAPTER.search(name)]
    if adapters:
        raise UserError(f"{origin} holds adapters (LoRA): {few(adapters)}. {ADAPTER_ADVICE}")
    packed = [name for name in names if name.endswith(PACKED)]
    if packed:
        raise UserError(
            f"{origin} holds the packed weights of a run of `carsam quantize` ({few(packed)}), but "
            "carsam.json is not beside it. Give the whole folder of the run."
        )


def _groups(contents: Contents, origin: str) -> list[_Group]:
    """Return the SAMs in a file, each with all names that start with its prefix."""
    groups: dict[str, _Group] = {}
    others = []
    for name, holder in contents.holders.items():
        unwrapped = WRAPPED.sub("", name)
        match = SAM_NAME.fullmatch(unwrapped)
        if match is None:
            others.append((unwrapped, name, holder))
            continue
        prefix = match["prefix"]
        label = name.partition(f"{match['part']}.")[0].rstrip(".") or "the one without a prefix"
        group = groups.setdefault(prefix, _Group(label))
        group.add(unwrapped.removeprefix(prefix), name, origin)
        group.parts.add(PARTS[match["part"]])
        group.holders.add(holder)
    for unwrapped, name, holder in others:  # such as pixel_mean
        fitting = [
            prefix
            for prefix, group in groups.items()
            if unwrapped.startswith(prefix) and holder in group.holders
        ]
        if fitting:
            prefix = max(fitting, key=len)
            groups[prefix].add(unwrapped.removeprefix(prefix), name, origin)
    return list(groups.values())


def _nothing_found(contents: Contents, origin: str) -> UserError:
    if contents.whole_model:
        return UserError(
            f"{origin} holds a whole pickled model (of {few(contents.classes)}), which is never "
            f"loaded, because that could run any program. {ADVICE}"
        )
    if any(SAM_NAME.fullmatch(key) for key in contents.keys):
        return UserError(f"{origin} has the names of a SAM, but no tensors of torch. {ADVICE}")
    return UserError(
        f"{origin} holds no SAM: found {few(contents.keys) or 'nothing'}; expected a state dict "
        "with the names of segment-anything (image_encoder..., prompt_encoder..., "
        "mask_decoder...) or of transformers (vision_encoder...)."
    )
