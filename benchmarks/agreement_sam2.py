"""How far native execution agrees with simulation on SAM 2 of full size, with random weights.

    python benchmarks/agreement_sam2.py [--models sam2-hiera-tiny,...] [--bits w4a4]

One image of noise and three boxes go through both engines; codes of every operand, the parts of
the embedding and the masks' pixels are compared. The numbers go to
benchmarks/results/agreement_sam2.json, one entry per model and bits; those of others that the file
has already are kept."""

import argparse
import json
from pathlib import Path

from provenance import provenance
from random_runs import HIERA, random_run

from carsam.benchmark.inputs import boxes, pixels
from carsam.diagnosis.codes import compare_codes
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine

TARGET = Path(__file__).parent / "results" / "agreement_sam2.json"


def measure(name: str, bits: str) -> dict:
    """Return what of one model is equal in both engines."""
    model = random_run(name, bits)
    native = NativeEngine(model.to_checkpoint())
    simulated = TorchEngine(model.family, model.module, "simulated")
    side = native.framing.side
    image, prompts = pixels(side), boxes(3, side)
    embedding = native.encode(image)
    parts = zip(embedding, simulated.encode(image), strict=True)
    masks, expected = (e.decode(embedding, prompts, True)[0] > 0 for e in (native, simulated))
    found = compare_codes(model, native, image, prompts)
    return {
        "embedding_differing": sum(int((one != other).sum()) for one, other in parts),
        "operands": len(found),
        "codes": sum(one.codes for one in found),
        "codes_differing": sum(one.differing for one in found),
        "pixels": masks.size,
        "pixels_differing": int((masks != expected).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(HIERA))
    parser.add_argument("--bits", default="w4a4")
    arguments = parser.parse_args()
    before = json.loads(TARGET.read_text())["runs"] if TARGET.exists() else {}
    result = {**provenance("torch", "transformers", "numpy"), "runs": before}
    for name in arguments.models.split(","):
        numbers = measure(name, arguments.bits)
        result["runs"][f"{name} {arguments.bits}"] = numbers
        print(f"{name}: {json.dumps(numbers)}")
        TARGET.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
