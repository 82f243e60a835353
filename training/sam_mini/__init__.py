"""sam-mini, a SAM with 5.1 million parameters, from random weights."""
