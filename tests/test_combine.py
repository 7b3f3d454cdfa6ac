"""The combination rules against the formulas of the papers, in numbers."""

import pytest
import torch

from pag import combine


def test_delta_is_s_times_the_difference():
    c, p = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 4.0]])
    torch.testing.assert_close(combine.delta(c, p, 3.0), torch.tensor([[1.5, -6.0]]))


def test_classifier_free_guidance():
    u, c = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -1.0]])
    torch.testing.assert_close(combine.classifier_free(u, c, 5.0), torch.tensor([[6.0, -5.0]]))


def test_the_authors_way_of_writing_it_is_the_same_algebra():
    u, c, p = torch.randn(3, 2, 4, 8, 8, dtype=torch.double)
    ours = combine.classifier_free(u, c, 4.0) + combine.delta(c, p, 3.0)
    theirs = c + (4.0 - 1) * (c - u) + 3.0 * (c - p)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
def test_rescale_mixes_standard_deviations_row_by_row(amount: float):
    guided, c = torch.randn(2, 4, 8, 8) * torch.tensor([3.0, 9.0]).view(2, 1, 1, 1), torch.randn(2, 4, 8, 8)
    rescaled = combine.rescale(guided, c, amount)
    expected = amount * c.std(dim=(1, 2, 3)) + (1 - amount) * guided.std(dim=(1, 2, 3))
    torch.testing.assert_close(rescaled.std(dim=(1, 2, 3)), expected)
    torch.testing.assert_close(rescaled / guided, (rescaled / guided)[:, :1, :1, :1].expand_as(guided))
