"""Build the other runtimes' models that `carsam bench --against` measures, ahead of time.

    python benchmarks/build_peers.py RUN FOLDER [FORMAT...]

The work is in `carsam.benchmark.peers`, with the runtimes' public packages only: `build` exports
ONNX from transformers, `onnx_int8` makes ONNX Runtime's int8 models, `openvino_files` OpenVINO's.
"""

import sys
from pathlib import Path

from carsam.benchmark.peers.build import BUILDERS, build

if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]), sys.argv[3:] or list(BUILDERS))
