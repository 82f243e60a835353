"""A contender's process, as its parent sees it."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from carsam.benchmark.contenders import Contender
from carsam.errors import UserError
from carsam.system import python_command

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LINES_SHOWN = 5


class Process:
    """Runs `carsam.benchmark.worker` for one contender.

    Args:
        contender: the row.
        threads: it computes with.
        environment: variables that the process gets besides.
    """

    def __init__(self, contender: Contender, threads: int, environment: Mapping[str, str]) -> None:
        self.contender = contender
        variables = {**environment, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        if contender.instruction_set is not None:
            variables["CARSAM_ISA"] = contender.instruction_set
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                *python_command("carsam.benchmark.worker"),
                *(contender.runner, str(contender.folder), str(threads)),
            ],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )

    def ask(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Have a task done; return the worker's reply.

        Raises:
            UserError: the process ended; the message has the last lines it wrote.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(task), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._failure(task["do"])
        return json.loads(line)

    def end(self) -> None:
        """End the process and give back its memory."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _failure(self, task: str) -> UserError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()[-LINES_SHOWN:]
        reason = "was killed; is there enough memory?" if code == -9 else f"ended with code {code}:"
        return UserError(
            "\n".join([f"{self.contender.name} cannot {task}: its process {reason}", *said])
        )
