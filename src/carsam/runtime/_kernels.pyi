"""The C++ extension, built from `csrc/`. `carsam.runtime.native` is its only caller.

A grid is (scale, inverse scale, zero point, highest code), a table (2**bits values, the middles
between them, bits). Results are written into the arrays
`values` (float32) or `output` (codes), of which one is None. Arrays per output column are padded to
whole panels of 16.
"""

import numpy as np

CodeGrid = tuple[float, float, int, int]
Table = tuple[Array, Array, int]
Array = np.ndarray
NormOutput = tuple[Array | None, bool, CodeGrid, Array | None, Array]
"""What is added first, whether it is undone, a grid, a table of entries, the codes."""

def linear(
    codes: Array,
    grid: CodeGrid,
    packed: Array,
    bits: int,
    scale: Array,
    weight_zero: Array,
    bias: Array | None,
    activation: int,
    residual: Array | None,
    values: Array | None,
    output: Array | None,
    output_inverse_scale: Array | None,
    output_zero: Array | None,
    output_maximum: Array | None,
    norm: tuple[Array, Array, float, list[NormOutput]] | None,
) -> None: ...
def float_product(values: Array, weight: Array, result: Array) -> None: ...
def layer_norm(
    values: Array,
    weight: Array,
    bias: Array,
    epsilon: float,
    activation: int,
    result: Array | None,
    output: Array | None,
    grid: CodeGrid | None,
) -> None: ...
def activate(
    values: Array,
    bias: Array | None,
    activation: int,
    residual: Array | None,
    result: Array,
) -> None: ...
def quantize(
    values: Array,
    addend: Array | None,
    undone: bool,
    grid: CodeGrid | None,
    inverse_scale: Array | None,
    zero: Array | None,
    maximum: Array | None,
    output: Array,
) -> None: ...
def norm_on_grids(
    values: Array,
    weight: Array,
    bias: Array,
    epsilon: float,
    result: Array,
    outputs: list[NormOutput],
) -> None: ...
def look_up(codes: Array, table: Array) -> None: ...
def round_to_table(numbers: Array, table: Table, result: Array) -> None: ...
def weighted_rows(values: Array, rows: Array, weights: Array, result: Array) -> None: ...
def rotate(values: Array, cells: Array, cosines: Array, sines: Array, result: Array) -> None: ...
def depthwise(
    codes: Array, zero_point: int, weights: Array, scale: Array, bias: Array | None, result: Array
) -> None: ...
def attention(
    query: Array,
    key: Array,
    value: Array,
    grids: tuple[CodeGrid, CodeGrid, CodeGrid, CodeGrid],
    query_rows: Array,
    key_rows: Array,
    output_rows: Array,
    heads: int,
    scales: tuple[float, float, float],
    numerators: Array | None,
    table: Table | None,
    relative_rows: Array | None,
    relative_columns: Array | None,
    lines: int,
    values: Array | None,
    output: Array | None,
    output_grid: CodeGrid | None,
) -> None: ...
def upscale(
    image: Array,
    size: int,
    panels1: Array,
    bias1: Array,
    norm_weight: Array,
    norm_bias: Array,
    epsilon: float,
    panels2: Array,
    bias2: Array,
    kernels: Array,
    finer: Array | None,
    finest: Array | None,
    result: Array,
) -> None: ...

checks_codes: bool
"""Whether this build refuses codes above the highest of their grid."""

def empty(bytes: int) -> Array: ...
def compiled_sets() -> list[str]: ...
def usable_sets() -> list[str]: ...
def current_set() -> str: ...
def use_set(name: str) -> None: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
