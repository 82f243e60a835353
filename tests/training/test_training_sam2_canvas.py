"""SAM 2 in training computes what transformers and the package do, on any part of its canvas."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from carsam.engines.video import MemoryNumbers  # noqa: E402 - after the checks for what it needs
from carsam.families.mini import load_sam_mini  # noqa: E402
from carsam.families.sam2_mini import sam2_mini_config  # noqa: E402
from carsam.families.sam2_video.family import Sam2VideoFamily  # noqa: E402
from carsam.families.video import Recollection  # noqa: E402
from carsam.video.arithmetic import to_bfloat16  # noqa: E402
from carsam.video.memory import ObjectMemory, Output  # noqa: E402

OFFSETS = [(0, 0), (192, 384)]


@pytest.fixture(scope="module")
def drawn_model():
    torch.manual_seed(0)
    model = transformers.Sam2VideoModel._from_config(
        sam2_mini_config(), attn_implementation="eager"
    )
    return model.eval()


@pytest.fixture
def model(drawn_model, training_modules):
    from sam2_mini.initial import initialise_encoder_, initialise_memory_

    initialise_encoder_(drawn_model.vision_encoder)
    initialise_memory_(drawn_model)
    return drawn_model


def test_the_encoder_is_that_of_transformers(model):
    from pictures import PIXEL_MEAN, PIXEL_STD
    from sam2_mini.hiera import CanvasHiera

    image = torch.randint(0, 256, (1, 3, 768, 768), dtype=torch.uint8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
    with torch.no_grad():
        found = CanvasHiera(model.vision_encoder)(image, (0, 0))
        expected = model.vision_encoder((image - mean) / std).fpn_hidden_states
    for level, wanted in zip(found, reversed(expected), strict=True):
        torch.testing.assert_close(level, wanted.view_as(level), atol=1e-4, rtol=1e-4)


def test_the_place_of_a_window_matters(model):
    from sam2_mini.hiera import CanvasHiera

    image = torch.randint(0, 256, (1, 3, 192, 192), dtype=torch.uint8)
    hiera = CanvasHiera(model.vision_encoder)
    with torch.no_grad():
        here, there = (hiera(image, offset)[0] for offset in OFFSETS)
    assert here.shape == there.shape == (1, 128, 12, 12)
    assert (here - there).abs().max() > 1e-3


@pytest.mark.parametrize("several", [False, True])
def test_all_four_masks_are_those_of_transformers(model, several):
    from sam2_mini.decoder import Levels, decode, embed_prompts, no_mask

    sizes = (128, 48), (32, 96), (16, 192)
    levels = Levels(*(torch.randn(1, channels, side, side) for channels, side in sizes))
    boxes = torch.rand(1, 2, 4) * 768
    with torch.no_grad():
        sparse = embed_prompts(model, (0, 0), boxes=boxes)
        found = decode(model, levels, (0, 0), sparse, no_mask(model))
        expected = model.mask_decoder.train()(
            image_embeddings=levels.coarse,
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=no_mask(model),
            multimask_output=several,
            high_resolution_features=[levels.fine, levels.middle],
        )
    part = slice(1, None) if several else slice(0, 1)
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(ours[:, :, part], theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.scores[..., None], expected[3])


def test_with_sam_minis_decoder_masks_are_nearly_sam_minis(model):
    from sam2_mini.decoder import Levels, decode, embed_prompts, no_mask
    from sam2_mini.initial import take_decoder_
    from sam_mini.canvas import CanvasSam

    sam = load_sam_mini()
    take_decoder_(model, sam)
    pixels = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    pixels[..., 60:180, 90:200] = 200
    boxes = torch.tensor([[[90.0, 60, 200, 180]]])
    canvas = CanvasSam(sam, torch.float32)
    with torch.no_grad():
        image = canvas.encode(pixels, (0, 0))
        theirs = sam.prompt_encoder(None, None, boxes, None)[0]
        nothing = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        wanted, wanted_iou = canvas.decode(image, (0, 0), theirs, nothing)
        fine = torch.zeros(1, 32, 32, 32), torch.zeros(1, 16, 64, 64)
        sparse = embed_prompts(model, (0, 0), boxes=boxes)
        found = decode(model, Levels(image, *fine), (0, 0), sparse, no_mask(model))
    both = (found.masks[0, 0, 0] > 0, wanted[0, 0, 0] > 0)
    assert (both[0] & both[1]).sum() > 0.9 * (both[0] | both[1]).sum() > 100
    assert abs(found.ious[0, 0, 0] - wanted_iou[0, 0, 0]) < 0.25  # a box's third token lowers it


def test_a_frame_is_remembered_as_the_package_does(model):
    from sam2_mini.memory import CanvasMemory

    coarse, logits = torch.randn(2, 128, 48, 48), torch.randn(2, 192, 192) * 5
    tokens, scores = torch.randn(2, 128), torch.tensor([3.0, -1.0])
    with torch.no_grad():
        found = CanvasMemory(model).remember(coarse, logits, tokens, scores)
        absent = torch.full_like(logits, -1024)
        low = torch.where((scores > 0)[:, None, None], logits, absent)[:, None]
        mask = torch.nn.functional.interpolate(low, (768, 768), mode="bilinear").sigmoid()
        for i in range(2):
            expected, _ = Sam2VideoFamily().remember(
                model, (coarse[i : i + 1],), mask[i : i + 1] * 20 - 10, scores[i : i + 1, None]
            )
            torch.testing.assert_close(found.tokens[i : i + 1], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.pointers[0], model.object_pointer_proj(tokens[0]))
        assert torch.equal(found.pointers[1], model.no_object_pointer[0])


def test_a_frame_recalls_what_a_session_recalls(model):
    from sam2_mini.memory import CanvasMemory, Remembered

    frame = 3
    kept = [Remembered(torch.randn(1, 2304, 64), torch.randn(1, 128)) for _ in range(frame)]
    kept = [each._replace(tokens=each.tokens.bfloat16().float()) for each in kept]
    coarse = torch.randn(1, 128, 48, 48)
    parameters = {name: p.detach().numpy() for name, p in model.named_parameters()}
    memory = ObjectMemory(MemoryNumbers.read(model.config.to_dict(), parameters.__getitem__))
    positions = model.memory_encoder.position_encoding((1, 64, 48, 48), "cpu", torch.float32)
    positions = positions[0].flatten(1).T.numpy()
    for i, each in enumerate(kept):
        tokens = to_bfloat16(each.tokens[0].numpy())
        output = Output(np.zeros(1), each.pointers[0].numpy(), 1.0, tokens, positions)
        (memory.followed if i else memory.prompted)[i] = output
        memory.directions[i] = False
    recalled = memory.recall(frame, 100, False)
    values, places = (torch.from_numpy(part)[None] for part in recalled[:2])
    with torch.no_grad():
        found = CanvasMemory(model).recall(coarse, (0, 0), dict(enumerate(kept)), frame)
        expected = Sam2VideoFamily().recall(
            model, (coarse,), Recollection(values, places, torch.from_numpy(recalled.cells))
        )
    torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=1e-4)


def test_parameters_are_rounded_for_a_call_and_buffers_are_not():
    from sam2_mini.rounded import Rounded

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.same = self.inner
            self.table = torch.nn.Buffer(torch.tensor(1 / 3))

        def forward(self):
            return self.same.bias.dtype, self.table.dtype, self.inner.bias.sum()

    module = Sum()
    weights = dict(module.named_parameters())
    *dtypes, value = Rounded(module, torch.bfloat16)()
    value.backward()
    assert dtypes == [torch.bfloat16, torch.float32]
    assert module.inner.bias.grad.tolist() == [1, 1]
    for name, parameter in module.named_parameters():
        assert parameter is weights[name] and parameter.dtype == torch.float32
