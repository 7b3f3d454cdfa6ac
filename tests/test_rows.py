"""Growing and sharing of rows: what is taken comes back, and only what carries rows is touched."""

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2KVLayerCache
from torch import Tensor

from pag.rows import Rows, Stage, halves_equal

GROUPS = [("cond",), ("uncond", "cond"), ("cond", "image", "uncond")]
SIZES = [1, 2, 3]
ROWS = [Rows(size, groups) for groups in GROUPS for size in SIZES]


def grown(rows: Rows, *shape: int) -> Tensor:
    """A batch as it is ahead of the first perturbed layer: every group its own, perturbed equal to cond."""
    return rows.grow("x", torch.randn(rows.normal, *shape))


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_growing_appends_the_rows_of_the_prompt(rows: Rows):
    x = torch.randn(rows.normal, 4)
    result = rows.grow("x", x)
    assert result.shape[0] == rows.total
    assert result[: rows.normal].equal(x)
    assert result[rows.span("perturbed")].equal(x[rows.span("cond")])


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("stage", [Stage.START, Stage.TEXT])
def test_spread_undoes_take_as_long_as_groups_are_equal(rows: Rows, stage: Stage):
    x = grown(rows, 4)
    if stage == Stage.START:
        x = rows.spread(torch.randn(rows.size, 4), Stage.START)
    assert rows.take(x, stage).shape[0] == (rows.size if stage == Stage.START else rows.normal)
    assert rows.spread(rows.take(x, stage), stage).equal(x)


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_sharing_a_module_gives_what_all_rows_would(rows: Rows):
    module, x = torch.nn.Linear(4, 6).double(), grown(rows, 4).double()
    torch.testing.assert_close(rows.spread(module(rows.take(x, Stage.TEXT)), Stage.TEXT), module(x))


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_nests_keep_their_shape(rows: Rows):
    x, table = torch.randn(rows.normal, 4), torch.tensor(7.0)
    nest: dict[str, Any] = {"a": [x, None], "b": ({"c": x}, "text", table)}
    result = rows.grow("nest", nest)
    assert result["a"][0].equal(rows.grow("x", x))
    assert result["a"][1] is None
    assert isinstance(result["b"], tuple)
    assert result["b"][0]["c"].equal(rows.grow("x", x))
    assert result["b"][1:] == ("text", table)
    taken = rows.take(result, Stage.TEXT)
    assert taken["a"][0].equal(x)
    assert taken["b"][0]["c"].equal(x)


def test_a_tensor_that_stands_twice_in_an_output_still_does():
    """The U-Net adds features of a T2I-Adapter in place, to a block's output and to its residual connection at once."""
    rows, x = Rows(1, ("cond",)), torch.randn(1, 4)
    sample, (residual, other) = rows.spread((x, (x, x.clone())), Stage.TEXT)
    assert sample is residual
    assert sample is not other


def test_a_scalar_or_a_single_row_serves_all():
    rows = Rows(2, ("uncond", "cond"))
    assert rows.grow("timestep", torch.tensor(500)).shape == ()
    assert rows.grow("timestep", torch.tensor([500])).shape == (1,)
    assert rows.grow("timestep", torch.full((4,), 500)).shape == (6,)


def test_tables_without_rows_pass_untouched():
    rows, table = Rows(1, ("uncond", "cond")), torch.randn(7, 4)
    assert rows.take((table, None, 3), Stage.TEXT) == (table, None, 3)
    assert not rows.carried_by(((), {"x": table}))
    assert rows.carried_by(((), {"x": torch.zeros(3, 4)}))


@pytest.mark.parametrize("count", [3, 5, 8])
def test_a_wrong_number_of_rows_is_named_with_the_argument(count: int):
    with pytest.raises(
        ValueError, match=rf"^timestep_cond of shape \({count}, 8\) has {count} rows.*has 4: 2 for each of"
    ):
        Rows(2, ("uncond", "cond")).grow("timestep_cond", torch.zeros(count, 8))


def test_masks_part_with_the_rows():
    rows = Rows(1, ("uncond", "cond"))
    normal, perturbed = rows.split(torch.arange(3))
    assert (normal.tolist(), perturbed.tolist()) == ([0, 1], [2])


def test_equal_looks_at_every_tensor_that_carries_rows():
    rows, x = Rows(2, ("uncond", "cond")), torch.randn(2, 4)
    same = torch.cat([x, x])
    assert rows.equal([same, None, torch.tensor(500), [same]])
    assert not rows.equal([same, [torch.cat([x, x + 1])]])


def test_halves_equal():
    x = torch.randn(2, 4)
    assert halves_equal(torch.cat([x, x]))
    assert not halves_equal(torch.cat([x, x + 1]))
    assert not halves_equal(torch.zeros(3, 4))


def test_a_list_has_an_item_for_each_row_or_for_several_in_succession():
    rows = Rows(2, ("uncond", "cond"))
    assert rows.grow_list("x", ["a", "b", "c", "d"]) == ["a", "b", "c", "d", "c", "d"]
    assert rows.grow_list("x", ["a", "b"]) == ["a", "a", "b", "b", "b", "b"]
    assert rows.grow_list("x", ["a"]) == ["a"] * 6
    for wrong in ([], ["a"] * 3, ["a"] * 8):
        with pytest.raises(ValueError, match=rf"^x has {len(wrong)} items, but the call has 4 rows"):
            rows.grow_list("x", wrong)


def test_all_rows_once_more_and_what_serves_all_stay_in_a_stack():
    rows = Rows(1, ("uncond", "cond"))
    assert rows.take_stacked(torch.arange(6), Stage.TEXT).tolist() == [0, 1, 3, 4]
    assert rows.take_stacked(torch.arange(4), Stage.TEXT).tolist() == [0, 1, 3]


def test_keys_and_values_of_a_layer_lose_the_perturbed_rows():
    rows, layer = Rows(1, ("uncond", "cond")), Flux2KVLayerCache()
    layer.store(torch.zeros(3, 4), torch.ones(3, 4))
    rows.trim_stores(((), {"kwargs": {"cache": layer, "other": torch.zeros(3)}}))
    assert [tensor.shape[0] for tensor in layer.get()] == [2, 2]
