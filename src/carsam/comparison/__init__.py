"""Compare methods: the same model, images and strict evaluation for every recipe, bits and seed."""
