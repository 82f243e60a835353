"""The auxiliary task answers with the pixels whose codes are those of the object."""

import pytest

torch = pytest.importorskip("torch")


def test_pixels_like_the_object_are_found_and_others_are_not():
    from content import CODE, ContentHead

    head = ContentHead(CODE)
    with torch.no_grad():  # every pixel of a token has the token's embedding as its code
        head.codes.weight.copy_(torch.eye(CODE).repeat(16, 1))
        head.codes.bias.zero_()
    embedding = torch.zeros(1, CODE, 3, 4)
    embedding[0, 0, :, 2:] = 4.0  # the right half differs from the left
    left, right = torch.zeros(2, 1, 1, 12, 16)
    left[..., :8], right[..., 4:8, 8:12] = 1, 1
    logits = head(embedding, torch.cat([left, right], 1))
    assert logits.shape == (1, 2, 1, 12, 16)
    assert ((logits[0, 0, 0] > 0) == (left[0, 0] > 0)).all()
    assert (logits[0, 1, 0, :, 8:] > 0).all() and (logits[0, 1, 0, :, :8] < 0).all()


def test_the_embedding_learns_through_it():
    from content import ContentHead

    embedding = torch.randn(1, 5, 2, 2, requires_grad=True)
    ContentHead(5)(embedding, torch.rand(1, 3, 8, 8)).sum().backward()
    assert embedding.grad.abs().sum() > 0
