"""OmniGen's images lie in one list for all rows: the rows that guidance adds get those of the rows that they repeat."""

from typing import Any

import torch

from pag.families.single_stream import grow_images
from pag.rows import Rows
from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers.single_stream import omnigen_inputs

PLACES = {0: [(1, 3)], 1: [(0, 2), (4, 6)], 3: [(2, 4)]}


def test_added_rows_see_the_images_of_the_rows_that_they_repeat():
    generator = torch.Generator().manual_seed(0)
    given: dict[str, Any] = omnigen_inputs(4, generator)
    images = [torch.randn(1, 4, 4, 2, generator=generator) for each in PLACES.values() for _ in each]
    given |= {"input_img_latents": images, "input_image_sizes": PLACES}
    for groups, cond in (("cond", "uncond"), slice(0, 2)), (("uncond", "cond"), slice(2, 4)):
        rows = Rows(2, groups)
        grown = {name: rows.grow(name, value) for name, value in given.items() if isinstance(value, torch.Tensor)}
        output = NETWORKS["omnigen"].model()(**grown, **grow_images(given, rows.sources()))[0]
        assert zoo.difference(output[:4], NETWORKS["omnigen"].model()(**given)[0]) <= 1e-6
        assert zoo.difference(output[4:], output[cond]) <= 1e-6
    assert len(images) == 4
    assert set(PLACES) == {0, 1, 3}
