"""The quantizer that transformers finds by the name `carsam` in a model's configuration.

transformers builds the float model, this one puts the packed tensors of a run in place of the
quantized weights, transformers loads them, and this one unpacks them and makes the simulation.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from carsam.errors import UserError, few
from carsam.families import family_of
from carsam.families.sam2_video.sites import ATTENTION, ENCODER, POINTER
from carsam.formats.checkpoint import Checkpoint, check_values
from carsam.formats.grid_layouts import site_tensors
from carsam.formats.manifest import READ, VERSION, check_sites
from carsam.formats.refusal import refusing_tensors
from carsam.hugging_face.gradients import compute_without_gradients_
from carsam.hugging_face.names import ENGINE_KEY, ENGINES, METHOD
from carsam.hugging_face.native import NativeVisionEncoder, run_natively_
from carsam.simulation.model import QuantizedModel, fill_


@register_quantization_config(METHOD)
class CarsamConfig(QuantizationConfigMixin):
    """What a run's manifest says of its model, under the same keys.

    Args:
        sites: the quantized sites, by module path.
        version: of the manifest.
        provenance: source, recipe, seed, calibration and whatever else the manifest holds.
    """

    def __init__(self, sites: Any = None, version: Any = None, **provenance: Any) -> None:
        provenance.pop("quant_method", None)
        self.quant_method: Any = METHOD
        self.version, self.sites = version, sites
        self.__dict__.update(provenance)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the model besides its sites."""
        known = ("quant_method", "version", "sites", "family")
        return {key: value for key, value in self.__dict__.items() if key not in known}

    def check(self) -> None:
        """Refuse what no carsam wrote, before anything is built from it.

        Raises:
            UserError: says what is wrong.
        """
        if self.version not in READ:
            raise UserError(
                f"The configuration has version {self.version} of carsam's format; this carsam "
                f"reads up to {VERSION}. Install the carsam that wrote it, or export again."
            )
        if not isinstance(self.sites, dict):
            raise UserError("The configuration is damaged: it lacks sites. Export the run again.")
        try:
            check_sites(self.sites)
        except ValueError as error:
            raise UserError(
                f"The configuration is damaged: {error}. Export the run again."
            ) from error


@register_quantizer(METHOD)
class CarsamQuantizer(HfQuantizer):
    """Loads and saves quantized models of carsam; quantizing itself is `carsam quantize`."""

    requires_calibration = True
    quantization_config: CarsamConfig

    def validate_environment(self, *_: Any, **__: Any) -> None:
        """Refuse a configuration that no carsam wrote."""
        self.quantization_config.check()

    def update_attn_implementation(self, config: Any) -> Any:
        """Take the sentence away that stops transformers where this quantizer is not registered."""
        config.transformers_weights = None
        self._engine = getattr(config, ENGINE_KEY, ENGINES[0])
        if self._engine not in ENGINES:
            raise UserError(
                f"Engine {self._engine!r} is not known; expected {' or '.join(ENGINES)}."
            )
        return config

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Compute in float32, whatever was asked for; other types give other codes."""
        if dtype != torch.float32:
            warnings.warn(
                f"Quantized models of carsam compute in float32, not {dtype}.", stacklevel=2
            )
        return torch.float32

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Sequence[str] = (), **_: Any
    ) -> None:
        if hasattr(model, "memory_attention"):
            raise UserError(
                f"{type(model).__name__} follows objects through videos, which a quantized model "
                "does with carsam only: `carsam track`. For images load it as Sam2Model."
            )
        family = family_of(model.config.model_type)
        sites = self.quantization_config.sites
        if family.name == "sam2_video":  # for images, without the memory
            sites = {
                path: site
                for path, site in sites.items()
                if not path.startswith((ENCODER, ATTENTION, POINTER))
            }
            self.quantization_config.sites = sites
        strange = sites.keys() - {site.path for site in family.sites(model)}
        if strange:
            raise UserError(f"The configuration has sites that its model lacks: {few(strange)}.")
        for path, site in sites.items():
            if site["weight"] is not None:
                del model.get_submodule(path).weight
        for name, type_, shape in self._stored():
            owner, leaf = name.rpartition(".")[::2]
            empty = torch.empty(shape, dtype=_TYPES[np.dtype(type_)], device="meta")
            model.get_submodule(owner).register_buffer(leaf, empty)
        _check_files(model, checkpoint_files)

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> None:
        family = family_of(model.config.model_type)
        sites, device = self.quantization_config.sites, model.device
        tensors = _to_numpy(model)
        for name, _type, _shape in self._stored():
            owner, leaf = name.rpartition(".")[::2]
            delattr(model.get_submodule(owner), leaf)
        check_values(sites, tensors, model.config.name_or_path)
        for path, site in sites.items():
            if site["weight"] is not None:
                weight = torch.empty(site["weight"]["shape"], device="meta")
                model.get_submodule(path).weight = nn.Parameter(weight, requires_grad=False)
        fill_(family, model, sites, tensors)
        model.to(device)
        if self._engine == "native":
            run_natively_(model, self._checkpoint(model, tensors))
        compute_without_gradients_(model)

    def get_state_dict_and_metadata(self, model: Any) -> tuple[Any, dict[str, str]]:
        """Return the tensors of the run, for `save_pretrained`."""
        if isinstance(model.vision_encoder, NativeVisionEncoder):
            raise UserError(
                "A model that runs natively no longer holds its weights; copy the folder it was "
                'loaded from, or load it with engine="simulated" and save that.'
            )
        provenance = self.quantization_config.provenance
        run = QuantizedModel(family_of(model.config.model_type), model, provenance).to_checkpoint()
        tensors = {**run.tensors, **refusing_tensors(self.quantization_config.sites)}
        return {name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}, {}

    def is_serializable(self) -> bool:
        """Whether `save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether a Trainer may have the model."""
        return False

    def _stored(self) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
        """Yield name, type and shape of the tensors that no float model has."""
        sites = self.quantization_config.sites
        for path, site in sites.items():
            yield from site_tensors(path, site)
        for name, tensor in refusing_tensors(sites).items():
            yield name, tensor.dtype, tensor.shape

    def _checkpoint(self, model: Any, tensors: Mapping[str, np.ndarray]) -> Checkpoint:
        config = self.quantization_config
        manifest = {
            "family": model.config.model_type,
            "model_config": model.config.to_dict(),
            "sites": config.sites,
        }
        return Checkpoint(manifest, tensors)


_TYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32}


def _to_numpy(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}


def _check_files(model: Any, files: Sequence[str]) -> None:
    """Refuse files that lack a tensor: transformers would go on with random numbers.

    Raises:
        UserError: names tensors that are missing or of another shape.
    """
    held: dict[str, tuple[int, ...]] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            held |= {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    tied = model._tied_weights_keys or ()
    wrong = [
        name
        for name, tensor in model.state_dict().items()
        if name not in tied and held.get(name) != tuple(tensor.shape)
    ]
    if wrong:
        raise UserError(
            f"{', '.join(files)} does not fit its config.json: {few(wrong)} is missing or of "
            "another shape. Copy or download the folder again."
        )
