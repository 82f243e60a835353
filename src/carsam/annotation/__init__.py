"""Masks of many images: from sources, through an engine in many processes, to files of shards."""
