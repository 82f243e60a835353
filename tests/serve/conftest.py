import pytest
from serving import RUN, serving

import carsam


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def engine():
    """What the server runs, in this process."""
    return carsam.load(RUN)
