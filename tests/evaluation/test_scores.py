import pytest

from carsam.errors import UserError
from carsam.evaluation.prompts import Request, prompt_kind
from carsam.evaluation.scores import score_rule


@pytest.mark.parametrize(
    ("rule", "score"), [("predicted-iou", 0.5), ("constant", 1.0), ("detector-times-iou", 0.4)]
)
def test_rules(rule, score):
    request = Request(1, 1, box=(0, 0, 1, 1), detector_score=0.8)
    assert score_rule(rule, prompt_kind("detections")).score(request, 0.5) == score


def test_detector_rule_needs_detections():
    with pytest.raises(UserError, match="needs a detector's scores"):
        score_rule("detector-times-iou", prompt_kind("boxes"))


def test_unknown_rule_is_refused():
    with pytest.raises(UserError, match="expected one of predicted-iou, constant"):
        score_rule("luck", prompt_kind("boxes"))
