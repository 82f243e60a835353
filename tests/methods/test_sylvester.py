import numpy as np
import pytest
import scipy.linalg
import torch

from carsam.methods.steps.mac.equations import MatrixEquation, RidgeEquation
from carsam.methods.steps.mac.solvers import (
    SOLVERS,
    cross_validated,
    solve_averaged,
    solve_exact,
    solve_pooled,
    solve_ridge,
)

HEADS, COLUMNS, WIDTH = 2, 12, 4


def draw(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def samples(count, rows, others, spread=1.0, seed=0):
    """X, L, R and R^ of samples whose channels differ in size by `spread`; L = X W + b."""
    inputs = draw(count, rows, COLUMNS, seed=seed)
    inputs *= (spread * draw(count, 1, COLUMNS, seed=seed + 1)).exp()
    left = inputs[:, None] @ draw(HEADS, COLUMNS, WIDTH, seed=seed + 2) + 1.0
    right = draw(count, HEADS, others, WIDTH, seed=seed + 3)
    right *= (spread * draw(count, HEADS, 1, WIDTH, seed=seed + 4)).exp()
    scale = right.abs().amax((2, 3), keepdim=True) / 3
    return inputs, left, right, torch.round(right / scale) * scale


def objective(operands, change, penalty=0.0):
    """The error of the scores, formed one by one."""
    inputs, left, right, quantized = operands
    scores = (left + inputs[:, None] @ change) @ quantized.mT
    return float((left @ right.mT - scores).square().sum() + (penalty * change.square()).sum())


def dense_solution(operands, penalty):
    """Each head's normal equations by a Cholesky factor of the Kronecker products."""
    inputs, left, right, quantized = (operand.numpy() for operand in operands)
    solutions = []
    for head in range(HEADS):
        matrix = penalty[head].item() * np.eye(COLUMNS * WIDTH)
        vector = np.zeros((COLUMNS, WIDTH))
        for index, x in enumerate(inputs):
            key, rounded = right[index, head], quantized[index, head]
            matrix += np.kron(x.T @ x, rounded.T @ rounded)
            vector += x.T @ left[index, head] @ (key - rounded).T @ rounded
        factor = scipy.linalg.cho_factor(matrix)
        solutions.append(scipy.linalg.cho_solve(factor, vector.ravel()).reshape(COLUMNS, WIDTH))
    return torch.tensor(np.stack(solutions))


def zero():
    return torch.zeros(HEADS, COLUMNS, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_sample_equals_scipy(solver):
    operands = samples(1, 40, 30)
    equation = MatrixEquation.from_operands(*operands)
    penalty = equation.penalty(0.05, COLUMNS)
    solution = SOLVERS[solver](equation, penalty)
    gram = (operands[0].mT @ operands[0])[0].numpy()
    for head in range(HEADS):
        right_side = np.linalg.solve(gram, equation.right_side[head].numpy())
        expected = scipy.linalg.solve_sylvester(
            penalty[head].item() * np.linalg.inv(gram), equation.grams[0, head].numpy(), right_side
        )
        np.testing.assert_allclose(solution.change[head].numpy(), expected, rtol=1e-5, atol=1e-7)
    assert solution.residual < 1e-6


@pytest.mark.parametrize(("rows", "others"), [(5, 60), (60, 5)])
def test_several_samples_equal_dense_cholesky(rows, others):
    operands = samples(6, rows, others)
    equation = MatrixEquation.from_operands(*operands)
    penalty = equation.penalty(1e-3, COLUMNS)
    solution = solve_exact(equation, penalty, tolerance=1e-10)
    torch.testing.assert_close(
        solution.change, dense_solution(operands, penalty), rtol=1e-6, atol=1e-8
    )
    assert solution.residual < 1e-9


@pytest.mark.parametrize(("rows", "others"), [(5, 60), (60, 5)])
def test_the_asymmetric_form_equals_dense_least_squares(rows, others):
    """min ||L R' - (L^ + X^ D) R^'||^2 + penalty ||D||^2, by Kronecker products."""
    inputs, left, right, quantized = samples(6, rows, others)
    inputs = inputs + 0.3 * draw(*inputs.shape, seed=8)  # of the quantized path
    left_now = inputs[:, None] @ draw(HEADS, COLUMNS, WIDTH, seed=9)  # and of rounded weights
    equation = MatrixEquation.from_operands(inputs, left, right, quantized, left_now - left)
    penalty = equation.penalty(1e-3, COLUMNS)
    change = solve_exact(equation, penalty, tolerance=1e-10).change
    for head in range(HEADS):
        factors = [
            np.kron(inputs[s].numpy(), quantized[s, head].numpy()) for s in range(len(inputs))
        ]
        targets = [
            (left[s, head] @ right[s, head].mT - left_now[s, head] @ quantized[s, head].mT).numpy()
            for s in range(len(inputs))
        ]
        root = np.sqrt(penalty[head].item()) * np.eye(COLUMNS * WIDTH)
        matrix = np.concatenate([*factors, root])
        vector = np.concatenate([*(t.ravel() for t in targets), np.zeros(COLUMNS * WIDTH)])
        expected = np.linalg.lstsq(matrix, vector, rcond=None)[0].reshape(COLUMNS, WIDTH)
        np.testing.assert_allclose(change[head].numpy(), expected, rtol=1e-5, atol=1e-8)


def test_no_other_change_has_a_lower_objective():
    operands = samples(6, 5, 60)
    equation = MatrixEquation.from_operands(*operands)
    penalty = equation.penalty(1e-2, COLUMNS)
    change = solve_exact(equation, penalty, tolerance=1e-10).change
    best = objective(operands, change, penalty)
    assert best < objective(operands, zero())
    for seed in range(20):
        other = change + 1e-3 * draw(*change.shape, seed=seed)
        assert objective(operands, other, penalty) > best


def test_the_sign_printed_elsewhere_raises_the_objective():
    """Accounts of the paper print + (R^ - R)' R^ on the right side."""
    operands = samples(3, 30, 40)
    equation = MatrixEquation.from_operands(*operands)
    change = solve_exact(equation, equation.penalty(1e-2, COLUMNS)).change
    unchanged = objective(operands, zero())
    assert objective(operands, change) < unchanged
    assert objective(operands, -change) > unchanged


def test_a_right_side_without_the_bias_is_worse():
    inputs, left, right, quantized = operands = samples(3, 30, 40)
    biased = (inputs, left + 3.0, right, quantized)
    equation, forgetful = (MatrixEquation.from_operands(*case) for case in (biased, operands))
    penalty = equation.penalty(1e-2, COLUMNS)
    best, worse = (solve_exact(case, penalty).change for case in (equation, forgetful))
    assert objective(biased, best) < objective(biased, worse)


def test_exact_beats_pooled_beats_nothing_where_samples_differ():
    operands = samples(24, 5, 60)
    equation = MatrixEquation.from_operands(*operands)
    penalty = equation.penalty(1e-2, COLUMNS)
    exact, pooled = (solve(equation, penalty).change for solve in (solve_exact, solve_pooled))
    assert objective(operands, exact) < objective(operands, pooled) < objective(operands, zero())


def test_averaged_solutions_can_be_worse_than_nothing():
    operands = samples(24, 60, 3, spread=0.0)
    equation = MatrixEquation.from_operands(*operands)
    averaged = solve_averaged(equation, equation.penalty(1e-3, COLUMNS))
    assert objective(operands, averaged.change) > objective(operands, zero())


@pytest.mark.parametrize("rows", [9, 40])
def test_joined_equations_of_different_lengths_are_one_equation(rows):
    """Those of more rows than columns hold X' X instead of X."""
    short, long = samples(2, 5, 30), samples(2, rows, 30, seed=9)
    joined = MatrixEquation.joined([MatrixEquation.from_operands(*case) for case in (short, long)])
    change = draw(HEADS, COLUMNS, WIDTH, seed=3)
    apart = [MatrixEquation.from_operands(*case) for case in (short, long)]
    torch.testing.assert_close(joined.apply(change), sum(case.apply(change) for case in apart))
    torch.testing.assert_close(joined.right_side, sum(case.right_side for case in apart))
    penalty = sum(
        case.penalty(0.1, COLUMNS).squeeze() / case.grams.diagonal(dim1=2, dim2=3).mean((0, 2))
        for case in apart
    )
    mean = joined.grams.diagonal(dim1=2, dim2=3).mean((0, 2))
    torch.testing.assert_close(joined.penalty(0.1, COLUMNS).squeeze() / mean, penalty)


@pytest.mark.parametrize("shared", ["inputs", "keys"])
def test_what_samples_share_is_pooled_exactly(shared):
    inputs, left, right, quantized = samples(4, 20, 25)
    if shared == "inputs":
        short = (inputs[:1], left[:1], right, quantized)
    else:
        short = (inputs, left, right[:1], quantized[:1])
    long = tuple(operand.expand(4, *operand.shape[1:]) for operand in short)
    pooled, apart = (MatrixEquation.from_operands(*case) for case in (short, long))
    change = draw(HEADS, COLUMNS, WIDTH, seed=3)
    assert len(pooled.grams) == 1
    torch.testing.assert_close(pooled.apply(change), apart.apply(change))
    torch.testing.assert_close(pooled.right_side, apart.right_side)
    torch.testing.assert_close(pooled.penalty(0.1, COLUMNS), apart.penalty(0.1, COLUMNS))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e30])
def test_a_singular_zero_or_huge_gram_gives_a_finite_solution(solver, size):
    inputs, left, right, quantized = samples(1, 3, 2)
    equation = MatrixEquation.from_operands(size * inputs, size * left, right, quantized)
    solution = SOLVERS[solver](equation, equation.penalty(1e-3, COLUMNS))
    assert solution.change.isfinite().all()
    assert solution.residual < 1e-5


def test_without_a_penalty_a_singular_gram_gives_the_shortest_solution():
    factor = draw(HEADS, 3, COLUMNS, seed=0)
    right_side = factor.mT @ draw(HEADS, 3, WIDTH, seed=1)
    penalty = torch.zeros(HEADS, 1, 1, dtype=torch.float64)
    equation = RidgeEquation((factor.mT @ factor)[None], right_side[None])
    change = solve_ridge(equation, penalty).change
    expected = torch.linalg.pinv(factor.mT @ factor, hermitian=True, rtol=1e-12) @ right_side
    torch.testing.assert_close(change, expected)


def test_ridge_equals_the_normal_equations():
    factors, targets = draw(2, HEADS, 50, COLUMNS, seed=0), draw(2, HEADS, 50, WIDTH, seed=1)
    equation = RidgeEquation(factors.mT @ factors, factors.mT @ targets)
    penalty = torch.full((HEADS, 1, 1), 3.0, dtype=torch.float64)
    gram, right_side = equation.grams.sum(0), (factors.mT @ targets).sum(0)
    expected = torch.linalg.solve(gram + 3.0 * torch.eye(COLUMNS), right_side)
    torch.testing.assert_close(solve_ridge(equation, penalty).change, expected)


def test_cross_validation_chooses_a_weak_penalty_for_what_repeats_and_a_strong_one_for_noise():
    strengths = (1e-3, 1e-1, 1e1)
    factors, noise = draw(40, HEADS, 1, COLUMNS, seed=0), draw(40, HEADS, 1, WIDTH, seed=1)
    repeating = factors @ draw(HEADS, COLUMNS, WIDTH, seed=2)
    for targets, expected in ((repeating, 1e-3), (noise, 1e1)):
        equation = RidgeEquation(factors.mT @ factors, factors.mT @ targets)
        assert cross_validated(equation, solve_ridge, strengths, COLUMNS) == expected


def test_cross_validation_judges_by_the_error_of_the_unseen_half():
    operands = samples(6, 5, 60)
    halves = [tuple(operand[part] for operand in operands) for part in (slice(3), slice(3, None))]
    strengths = (1e-6, 1e-3, 1e0, 1e3)
    errors = []
    for strength in strengths:
        error = 0.0
        for seen, unseen in (halves, halves[::-1]):
            equation = MatrixEquation.from_operands(*seen)
            change = solve_exact(equation, equation.penalty(strength, COLUMNS)).change
            error += objective(unseen, change)
        errors.append(error)
    chosen = cross_validated(
        MatrixEquation.from_operands(*operands), solve_exact, strengths, COLUMNS
    )
    assert errors[strengths.index(chosen)] == min(errors)
