"""SAM 2's memory: what transformers computes, step by step, and what a session reads of it."""

import numpy as np
import pytest
import torch

from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.engines.video import MemoryNumbers, VideoEngine
from carsam.engines.video import Recollection as Recalled
from carsam.families import FAMILIES
from carsam.families.video import Recollection
from carsam.images.prompts import Prompts

FAMILY = FAMILIES["sam2_video"]
BOX = torch.tensor([[[5.0, 6, 90, 100]]])
CELLS, POINTERS = 64, 3


@pytest.fixture
def embedding(tiny_sam2_video):
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return FAMILY.encode(tiny_sam2_video, pixels)


@pytest.fixture
def memory():
    """Two frames of 64 tokens, and three pointers of one token."""
    generator = torch.Generator().manual_seed(2)
    values, positions = torch.randn(2, 1, 2 * CELLS + POINTERS, 64, generator=generator)
    frames = torch.arange(CELLS).repeat(2)
    return Recollection(values, positions, torch.cat([frames, -torch.ones(POINTERS).long()]))


def assert_near(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_memory_is_recalled_as_transformers_does(tiny_sam2_video, embedding, memory):
    image = embedding[0]
    sines = tiny_sam2_video.vision_encoder.neck.position_encoding(
        image.shape, image.device, image.dtype
    )
    with torch.inference_mode():
        expected = tiny_sam2_video.memory_attention(
            current_vision_features=image.flatten(2).permute(2, 0, 1),
            current_vision_position_embeddings=sines.flatten(2).permute(2, 0, 1),
            memory=memory.values.transpose(0, 1),
            memory_posision_embeddings=memory.positions.transpose(0, 1),
            num_object_pointer_tokens=POINTERS,
        )
        found, *fine = FAMILY.recall(tiny_sam2_video, embedding, memory)
    expected = expected.reshape(8, 8, 64).permute(2, 0, 1)[None]
    assert_near(found, expected)
    assert all(one is other for one, other in zip(fine, embedding[1:], strict=True))
    assert float((found - image).abs().max()) > 0.1


def test_tokens_without_a_cell_are_not_rotated(tiny_sam2_video, embedding, memory):
    """Their order does not matter then, unlike that of tokens with cells."""
    order = torch.randperm(len(memory.cells), generator=torch.Generator().manual_seed(3))
    mixed = Recollection(*(part[:, order] for part in memory[:2]), memory.cells[order])
    with torch.inference_mode():
        expected = FAMILY.recall(tiny_sam2_video, embedding, memory)[0]
        assert_near(FAMILY.recall(tiny_sam2_video, embedding, mixed)[0], expected)
        wrong = memory._replace(cells=(memory.cells + 1) % CELLS)
        other = FAMILY.recall(tiny_sam2_video, embedding, wrong)[0]
    assert float((other - expected).abs().max()) > 1e-3


@pytest.mark.parametrize("multimask_output", [True, False])
def test_objects_are_tracked_as_transformers_does(tiny_sam2_video, embedding, multimask_output):
    bias = tiny_sam2_video.mask_decoder.pred_obj_score_head.proj_out.bias
    bias.data.fill_(50.0)  # the object is there, so that transformers changes nothing
    image, s1, s0 = FAMILY.recall(tiny_sam2_video, embedding, None)
    with torch.inference_mode():
        expected = tiny_sam2_video._single_frame_forward(
            input_boxes=BOX, image_embeddings=[s0, s1, image], multimask_output=multimask_output
        )
        found = FAMILY.track(tiny_sam2_video, (image, s1, s0), multimask_output, input_boxes=BOX)
    best = int(found.ious[0, 0].argmax())
    assert found.masks.shape == (1, 1, 3 if multimask_output else 1, 32, 32)
    assert_near(found.masks[0, 0, best], expected.pred_masks[0, 0])
    assert_near(found.pointers[0, 0, best], expected.object_pointer.flatten())
    assert_near(found.scores, expected.object_score_logits)


def test_a_frame_is_remembered_as_transformers_does(tiny_sam2_video, embedding):
    logits = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(4))
    scores = torch.tensor([[3.0], [-3.0]])  # the second object is not there
    image = embedding[0].flatten(2).permute(2, 0, 1).expand(-1, 2, -1)
    with torch.inference_mode():
        expected, positions = tiny_sam2_video._encode_new_memory(
            image, logits, scores[..., None], False
        )
        tokens, found = FAMILY.remember(
            tiny_sam2_video, embedding, logits.sigmoid() * 20 - 10, scores
        )
    torch.testing.assert_close(
        tokens, expected.float().transpose(0, 1), atol=0.02, rtol=0.01
    )  # transformers keeps bfloat16
    assert_near(found, positions[:, 0].float())


def test_the_engine_gives_a_session_what_it_needs(tiny_sam2_video, embedding, memory):
    engine = TorchVideoEngine(FAMILY, tiny_sam2_video, "float")
    assert isinstance(engine, VideoEngine)
    assert isinstance(engine.memory, MemoryNumbers)
    assert (engine.memory.frames, engine.memory.pointers, engine.memory.conditioning) == (7, 16, -1)
    assert engine.memory.frame_times.shape == (7, 64)
    frame = tuple(part[0].numpy() for part in embedding)
    recalled = engine.recall(
        frame, Recalled(memory.values[0].numpy(), memory.positions[0].numpy(), memory.cells.numpy())
    )
    unseen = Prompts(points=np.zeros((1, 1, 2), np.float32), labels=-np.ones((1, 1), np.int64))
    tracked = engine.track(recalled, unseen, multimask_output=True)
    assert tracked.masks.shape == (1, 3, 32, 32) and tracked.pointers.shape == (1, 3, 64)
    tokens, positions = engine.remember(frame, np.zeros((2, 128, 128), np.float32), np.ones((2, 1)))
    assert tokens.shape == (2, 64, 64) and positions.shape == (64, 64)


def test_the_kernel_of_mask_prompts_is_the_models_convolution(tiny_sam2_video):
    weight, bias = TorchVideoEngine(FAMILY, tiny_sam2_video, "float").memory.mask_kernel
    mask = (np.random.default_rng(0).random((128, 128)) > 0.5).astype(np.float32)
    found = (mask.reshape(32, 4, 32, 4).transpose(0, 2, 1, 3) * weight).sum((2, 3)) + bias
    with torch.inference_mode():
        expected = tiny_sam2_video.mask_downsample(torch.from_numpy(mask)[None, None])[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
