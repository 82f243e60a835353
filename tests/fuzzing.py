"""Requests that are wrong in many ways, for whatever answers in JSON."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -0.0, 2**63]))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=20),
    st.sampled_from(["data:image/png;base64,", "/etc/passwd", "../x", "\ud800", "0" * 64, "<a/>"]),
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def check(reply) -> None:
    """An answer, or a refusal in a sentence; never a fault of the server's own."""
    assert reply.status < 500, reply.body
    if reply.status != 200:
        assert reply.json["success"] is False
        assert reply.error.endswith("."), reply.error


def places(value, path=()):
    """Yield the way to every value within a request."""
    yield path
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from places(value[key], (*path, key))


def changed(value, path, new):
    """Return a copy of a request with another value at a place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy
