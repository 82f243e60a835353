"""Change what attentions multiply without changing the products: shifts, scales and rotations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.families.base import Site
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.layer_inputs import NOISE
from carsam.methods.inspecting.operands import in_float, listening, observe_again_, run
from carsam.methods.order import ALL
from carsam.methods.parameters import Positive
from carsam.methods.steps.folding.attention_weights import AttentionWeights, attentions
from carsam.simulation.stored import as_stored, store_


@dataclass(frozen=True)
class BalanceAttention(UnitStep):
    """Exact invariances of attention, folded into the weights so that less is lost by rounding.

    Per head, row vectors:

        shift of keys      softmax(Q (K - 1 m')') = softmax(Q K')
        shift of values    A (V - 1 m') W_O + m' W_O = A V W_O       (rows of A sum to 1)
        queries and keys   (Q M) (K M^-T)' = Q K'
        values and output  A (V M) (M^-1 W_O) = A V W_O

    m is the mean of the keys, or of the attended values. M makes the second moments S and T of the
    two factors the same diagonal matrix: with S = L L' and L' T L = U D U', M = L^-T U D^(1/4),
    M' S M = M^-1 T M^-T = D^(1/2). Of all M this has the least tr(M' S M) tr(M^-1 T M^-T), which
    is what uniform noise on both factors does to their product. A Hadamard rotation after it
    gives all channels of a head the same variance, so that one grid fits them.

    Relative positions of SAM's encoder, q . r, take M^-T into their table, which all heads share:
    there one M serves all heads. Where only positive factors can move (`scales_in` of the
    attention), M is diagonal and makes the diagonals of both factors' second moments equal,
    M_c^4 = T_cc / S_cc, and nothing rotates. Where keys are rotated by their places no constant can
    move out of them: their shift is left out. A head of which an operand does not vary, so that
    nothing is lost by rounding it, keeps its weights.

    Args:
        shifts: fold means of keys and values into biases.
        scores: balance queries and keys.
        values: balance values and the output projection.
        rotates: rotate after balancing.
        damping: added to the second moments, relative to their mean diagonal; keeps M moderate.
    """

    shifts: bool = True
    scores: bool = True
    values: bool = True
    rotates: bool = True
    damping: Positive = 1e-2
    precedes = ALL

    def run_(self, unit: Unit) -> None:
        """Fold into every attention of the unit, and renew the statistics of what has changed."""
        for site, weights in attentions(unit):
            moments = attention_moments(unit, site, weights)
            if self.shifts:
                shift_(weights, moments)
            if self.scores:
                around = site.attention
                mixes = self._mixes(
                    unit,
                    site,
                    moments.queries,
                    moments.keys,
                    bool(weights.tables),
                    around.scales_in if around else None,
                )
                mix_scores_(weights, mixes)
            if self.values:
                columns = weights.output.weight.unflatten(1, (weights.heads, -1)).permute(1, 2, 0)
                output = (columns @ columns.mT).double()  # (heads, d, d)
                mix_values_(weights, self._mixes(unit, site, moments.values, output))
            round_to_stored_(unit, weights)
            keys = [(site, operand) for operand in ("query", "key", "value")]
            observe_again_(unit, [*keys, (weights.output_site, "input")])

    def _mixes(
        self,
        unit: Unit,
        site: Site,
        first: Tensor,
        second: Tensor,
        shared: bool = False,
        scales_in: int | None = None,
    ) -> Tensor:
        """Return M (heads, d, d) for second moments of both factors; 1 for heads without any."""
        if shared:
            first, second = (m.mean(0, keepdim=True).expand_as(m) for m in (first, second))
        identity = torch.eye(first.shape[-1]).to(first)
        flat = (_energy(first) == 0) | (_energy(second) == 0)  # (heads,)
        if bool(flat.any()):
            heads = ", ".join(str(int(head)) for head in flat.nonzero())
            unit.progress.warn(
                f"{site.path}: an operand of head {heads} does not vary; it is not balanced."
            )
        first, second = (torch.where(flat[:, None, None], identity, m) for m in (first, second))
        first, second = (_damped(m, self.damping) for m in (first, second))
        if scales_in is not None:
            mixes = scaling(first, second, scales_in)
        else:
            mixes = balancing(first, second)
            if self.rotates:
                mixes = mixes @ rotation(mixes.shape[-1]).to(mixes)
        return torch.where(flat[:, None, None], identity, mixes)


@dataclass(frozen=True)
class AttentionMoments:
    """What flows through an attention in float, in float64; 0 where it is float32's noise only.

    Args:
        key_mean, value_mean: (heads * d,); no constant can move out of keys that are rotated: 0.
        queries: second moments (heads, d, d).
        keys: the same of keys without their mean; with it where they are rotated.
        values: the same of attended values without theirs, plus that of values without it.
    """

    key_mean: Tensor
    value_mean: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor


def attention_moments(unit: Unit, site: Site, weights: AttentionWeights) -> AttentionMoments:
    """Run the unit in float on every image and sum up."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def add(name: str, heads_first: bool) -> Callable[[Tensor], None]:
        def consume(values: Tensor) -> None:
            if not heads_first:
                values = values.unflatten(-1, (weights.heads, -1)).flatten(0, -3)[None]
                values = values.transpose(1, 2)
            rows = values.transpose(0, 1).flatten(1, 2).double()  # (heads, batch * tokens, d)
            new = (rows.mT @ rows, rows.sum(1), rows.shape[1])
            old = sums.get(name)
            sums[name] = new if old is None else tuple(map(sum, zip(old, new, strict=True)))  # type: ignore[assignment, arg-type]

        return consume

    consumers = {(site, name): add(name, True) for name in ("query", "key", "value")}
    consumers[weights.output_site, "input"] = add("attended", False)
    with in_float(unit), listening(unit, consumers):
        run(unit, unit.inputs)
    means = {name: total / count for name, (_, total, count) in sums.items()}  # (heads, d)
    seconds = {name: moment / count for name, (moment, _, count) in sums.items()}

    def around(name: str, centre: Tensor) -> Tensor:
        cross = torch.einsum("hi,hj->hij", means[name], centre)
        outer = torch.einsum("hi,hj->hij", centre, centre)
        moments = seconds[name] - cross - cross.mT + outer
        varies = _energy(moments) > NOISE * _energy(seconds[name])
        return torch.where(varies[:, None, None], moments, 0.0)

    attended = means["attended"]
    key_mean = torch.zeros_like(means["key"]) if weights.rotated else means["key"]
    return AttentionMoments(
        key_mean.flatten(),
        attended.flatten(),
        seconds["query"],
        around("key", key_mean),
        around("attended", attended) + around("value", attended),
    )


def shift_(weights: AttentionWeights, moments: AttentionMoments) -> None:
    """Take the means out of keys and values, where biases can hold them."""
    key, value = weights.rows["key"][1], weights.rows["value"][1]
    output = weights.output
    if key is not None:
        key -= moments.key_mean.to(key)
    if value is not None and output.bias is not None:
        mean = value - as_stored(value - moments.value_mean.to(value))
        value -= mean
        output.bias += output.weight @ mean


def mix_scores_(weights: AttentionWeights, mixes: Tensor) -> None:
    """Fold M (heads, d, d) into queries, and M^-T into keys and tables."""
    inverse = torch.linalg.inv(mixes)
    _mix_rows_(weights.rows["query"], mixes.mT)
    _mix_rows_(weights.rows["key"], inverse)
    for table in weights.tables:
        table.copy_(table.double() @ inverse[0].mT)


def mix_values_(weights: AttentionWeights, mixes: Tensor) -> None:
    """Fold M (heads, d, d) into values, and M^-1 into the output projection."""
    _mix_rows_(weights.rows["value"], mixes.mT)
    weight = weights.output.weight
    columns = weight.unflatten(1, (weights.heads, -1)).permute(1, 2, 0).double()  # (heads, d, out)
    weight.copy_((torch.linalg.inv(mixes) @ columns).permute(2, 0, 1).flatten(1))


def balancing(first: Tensor, second: Tensor) -> Tensor:
    """Return M with M' S M = M^-1 T M^-T diagonal, for positive definite S and T (..., d, d)."""
    lower = torch.linalg.cholesky(first)
    eigenvalues, vectors = torch.linalg.eigh(lower.mT @ second @ lower)
    turned = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
    return turned * eigenvalues.pow(0.25)[..., None, :]


def scaling(first: Tensor, second: Tensor, channels: int) -> Tensor:
    """Return M (..., d, d), diagonal and positive, alike in every `channels` neighbours.

    The variances of both factors, summed over the neighbours, are equal with it.
    """
    variances = (
        m.diagonal(dim1=-2, dim2=-1).unflatten(-1, (-1, channels)) for m in (first, second)
    )
    own, other = (variance.sum(-1) for variance in variances)
    return torch.diag_embed((other / own).pow(0.25).repeat_interleave(channels, -1))


def rotation(size: int) -> Tensor:
    """Return an orthogonal matrix that spreads every axis over as many others as is possible.

    It is a Hadamard matrix for the largest power of 2 that divides the size.
    """
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    while size % (2 * len(hadamard)) == 0:
        hadamard = torch.kron(hadamard, step)
    return torch.kron(hadamard, torch.eye(size // len(hadamard), dtype=torch.float64))


def round_to_stored_(unit: Unit, weights: AttentionWeights) -> None:
    """Store what stays float as a checkpoint keeps it: biases, tables, weights left in float."""
    stored = [bias for _, bias in weights.rows.values()]
    stored += [weights.output.bias, *weights.tables]
    rounded = {site.path for site, bits in unit.sites if bits.weights is not None}
    if weights.output_site.path not in rounded:
        stored += [weights.output.weight, *(weight for weight, _ in weights.rows.values())]
    for tensor in stored:
        if tensor is not None:
            store_(tensor, tensor)


def _mix_rows_(rows: tuple[Tensor, Tensor | None], left: Tensor) -> None:
    """Multiply weight and bias of a projection by `left` (heads, d, d), head by head."""
    for tensor in rows:
        if tensor is not None:
            by_head = tensor.unflatten(0, (len(left), -1)).double()  # (heads, d[, channels])
            mixed = torch.einsum("hij,hj...->hi...", left, by_head)
            tensor.copy_(mixed.flatten(0, 1))


def _damped(moments: Tensor, damping: float) -> Tensor:
    mean = _energy(moments)[:, None, None]
    return moments + damping * mean * torch.eye(moments.shape[-1]).to(moments)


def _energy(moments: Tensor) -> Tensor:
    """Return the mean diagonal of moments (..., d, d)."""
    return moments.diagonal(dim1=-2, dim2=-1).mean(-1)
