"""The models of an export, with the tensor names of samexporter."""

from dataclasses import dataclass

import numpy as np
import onnx

from carsam.errors import UnsupportedError, UserError
from carsam.export.onnx.decoder import decode, mask_of
from carsam.export.onnx.encoder import encode
from carsam.export.onnx.framing import photo_mask, pixels_of, square_mask
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.prompts import dense_embedding, image_positions, point_tokens
from carsam.formats.checkpoint import Checkpoint
from carsam.runtime.networks import Sam, read_sam
from carsam.runtime.weights import Weights

USUAL_SIDE = 1024
"""Input of Meta's SAM: what AnyLabeling, X-AnyLabeling and samexporter take every model's to be."""

NCHW, HWC = "x", "input_image"
"""Inputs of an encoder: prepared pixels, by the name that osam asks for, or a photo."""

FAMILIES = ("sam",)


@dataclass(frozen=True)
class Exporter:
    """Writes the models of one checkpoint.

    Args:
        exact: computes every number as the native engine does, to the bit.
        properties: metadata of the models.
    """

    network: Sam
    exact: bool
    properties: dict[str, str]

    @property
    def side(self) -> int:
        """Side of the model's square input, in pixels."""
        return self.network.framing.side

    def encoder_of_pixels(self, watched: bool = False) -> onnx.ModelProto:
        """Return the encoder of normalised, padded pixels (1, 3, S, S).

        Args:
            watched: also return the tokens that every block and the neck get, as `state_0` on.
        """
        graph = Graph(self.exact)
        embedding, states = encode(graph, NCHW, self.network.encoder)
        outputs = self._embedding(graph, embedding)
        if watched:
            for number, state in enumerate(states):
                outputs[graph("Identity", state, name=f"state_{number}")] = ["tokens", "channels"]
        return graph.model({NCHW: [1, 3, self.side, self.side]}, outputs, self.properties)

    def encoder_of_photos(self) -> onnx.ModelProto:
        """Return the encoder of RGB photos (h, w, 3) of any size, float32 of 0 to 255."""
        graph = Graph(self.exact)
        embedding, _ = encode(graph, pixels_of(graph, HWC, self.side), self.network.encoder)
        shape = ["image_height", "image_width", 3]
        return graph.model({HWC: shape}, self._embedding(graph, embedding), self.properties)

    def decoder_of_points(self, frame: int) -> onnx.ModelProto:
        """Return the decoder of one prompt: points, box corners and a mask.

        It chooses among the masks as segment-anything's `SamOnnxModel` does: mask 0 for more than
        two points, else the one of masks 1 to 3 with the highest predicted IoU.

        Args:
            frame: side of the square in whose pixels points are given.
        """
        graph, prompts, decoder = (
            Graph(self.exact),
            self.network.prompt_encoder,
            self.network.decoder,
        )
        size, channels = decoder.size, decoder.output_tokens.shape[1]
        low = 4 * size
        usual = low == USUAL_SIDE // 4
        mask = "mask_input" if usual else square_mask(graph, "mask_input", low)
        dense = dense_embedding(graph, mask, "has_mask_input", prompts, size)
        image = graph.reshape("image_embeddings", channels, size * size)
        image = graph("Add", graph.transpose(image, 1, 0), dense)
        tokens = point_tokens(graph, "point_coords", "point_labels", prompts, frame)
        positions = image_positions(graph, prompts.positions, size)
        kernels, ious, pixels = decode(graph, image, positions, tokens, decoder)
        best = _best(graph, ious, len(decoder.hypernetworks))
        graph("Gather", ious, best, axis=1, name="iou_predictions")
        chosen = mask_of(graph, pixels, graph("Gather", kernels, best, axis=0), size)
        graph("Identity", chosen, name="low_res_masks")
        photo_mask(graph, chosen, "orig_im_size", frame, "masks")
        return graph.model(
            {
                "image_embeddings": [1, channels, size, size],
                "point_coords": [1, "num_points", 2],
                "point_labels": [1, "num_points"],
                "mask_input": [1, 1, low, low] if usual else [1, 1, "mask_height", "mask_width"],
                "has_mask_input": [1],
                "orig_im_size": [2],
            },
            {
                "masks": [1, 1, "height", "width"],
                "iou_predictions": [1, 1],
                "low_res_masks": [1, 1, low, low],
            },
            self.properties,
        )

    def _embedding(self, graph: Graph, embedding: str) -> dict[str, list]:
        graph("Identity", embedding, name="image_embeddings")
        size = self.network.encoder.size
        return {"image_embeddings": [1, self.network.encoder.neck.conv2.outputs, size, size]}


def read_exporter(checkpoint: Checkpoint, exact: bool) -> Exporter:
    """Read what is exported of a checkpoint.

    Raises:
        UnsupportedError: its family, or one of its grids, has no ONNX form; it is named.
        UserError: a part is missing.
    """
    manifest = checkpoint.manifest
    if manifest["family"] not in FAMILIES:
        raise UnsupportedError(
            f"The checkpoint is of family {manifest['family']}; an ONNX export takes the families "
            f"{', '.join(FAMILIES)}. Run it with carsam."
        )
    properties = {
        "carsam.recipe": str(manifest.get("recipe", {}).get("name", "unknown")),
        "carsam.fingerprint": checkpoint.fingerprint,
        "carsam.exact": str(exact).lower(),
    }
    try:
        return Exporter(read_sam(Weights(checkpoint), manifest["model_config"]), exact, properties)
    except KeyError as error:
        raise UserError(
            f"The checkpoint's model configuration lacks {error}. Quantize the model again."
        ) from error


def _best(graph: Graph, ious: str, masks: int) -> str:
    """Return the number (1,) of the mask to give."""
    points = graph("Slice", graph("Shape", "point_labels"), np.array([1]), np.array([2]))
    # More than two points, the padding point included, ask for mask 0: its score is the highest.
    surplus = graph("Sub", graph.cast(points, np.float32), np.float32(2.5))
    preference = np.array([1000, *[0] * (masks - 1)], np.float32)
    scores = graph("Add", ious, graph("Mul", surplus, preference))
    return graph("ArgMax", scores, axis=1, keepdims=0)
