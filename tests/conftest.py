"""Fixtures shared by all tests; heavy packages are imported inside the fixtures that need them."""

import functools
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("carsam", deadline=None)  # a busy machine is no failure
settings.register_profile("few", deadline=None, max_examples=10)  # for scripts/sanitize.sh
settings.load_profile("carsam")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models lose more to threads than they gain

CLIENTS = Path(__file__).parents[1] / "build" / "clients"
"""What `scripts/clients.sh` installs."""


@pytest.fixture
def limited_files() -> Callable[[int], AbstractContextManager[None]]:
    """Function (bytes) -> a context in which no file can grow beyond them, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited_files(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited_files


@pytest.fixture(scope="session")
def coco_data() -> Path:
    """COCO data: the folder `$CARSAM_TEST_DATA`, or `shared/data/coco` beside the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data" / "coco"
    folder = Path(os.environ.get("CARSAM_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs COCO data: no folder {folder} (set CARSAM_TEST_DATA)")
    return folder


@pytest.fixture
def tiny_sam(randomise_):
    """A random SamModel: 64 pixels, 8 x 8 tokens, windows of 3 (padded) and one global block."""
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "output_channels": 32,
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 64,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "num_attention_heads": 4,
            "mlp_dim": 64,
            "iou_head_hidden_dim": 32,
        },
    )
    model = SamModel(config).eval()
    randomise_(model)
    return model


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """Folder for what is made once and copied for every test."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def run(tiny_sam, image_folder, kept, tmp_path) -> Path:
    """Run of `tiny_sam` in `kept / "model"`: rounded to nearest, W4A4."""
    from carsam.calibration.quantize import quantize

    if not (kept / "run").exists():
        tiny_sam.save_pretrained(kept / "model")
        quantize(kept / "model", image_folder, "rtn", count=1).save(kept / "run")
    return Path(shutil.copytree(kept / "run", tmp_path / "run"))


@pytest.fixture
def tiny_sam_hq(tiny_sam, randomise_):
    """A random SamHQModel of the same sizes as `tiny_sam`."""
    from transformers import SamHQConfig, SamHQModel

    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    config = {part: getattr(tiny_sam.config, part).to_dict() for part in parts}
    config["mask_decoder_config"]["vit_dim"] = 32
    model = SamHQModel(SamHQConfig(**config)).eval()
    randomise_(model)
    return model


@pytest.fixture
def quantized_pair(tiny_sam) -> Callable:
    """Function that quantizes `tiny_sam`; see `tiny_runs.quantized_pair`."""
    from tiny_runs import quantized_pair

    return functools.partial(quantized_pair, tiny_sam)


@pytest.fixture
def tiny_sam2(sam2_of):
    """A random Sam2Model: 128 pixels, stages of 32, 16, 8 and 4 tokens a side, the last two padded.

    Every kind of block is there: pooled or not, with windows or global.
    """
    return sam2_of(32)


@pytest.fixture
def sam2_of(randomise_):
    """Function (width, parts of `_tiny_sam2_parts`) -> such a model, its embedding so wide."""
    from transformers import Sam2Config, Sam2Model

    def sam2_of(width, **parts):
        config = Sam2Config(**_tiny_sam2_parts(width, **parts))
        return _randomised_sam2(Sam2Model(config), randomise_)

    return sam2_of


@pytest.fixture
def tiny_sam2_video(randomise_):
    """A random Sam2VideoModel, whose image model is as `tiny_sam2` but twice as wide behind Hiera.

    Its memory attention has two layers; a pointer of 64 channels is one token.
    """
    from transformers import Sam2VideoConfig, Sam2VideoModel

    config = Sam2VideoConfig(**_tiny_sam2_parts(64), image_size=128, **_tiny_memory())
    return _randomised_sam2(Sam2VideoModel(config), randomise_)


@pytest.fixture
def tiny_sam3(randomise_):
    """A random Sam3TrackerModel: 112 pixels, 8 x 8 tokens, windows of 3 (padded), a global block.

    A level of the embedding has 32, 16 and 8 cells a side; a table of 3 x 3 positions is repeated.
    """
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    return _randomised_sam2(Sam3TrackerModel(Sam3TrackerConfig(**_tiny_sam3_parts(32))), randomise_)


@pytest.fixture
def tiny_sam3_video(randomise_):
    """A random Sam3TrackerVideoModel with the memory of `tiny_sam2_video`.

    Its masks of 112 pixels are enlarged to 128 before they are remembered.
    """
    from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

    config = Sam3TrackerVideoConfig(**_tiny_sam3_parts(64), image_size=112, **_tiny_memory())
    return _randomised_sam2(Sam3TrackerVideoModel(config), randomise_)


def _randomised_sam2(model, randomise_):
    model.eval()
    randomise_(model)
    frequencies = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(frequencies)
    return model


def _tiny_sam2_parts(width, whole=(3,)):
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        embed_dim_per_stage=[16, 24, 32, 48],
        num_attention_heads_per_stage=[1, 2, 2, 4],
        blocks_per_stage=[1, 1, 3, 2],
        global_attention_blocks=list(whole),
        window_size_per_stage=[8, 4, 6, 3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[48, 32, 24, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=width,
    )
    return {"vision_config": vision, **_tiny_decoder(width, image_size=128)}


def _tiny_sam3_parts(width):
    from transformers.models.sam3.configuration_sam3 import Sam3VisionConfig, Sam3ViTConfig

    backbone = Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=112,
        window_size=3,
        global_attn_indexes=[1],
        pretrain_image_size=42,
    )
    vision = Sam3VisionConfig(
        backbone_config=backbone,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=width,
    )
    return {"vision_config": vision, **_tiny_decoder(width, image_size=112, patch_size=14)}


def _tiny_decoder(width, **prompts):
    decoder = {"num_attention_heads": 4, "mlp_dim": 64, "iou_head_hidden_dim": 32}
    return {
        "prompt_encoder_config": {"hidden_size": width, **prompts},
        "mask_decoder_config": {"hidden_size": width, **decoder},
    }


def _tiny_memory():
    return {
        "memory_attention_hidden_size": 64,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 96,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_encoder_hidden_size": 64,
        "mask_downsampler_embed_dim": 64,
        "memory_fuser_embed_dim": 64,
        "memory_fuser_intermediate_dim": 96,
    }


@pytest.fixture(scope="session")
def randomise_() -> Callable:
    """Function that draws all weights of a SAM, of transformers or Meta, anew from a seed."""
    import torch

    @torch.no_grad()
    def randomise_(model: torch.nn.Module, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                tensor.copy_(0.2 * noise + (name.endswith("weight")))  # weights of norms near 1
            elif name.endswith("pos_embed"):
                tensor.copy_(0.2 * noise)
            elif "positional_e" in name:  # the random frequencies of coordinates
                tensor.copy_(noise)
            else:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)

    return randomise_


@pytest.fixture(scope="session")
def segment_anything():
    """Meta's package; it imports torchvision, whose functions `torchvision_parts` provides."""
    if "segment_anything" not in sys.modules:
        from torchvision_parts import modules

        parts = modules()
        sys.modules.update(parts)
        try:
            pytest.importorskip("segment_anything")
        finally:
            for name in parts:  # transformers must not believe that torchvision is there
                del sys.modules[name]
    return importlib.import_module("segment_anything")


@pytest.fixture(scope="session")
def client() -> Callable[[str], Path]:
    """Function that gives the folder in which a program of others is installed."""

    def folder(name: str) -> Path:
        found = CLIENTS / name
        if not found.is_dir():
            pytest.skip(f"needs {name}: sh scripts/clients.sh")
        return found

    return folder


@pytest.fixture
def photo() -> np.ndarray:
    """A procedural RGB image (90, 120, 3) with smooth shades, edges and noise."""
    rows, columns = np.mgrid[:90, :120]
    shades = np.stack([rows * 2, columns * 2, (rows + columns)], axis=-1).astype(np.float64)
    shades[(rows - 40) ** 2 + (columns - 70) ** 2 < 500] = (220, 40, 90)
    shades += np.random.default_rng(0).normal(0, 10, shades.shape)
    return np.clip(shades, 0, 255).astype(np.uint8)


@pytest.fixture
def image_folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder with four small JPEGs."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(np.roll(photo, 20 * index, axis=1)).save(folder / f"{index}.jpg")
    return folder


@pytest.fixture
def quantized_sam2_video(tiny_sam2_video) -> Callable:
    """Function that quantizes `tiny_sam2_video`, or another `model`; see `tiny_runs.quantize`."""
    from tiny_memory import tracked
    from tiny_runs import quantize

    from carsam.engines.torch_video_engine import TorchVideoEngine
    from carsam.families.sam2_video.family import Sam2VideoFamily

    def quantized(weights: Callable, operands: Callable, model: Any = None) -> Any:
        family = Sam2VideoFamily()
        return quantize(
            family,
            model or tiny_sam2_video,
            lambda model: tracked(TorchVideoEngine(family, model, "simulated")),
            weights,
            operands,
        )

    return quantized
