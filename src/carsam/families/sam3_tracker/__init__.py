"""The tracker of Segment Anything 3: SAM 2's decoder and memory behind another encoder."""
