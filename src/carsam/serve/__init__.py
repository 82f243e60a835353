"""A model behind HTTP: an interface of its own, and those of annotation tools."""
