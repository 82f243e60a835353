"""Which of a unit's layers do what, told by the order of sites in their stages."""

from carsam.families.base import Role, Site, SiteType, sites_of_stages
from carsam.methods.base import Unit

MLPS = (Role.ENCODER_MLP, Role.DECODER_MLP, Role.MEMORY_MLP)


def entry_layers(unit: Unit) -> tuple[Site, ...]:
    """Return the layers that read tokens: before an attention, or first of an MLP."""
    entries: list[Site] = []
    for role, sites in _sites_by_role(unit):
        types = [site.type for site in sites]
        if SiteType.ATTENTION in types:
            entries += sites[: types.index(SiteType.ATTENTION)]
        elif role in MLPS:
            entries += sites[:1]
    return tuple(entries)


def second_layers(unit: Unit) -> tuple[Site, ...]:
    """Return the second layers of MLPs, which read what an activation function returns."""
    return tuple(sites[1] for role, sites in _sites_by_role(unit) if role in MLPS and sites[1:])


def _sites_by_role(unit: Unit) -> list[tuple[Role, tuple[Site, ...]]]:
    sites = tuple(site for site, _ in unit.sites)
    return [(stage.role, members) for stage, members in sites_of_stages(unit.plan.stages, sites)]
