"""AHCQ-SAM (arXiv 2503.03088v4): AHCPTQ on whole blocks as units.

An encoder block, or the whole two-way block (self-attention, token-to-image attention, MLP,
image-to-token attention), is reconstructed at once; the two-way block on both of its outputs. This
is close to the joint unit of CAR-SAM, and earlier.

What is missing: the activation-aware condition number reduction (ACNR), a proximal change of
ill-conditioned weights before everything, and the logarithmic nonlinear quantization of the
softmax (LNQ), whose equations we have not seen. Adaptive granularity stands for the latter.
"""

from dataclasses import replace

from carsam.methods import ahcptq

RECIPE = replace(ahcptq.RECIPE, name="ahcqsam", units=("encoder-block", "two-way-block"))
