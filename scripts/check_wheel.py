"""Whether wheels hold what they should, and nothing else.

python scripts/check_wheel.py WHEEL...
"""

import re
import sys
import zipfile
from pathlib import Path

LARGEST = 24 << 20
"""Bytes of a wheel."""

EXPECTED = (
    r"carsam/models/sam2?-mini/(config\.json|model\.safetensors)",
    r"carsam/models/sam-mini-w4a4/(carsam\.json|model\.safetensors)",
    r"carsam/[\w/]+\.(py|pyi|css|js|html|svg)",
    r"carsam/quickstart/photos\.json",
    r"carsam-[\w.]+\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|licenses/LICENSE)",
)
KERNELS = r"carsam/runtime/_kernels[\w.-]*\.(so|pyd)"
NEEDED = (
    "carsam/models/sam-mini/model.safetensors",
    "carsam/models/sam2-mini/model.safetensors",
    "carsam/models/sam-mini-w4a4/model.safetensors",
    "carsam/demo/static/index.html",
    "carsam/cli/__init__.py",
)


def main() -> None:
    found = [f"{path}: {problem}" for path in sys.argv[1:] for problem in problems(Path(path))]
    sys.exit("\n".join(found) if found else 0)


def problems(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel; one for any system has no kernels."""
    names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
    kernels = [name for name in names if re.fullmatch(KERNELS, name)]
    wanted = 0 if wheel.name.endswith("-any.whl") else 1
    found = [f"{name} is missing" for name in NEEDED if name not in names]
    found += [f"{name} is not expected" for name in names if not is_expected(name)]
    if len(kernels) != wanted:
        found.append(f"{len(kernels)} files of kernels instead of {wanted}")
    if wheel.stat().st_size > LARGEST:
        found.append(f"{wheel.stat().st_size} bytes; at most {LARGEST} are allowed")
    return found


def is_expected(name: str) -> bool:
    """Return whether a file may be in a wheel."""
    return any(re.fullmatch(pattern, name) for pattern in (*EXPECTED, KERNELS))


if __name__ == "__main__":
    main()
