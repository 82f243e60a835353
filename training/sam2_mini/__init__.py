"""sam2-mini, a SAM 2 for videos with 5.4 million parameters, from sam-mini."""
