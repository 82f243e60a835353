"""The bundled small SAM: its size and structure, and that its prompts and its image matter."""

from importlib.resources import files

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from carsam.families.mini import load_sam_mini, sam_mini_config  # noqa: E402
from carsam.images.scenes import scene  # noqa: E402 - after the checks for what they need

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
SEEDS = (500_001, 500_002, 500_003)  # no scene of the training has such a seed


@pytest.fixture(scope="module")
def model():
    return load_sam_mini()


@pytest.fixture(scope="module")
def embedded(model):
    """Per scene: its masks and its image embedding, both at the model's resolution."""
    side, found = (model.config.vision_config.image_size,) * 2, []
    enlarged = torch.nn.functional.interpolate
    for drawn in map(scene, SEEDS):
        pixels = torch.from_numpy(((drawn.image - MEAN) / STD).transpose(2, 0, 1)).float()[None]
        masks = torch.from_numpy(drawn.masks[drawn.masks.sum((1, 2)) > 1500]).float()[None]
        masks = enlarged(masks, side, mode="bilinear")[0].numpy() > 0.5
        embedding = model.get_image_embeddings(enlarged(pixels, side, mode="bilinear"))
        found.append((masks, embedding))
    return found


def segment(model, embedding, **prompt):
    """Binary masks of prompts at the model's resolution, N x side x side."""
    side = model.config.vision_config.image_size
    with torch.inference_mode():
        logits = model(image_embeddings=embedding, multimask_output=False, **prompt).pred_masks[0]
        logits = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear")
    return logits[:, 0].numpy() > 0


def boxes_of(masks):
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(boxes, dtype=torch.float32)[None]


def mean_iou(found, wanted):
    return np.mean((found & wanted).sum((1, 2)) / (found | wanted).sum((1, 2)))


def clicks_of(masks):
    """For each mask, its pixel nearest to its middle: 1 x N x 1 x 2, x before y."""
    clicks = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        clicks.append([columns[nearest], rows[nearest]])
    return torch.tensor(clicks, dtype=torch.float32)[None, :, None]


def by_box(model, embedding, masks):
    return segment(model, embedding, input_boxes=boxes_of(masks))


def by_click(model, embedding, masks):
    points = clicks_of(masks)
    labels = torch.ones(points.shape[:3], dtype=torch.int64)
    return segment(model, embedding, input_points=points, input_labels=labels)


def shuffled(embedding):
    """An image embedding, 1 x C x rows x columns, with its places in random order."""
    places = embedding.flatten(2)
    order = torch.randperm(places.shape[2], generator=torch.Generator().manual_seed(0))
    return places[..., order].view_as(embedding)


def score(model, embedded, prompted, change=lambda embedding: embedding):
    """Mean IoU over the scenes of masks found in changed image embeddings."""
    ious = [
        mean_iou(prompted(model, change(embedding), masks), masks) for masks, embedding in embedded
    ]
    return float(np.mean(ious))


def filled_boxes(masks):
    filled = np.zeros_like(masks)
    for box, (left, top, right, bottom) in zip(filled, boxes_of(masks)[0].int(), strict=True):
        box[top:bottom, left:right] = True
    return filled


def test_weights_fit_in_twelve_megabytes():
    weights = files("carsam") / "models" / "sam-mini" / "model.safetensors"
    assert len(weights.read_bytes()) <= 12_000_000


def test_packaged_configuration_is_the_one_trained(model):
    assert model.config.to_dict()["vision_config"] == sam_mini_config().to_dict()["vision_config"]
    assert (
        model.config.to_dict()["mask_decoder_config"]
        == sam_mini_config().to_dict()["mask_decoder_config"]
    )


def test_encoder_has_windowed_and_global_blocks_with_relative_positions(model):
    windows = {layer.window_size for layer in model.vision_encoder.layers}
    assert windows == {0, 8}
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    tables = [layer.attn.rel_pos_h for layer in model.vision_encoder.layers]
    assert {len(table) for table in tables} == {2 * 8 - 1, 2 * side - 1}
    assert all(table.abs().max() > 0.01 for table in tables)


def test_decoder_has_three_and_one_mask_tokens_and_downsampled_cross_attention(model):
    decoder = model.mask_decoder
    assert decoder.mask_tokens.weight.shape[0] == 4
    assert len(decoder.transformer.layers) == 2
    attention = decoder.transformer.layers[0].cross_attn_token_to_image
    assert attention.q_proj.out_features * 2 == attention.q_proj.in_features


def test_boxes_find_their_objects(model, embedded):
    boxes = np.mean([mean_iou(filled_boxes(masks), masks) for masks, _ in embedded])
    assert score(model, embedded, by_box) > boxes + 0.05


def test_clicks_find_their_objects(model, embedded):
    assert score(model, embedded, by_click) > 0.4


def test_shuffling_the_image_embedding_destroys_the_masks_of_clicks(model, embedded):
    assert score(model, embedded, by_click, shuffled) < 0.5 * score(model, embedded, by_click)


def test_shuffling_the_image_embedding_leaves_less_than_the_box(model, embedded):
    boxes = np.mean([mean_iou(filled_boxes(masks), masks) for masks, _ in embedded])
    assert score(model, embedded, by_box, shuffled) < boxes


def test_moving_a_click_moves_the_mask(model, embedded):
    for masks, embedding in embedded:
        found = by_click(model, embedding, masks[:4])
        places = clicks_of(masks[:4])[0, :, 0].int()
        assert all(mask[row, column] for mask, (column, row) in zip(found, places, strict=True))
        overlaps = [mean_iou(found[[i]], found[[j]]) for i in range(len(found)) for j in range(i)]
        assert np.median(overlaps) < 0.3
