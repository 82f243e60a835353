"""Counts of instructions under QEMU: what is read of them, and that none is missing."""

import json


def test_what_is_counted_between_kernels_has_no_name():
    from arm_instructions import named_counts

    lines = "(between)\t1923\ni8mm/linear w4a4, few rows\t632805\n(between)\t39\n"
    assert named_counts(lines) == {"i8mm/linear w4a4, few rows": 632805}


def test_the_table_compares_every_set_with_the_portable_one():
    from arm_instructions import table

    counts = {"neon/GELU": 2000, "i8mm/GELU": 1000, "portable/GELU": 5000}
    assert table(counts)[0] == "| | portable | neon | x | i8mm | x |"
    assert table(counts)[2:] == ["| GELU | 5 | 2 | 2.5 | 1 | 5.0 |"]


def test_every_kernel_is_recorded():
    from arm_instructions import RESULT
    from counted_kernels import attentions, linear_layers, passes

    counts = json.loads(RESULT.read_text())["instructions"]
    kernels = {**linear_layers(), **attentions(), **passes()}
    sets = ("i8mm", "neon", "portable")
    assert set(counts) == {f"{chosen}/{kernel}" for chosen in sets for kernel in kernels}
