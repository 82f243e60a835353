"""Masks of any engine measured against COCO annotations, and against the float model's."""
