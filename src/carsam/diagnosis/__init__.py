"""Diagnosis: which part of a quantized model does the damage, and what its attention still sees."""
