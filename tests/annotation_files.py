"""What an annotation wrote."""

import json
from pathlib import Path


def shards(folder: Path) -> list[dict]:
    """The documents of all shards of a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("shard-*.json"))]


def rows(folder: Path, key: str) -> list[dict]:
    """What all shards have under a key."""
    return [row for shard in shards(folder) for row in shard[key]]
