"""The load test of the server, with few clients."""

import carsam


def test_no_answer_is_wrong():
    from serve_load import measure

    found = measure("sam-mini-w4a4", clients=4, clicks=2, workers=2)
    assert (found["answers"], found["wrong_answers"]) == (8, 0)
    assert found["click_seconds"]["median"] <= found["click_seconds"]["longest"] <= found["seconds"]


def test_a_wrong_answer_is_counted():
    from serve_load import Client

    person = Client.make(0, clicks=1)
    person.answers = [{"segmentation": {"size": [640, 640], "counts": ""}, "predicted_iou": 1.0}]
    assert person.wrong(carsam.SamPredictor("sam-mini-w4a4")) == 1
