"""sam-mini, the bundled small Segment Anything model, trained from scratch by `training/`."""

from importlib.resources import as_file, files

from safetensors.torch import load_file
from transformers import SamConfig, SamModel

IMAGE_SIZE = 768
PATCH_SIZE = 16
DECODER_WIDTH = 128


def load_sam_mini() -> SamModel:
    """Build sam-mini with its packaged weights, in float32 and evaluation mode."""
    packaged = files("carsam") / "models" / "sam-mini"
    with as_file(packaged / "config.json") as path:
        config = SamConfig.from_json_file(path)
    with as_file(packaged / "model.safetensors") as path:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    model = SamModel(config)
    model.load_state_dict(weights)
    return model.eval()


def sam_mini_config() -> SamConfig:
    """The architecture: 48 x 48 tokens, 8 blocks of width 192 (two global), decoder width 128."""
    return SamConfig(
        vision_config={
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "hidden_size": 192,
            "mlp_dim": 768,
            "num_hidden_layers": 8,
            "num_attention_heads": 3,
            "window_size": 8,
            "global_attn_indexes": [3, 7],
            "output_channels": DECODER_WIDTH,
            "num_pos_feats": DECODER_WIDTH // 2,
            "initializer_range": 0.02,
            "scale": 2.0,  # of the Fourier features; the default, half the width, makes them noise
        },
        prompt_encoder_config={
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "hidden_size": DECODER_WIDTH,
        },
        mask_decoder_config={
            "hidden_size": DECODER_WIDTH,
            "mlp_dim": 512,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": DECODER_WIDTH,
        },
    )
