"""What to do to a model: bits per site, and the steps of a method. Frozen data, no torch."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from carsam.errors import UserError
from carsam.formats.bits import FLOAT_KINDS, Bits, Rule, bits_of_site

__all__ = ["DEFAULT_RECIPE", "FLOAT_KINDS", "Bits", "Recipe", "Rule", "Step"]

DEFAULT_RECIPE = "carsam-plus"
"""What `carsam quantize` and `carsam.quantize` do unless another recipe is named."""

FOUR_BITS = Bits(4, 4)


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
    bits: Bits = FOUR_BITS
    rules: tuple[Rule, ...] = ()
    opening: tuple[Step, ...] = ()
    closing: tuple[Step, ...] = ()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """Those of the opening, of the units and of the closing."""
        return (*self.opening, *self.steps, *self.closing)

    def bits_of(self, path: str, kind: str) -> Bits:
        """Return the bits of the site at a module path, of a kind."""
        return bits_of_site(self.bits, self.rules, path, kind)

    def check_rules(self, sites: Iterable[tuple[str, str]]) -> None:
        """Check that bits and rules make sense for the sites, given as (path, kind).

        Raises:
            UserError: a rule fits none of them, or all of them stay in float.
        """
        known = list(sites)
        for rule in self.rules:
            if not any(rule.fits(path, kind) for path, kind in known):
                kinds = ", ".join(sorted({kind for _, kind in known}))
                raise UserError(
                    f'Rule "{rule}" fits no site of this model. Patterns are compared with module '
                    f"paths (such as {known[0][0]}) and with the kinds {kinds}."
                )
        if all(self.bits_of(path, kind) == Bits(None, None) for path, kind in known):
            rules = ", ".join(map(str, self.rules)) or "none"
            raise UserError(
                f"Nothing is quantized: bits {self.bits} and rules ({rules}) leave everything in "
                "float. Give bits such as w4a4, or other rules."
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
