"""SAM in integers as ONNX: written from a checkpoint, node by node, without torch."""
