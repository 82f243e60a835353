"""Segment Anything 2 with its memory: objects are followed through videos."""
