"""One page that says what a quantized model is, how good it is, and where it is not."""
