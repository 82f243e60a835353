"""A page on which a photo is segmented with clicks, by one model or by two side by side."""
