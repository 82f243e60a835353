"""Run Python code in a process in which torch and transformers cannot be imported."""

import subprocess
import sys

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
"""


def run_without_torch(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `code`; `arguments` are its sys.argv[1:]."""
    command = [sys.executable, "-c", BLOCK + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)
