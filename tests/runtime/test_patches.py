"""Rearrangements of images."""

import numpy as np

from carsam.runtime.patches import neighbourhoods, patches, unfold_patches


def test_patches_are_rows_of_their_pixels() -> None:
    image = np.arange(4 * 6 * 2).reshape(4, 6, 2)
    rows = patches(image, 2)
    np.testing.assert_array_equal(rows[4], image[2:4, 2:4].ravel())


def test_unfold_patches_undoes_patches() -> None:
    image = np.arange(3 * 4 * 6 * 2).reshape(3, 4, 6, 2)
    np.testing.assert_array_equal(unfold_patches(patches(image, 2), 2, 3, 2), image)


def test_neighbourhoods_pad_the_border() -> None:
    image = np.arange(1, 10)[:, None]
    rows = neighbourhoods(image, 3, 3, 7)
    np.testing.assert_array_equal(rows[0], [7, 7, 7, 7, 1, 2, 7, 4, 5])
    np.testing.assert_array_equal(rows[4], np.arange(1, 10))
