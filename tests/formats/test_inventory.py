from carsam.formats.inventory import grids_by_export

UNIFORM, ROWS = {"grid": "uniform", "bits": 4}, {"grid": "row-maximum", "bits": 4}


def test_grids_are_counted_by_whether_onnx_expresses_them():
    sites = {
        "linear": {"weight": UNIFORM, "operands": {"input": UNIFORM}},
        "attention": {"weight": None, "operands": {"query": UNIFORM, "probabilities": ROWS}},
        "float": {"weight": None, "operands": {}},
    }
    assert grids_by_export(sites) == (3, {"row-maximum": 1})
