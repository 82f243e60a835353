"""AP against calibration seconds at W4A4: fewer steps for the same accuracy?

    python benchmarks/calibration_curve.py DATA [--threads 2]

Strict AP on val_dev, one seed, at several numbers of optimiser steps: of every unit, or of the
polish. Started again it goes on where it was. The numbers go to
benchmarks/results/calibration_curve.json.
"""

from pathlib import Path

from accuracy_jobs import Job, main

from carsam.methods import make_recipe

RESULT = Path(__file__).parent / "results" / "calibration_curve.json"
TRAINED = {
    "qdrop": "reconstruct",
    "ahcqsam": "reconstruct",
    "carsam": "reconstruct",
    "carsam-plus": "polish",
}
STEPS = (50, 100, 200, 400, 800, 1600)

JOBS = {
    f"{name}, {steps} steps": Job(
        make_recipe(name, "w4a4", settings=(f"{trained}.steps={steps}",)),
        0,
        {"name": name, "steps": steps},
    )
    for steps in STEPS
    for name, trained in TRAINED.items()
}

if __name__ == "__main__":
    main(JOBS, RESULT, __doc__ or "")
