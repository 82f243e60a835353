"""Counted instructions beside recorded ones, and what callgrind writes of them."""

import json

DUMP = """# callgrind format
desc: Trigger: Client Request: avx2/rounding

events: Ir
totals: 329856
"""


def test_a_dump_has_the_name_it_was_asked_for_with():
    from regression import named_counts

    assert named_counts(DUMP) == [("avx2/rounding", 329856)]
    assert named_counts("desc: Trigger: Program termination\ntotals: 5\n") == []


def test_only_more_than_3_percent_above_is_a_failure(capsys):
    from regression import compare

    recorded = {"avx2/GELU": 1000, "avx2/rounding": 1000}
    assert compare({"avx2/GELU": 1030, "avx2/rounding": 500}, recorded) == 0
    assert compare({"avx2/GELU": 1031, "avx2/rounding": 500}, recorded) == 1
    said = capsys.readouterr().out
    assert "above what is recorded: avx2/GELU." in said


def test_kernels_that_only_one_side_has_are_named(capsys):
    from regression import compare

    assert compare({"neon/GELU": 10}, {"avx2/GELU": 10}) == 0
    said = capsys.readouterr().out
    assert "neon/GELU: not recorded" in said and "avx2/GELU: not counted here" in said


def test_every_kernel_is_recorded():
    from counted_kernels import attentions, linear_layers, passes
    from regression import RESULT

    kernels = {**linear_layers(), **attentions(), **passes()}
    for counts in json.loads(RESULT.read_text()).values():
        sets = {name.partition("/")[0] for name in counts}
        assert set(counts) == {f"{chosen}/{kernel}" for chosen in sets for kernel in kernels}
