"""sam2-mini, a small SAM 2 for videos, trained by `training/sam2_mini`."""

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

from carsam.families.mini import DECODER_WIDTH, IMAGE_SIZE

WIDTHS = (32, 64, 128, 256)


def sam2_mini_config() -> Sam2VideoConfig:
    """The architecture: Hiera of 13 blocks, two of them global, on 48 x 48 cells; a decoder of
    sam-mini's shapes; a memory attention of 3 layers.

    Windows divide every stage of the canvas and of a quarter of it, so that nothing is padded.
    """
    cells = [IMAGE_SIZE // stride for stride in (4, 8, 16)]
    backbone = Sam2HieraDetConfig(
        image_size=[IMAGE_SIZE, IMAGE_SIZE],
        hidden_size=WIDTHS[0],
        embed_dim_per_stage=list(WIDTHS),
        num_attention_heads_per_stage=[width // 32 for width in WIDTHS],
        blocks_per_stage=[1, 2, 8, 2],
        global_attention_blocks=[6, 9],
        window_size_per_stage=[8, 4, 12, 6],
        window_positional_embedding_background_size=[12, 12],
    )
    return Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=list(WIDTHS[::-1]),
            backbone_feature_sizes=[[size, size] for size in cells],
            fpn_hidden_size=DECODER_WIDTH,
        ),
        prompt_encoder_config={"hidden_size": DECODER_WIDTH, "image_size": IMAGE_SIZE},
        mask_decoder_config={
            "hidden_size": DECODER_WIDTH,
            "mlp_dim": 512,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": DECODER_WIDTH,
        },
        image_size=IMAGE_SIZE,
        memory_attention_hidden_size=DECODER_WIDTH,
        memory_attention_num_layers=3,
        memory_attention_feed_forward_hidden_size=512,
        memory_attention_rope_feat_sizes=[cells[2], cells[2]],
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_encoder_hidden_size=DECODER_WIDTH,
        mask_downsampler_embed_dim=DECODER_WIDTH,
        memory_fuser_embed_dim=DECODER_WIDTH,
        memory_fuser_intermediate_dim=512,
    )
