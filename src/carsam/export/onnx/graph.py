"""An ONNX graph as it grows: nodes in order, and constants that are stored once."""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
"""The first with tensors of 4 bits."""

IR_VERSION = 10
SMALL = 256
"""Numbers; larger constants are kept in 16 bits where that loses nothing."""

TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
}

Value = str | np.ndarray | np.generic
"""The name of a tensor, or a constant."""


class Graph:
    """Calling it adds a node: `graph("Add", x, np.float32(1))` returns the name of the sum.

    Args:
        exact: whether functions are to be computed by the formulas of `carsam.runtime.functions`
            rather than by operators, whose last bits a runtime is free to choose.
    """

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple, str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._numbers = itertools.count()

    def __call__(self, operator: str, *inputs: Value, name: str = "", **attributes: object) -> str:
        """Add a node with one output.

        Args:
            operator: of ONNX.
            inputs: names and constants; an empty name leaves an optional input out.
            name: of the output; made up unless given.
        """
        name = name or f"{operator}_{next(self._numbers)}"
        self._add(operator, inputs, [name], attributes)
        return name

    def split(self, tensor: str, parts: int, axis: int) -> list[str]:
        """Cut a tensor into equal parts along an axis."""
        names = [f"Split_{next(self._numbers)}" for _ in range(parts)]
        self._add("Split", (tensor,), names, {"axis": axis, "num_outputs": parts})
        return names

    def cast(self, tensor: Value, dtype: type[np.generic]) -> str:
        """Return a tensor in another type."""
        return self("Cast", tensor, to=TYPES[np.dtype(dtype)])

    def reshape(self, tensor: Value, *shape: int) -> str:
        """Return a tensor in another shape; one side may be -1, and 0 keeps a side."""
        return self("Reshape", tensor, np.array(shape, np.int64))

    def transpose(self, tensor: Value, *order: int) -> str:
        return self("Transpose", tensor, perm=list(order))

    def constant(self, array: Value) -> str:
        """Return the name of a constant, the same one for equal arrays."""
        if isinstance(array, str):
            return array
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._stored(array)
        return self._constants[key]

    def packed(self, codes: np.ndarray, name: str) -> str:
        """Return the name of a constant uint4 tensor: two codes a byte, the first in the low half.

        That is how a checkpoint packs 4-bit weights, too, where a row has an even number of them.

        Args:
            codes: uint8, 0 to 15.
        """
        flat = codes.ravel()
        flat = np.pad(flat, (0, flat.size % 2))
        data = (flat[::2] | flat[1::2] << 4).tobytes()
        tensor = helper.make_tensor(name, TensorProto.UINT4, codes.shape, data, raw=True)
        self._initializers.append(tensor)
        return name

    def model(
        self, inputs: dict[str, list], outputs: dict[str, list], properties: dict[str, str]
    ) -> onnx.ModelProto:
        """Return the checked model.

        Args:
            inputs, outputs: shape of each float32 tensor; a side is a number or a name.
            properties: metadata.
        """
        graph = helper.make_graph(
            self._nodes, "carsam", _described(inputs), _described(outputs), self._initializers
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="carsam",
        )
        helper.set_model_props(model, properties)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _add(
        self, operator: str, inputs: tuple[Value, ...], outputs: list[str], attributes: dict
    ) -> None:
        names = [self.constant(each) for each in inputs]
        self._nodes.append(helper.make_node(operator, names, outputs, outputs[0], **attributes))

    def _stored(self, array: np.ndarray) -> str:
        """Keep an array, in 16 bits where they hold it: runtimes widen it when they load it."""
        if array.size >= SMALL and array.dtype in (np.float32, np.float64):
            with np.errstate(over="ignore"):
                half = array.astype(np.float16)
            if np.array_equal(half, array):
                return self.cast(half, array.dtype.type)
        name = f"constant_{next(self._numbers)}"
        self._initializers.append(numpy_helper.from_array(array, name))
        return name


def _described(tensors: dict[str, list]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in tensors.items()
    ]
