"""What to do to a model: bits per site, and the steps of a method. Frozen data, no torch."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from carsam.errors import UserError

FLOAT_KINDS = (
    "encoder.patch_embedding",
    "prompt_encoder",
    "decoder.mask_upscaling",
    "decoder.hypernetwork",
    "decoder.iou_head",
)
"""Kinds that stay float unless a rule says otherwise, as in the papers."""

UNFINISHED = "reconstruct-unfinished"
"""The step that leaves the published faults in a model, which is then a legacy one."""


@dataclass(frozen=True)
class Bits:
    """Bits of weights and activations, 2 to 8; None keeps them in float."""

    weights: int | None
    activations: int | None

    def __post_init__(self) -> None:
        for name, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits is not None and not 2 <= bits <= 8:
                raise UserError(f"{bits} bits for {name}; 2 to 8 are possible, or 32 for float.")

    @classmethod
    def parse(cls, text: str) -> "Bits":
        """Read `w4a4`, `w4a8`, `w4a32` (activations in float) or `float`."""
        if text == "float":
            return cls(None, None)
        match = re.fullmatch(r"w(\d+)a(\d+)", text.lower())
        if match is None:
            raise UserError(f'Bits "{text}" are not understood; write for example w4a4, or float.')
        weights, activations = (None if int(b) == 32 else int(b) for b in match.groups())
        return cls(weights, activations)

    def __str__(self) -> str:
        if self.weights is None and self.activations is None:
            return "float"
        return f"w{self.weights or 32}a{self.activations or 32}"


@dataclass(frozen=True)
class Rule:
    """Bits for the sites whose module path or kind fits an fnmatch pattern."""

    match: str
    bits: Bits

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read `encoder.mlp=w8a8` or `vision_encoder.layers.0.*=float`."""
        match, separator, bits = text.rpartition("=")
        if not separator or not match:
            raise UserError(
                f'Rule "{text}" is not understood; write PATTERN=BITS, as in encoder.mlp=w8a8.'
            )
        return cls(match, Bits.parse(bits))

    def fits(self, path: str, kind: str) -> bool:
        """Tell whether this rule speaks of the site at a module path, of a kind."""
        return fnmatchcase(path, self.match) or fnmatchcase(kind, self.match)

    def __str__(self) -> str:
        return f"{self.match}={self.bits}"


@dataclass(frozen=True)
class Step:
    """One named step of a method and its parameters; `carsam.methods` holds the steps."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A method (its steps, in order) and the bits it is applied with.

    Later rules override earlier ones; a rule that fits no site is an error when it is applied.
    `units` names the merges of stages into units (`carsam.methods.units.MERGES`). The steps run on
    one unit after the other, those of `opening` and `closing` once, on the whole model, before the
    first unit and after the last.
    """

    name: str
    steps: tuple[Step, ...]
    units: tuple[str, ...] = ()
    bits: Bits = Bits(4, 4)
    rules: tuple[Rule, ...] = ()
    opening: tuple[Step, ...] = ()
    closing: tuple[Step, ...] = ()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """Those of the opening, of the units and of the closing."""
        return (*self.opening, *self.steps, *self.closing)

    @property
    def legacy(self) -> bool:
        """Whether the recipe leaves the published faults in the model."""
        return any(step.name == UNFINISHED for step in self.steps)

    def bits_of(self, path: str, kind: str) -> Bits:
        """Return the bits of the site at a module path, of a kind."""
        bits = Bits(None, None) if kind in FLOAT_KINDS else self.bits
        for rule in self.rules:
            if rule.fits(path, kind):
                bits = rule.bits
        return bits

    def check_rules(self, sites: Iterable[tuple[str, str]]) -> None:
        """Raise UserError when a rule fits none of the sites, given as (path, kind)."""
        known = list(sites)
        for rule in self.rules:
            if not any(rule.fits(path, kind) for path, kind in known):
                kinds = ", ".join(sorted({kind for _, kind in known}))
                raise UserError(
                    f'Rule "{rule}" fits no site of this model. Patterns are compared with module '
                    f"paths (such as {known[0][0]}) and with the kinds {kinds}."
                )

    def with_parameters(self, assignments: Iterable[str]) -> "Recipe":
        """Return a copy with `step.parameter=value` assignments applied."""
        steps = list(self.all_steps)
        for assignment in assignments:
            name, parameter, value = parse_setting(assignment)
            places = [place for place, step in enumerate(steps) if step.name == name]
            if not places:
                known = ", ".join(step.name for step in steps)
                raise UserError(f'Recipe {self.name} has no step "{name}"; its steps are {known}.')
            for place in places:
                parameters = {**steps[place].parameters, parameter: value}
                steps[place] = Step(name, parameters)
        begin, end = len(self.opening), len(self.opening) + len(self.steps)
        return replace(
            self,
            opening=tuple(steps[:begin]),
            steps=tuple(steps[begin:end]),
            closing=tuple(steps[end:]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `carsam.json`."""
        return {
            "name": self.name,
            "steps": [asdict(step) for step in self.steps],
            "units": list(self.units),
            "bits": str(self.bits),
            "rules": [str(rule) for rule in self.rules],
            "opening": [asdict(step) for step in self.opening],
            "closing": [asdict(step) for step in self.closing],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Undo `to_dict`.

        Raises:
            UserError: a key is unknown or missing, or a value is not of the form that it has there.
        """
        try:
            unknown = set(data) - {entry.name for entry in fields(cls)}
            if unknown:
                raise UserError(f"Recipe with unknown keys: {', '.join(sorted(unknown))}.")
            return cls(
                name=data["name"],
                steps=tuple(Step(**step) for step in data["steps"]),
                units=tuple(data["units"]),
                bits=Bits.parse(data["bits"]),
                rules=tuple(Rule.parse(rule) for rule in data["rules"]),
                opening=tuple(Step(**step) for step in data.get("opening", ())),
                closing=tuple(Step(**step) for step in data.get("closing", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"The recipe is damaged ({type(error).__name__}: {error}); expected the keys and "
                "values that Recipe.to_dict writes."
            ) from error


def parse_setting(text: str) -> tuple[str, str, Any]:
    """Read `step.parameter=value`: the step's name, the parameter's, and the value.

    Raises:
        UserError: it is not of this form.
    """
    match = re.fullmatch(r"([\w-]+)\.([\w-]+)=(.*)", text)
    if match is None:
        raise UserError(f'Setting "{text}" is not understood; write step.parameter=value.')
    step, parameter, value = match.groups()
    return step, parameter, _parse_value(value)


def _parse_value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
