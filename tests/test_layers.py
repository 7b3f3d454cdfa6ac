"""Names of layers: every spelling, on the full-size networks of Stable Diffusion 1.5 and XL (without weights)."""

import re
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.pag.pag_utils import PAGMixin

import pag
from pag.adm.build import build
from pag.adm.names import blocks
from pag.adm.published import PUBLISHED
from pag.layers import Site, select
from tests import zoo
from tests.adm.reference import published as published_adm
from tests.denoisers import NETWORKS
from tests.runs import RUNS

_SD15: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}


@cache
def network(name: str) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**{"sd15": _SD15, "sdxl": zoo.SDXL}[name])


@cache
def sites(name: str = "sd15") -> tuple[Site, ...]:
    return pag.sites(network(name))


def chosen(layers: Any, name: str = "sd15") -> list[str]:
    """The authors' names of what is selected."""
    return [site.authors for site in select(sites(name), layers)]


def span(part: str, first: int, last: int) -> list[str]:
    return [f"{part}{index}" for index in range(first, last + 1)]


SD15 = [*span("d", 0, 5), "m0", *span("u", 0, 8)]
SDXL = [*span("d", 0, 23), *span("m", 0, 9), *span("u", 0, 35)]


def test_the_authors_count_of_the_layers():
    assert chosen(lambda site: True) == SD15
    assert chosen(lambda site: True, "sdxl") == SDXL


def test_the_authors_names_mean_their_modules():
    paths = {site.authors: site.path.removesuffix(".transformer_blocks.0.attn1") for site in sites()}
    assert paths == {
        **{f"d{i}": f"down_blocks.{i // 2}.attentions.{i % 2}" for i in range(6)},
        "m0": "mid_block.attentions.0",
        **{f"u{i}": f"up_blocks.{1 + i // 3}.attentions.{i % 3}" for i in range(9)},
    }


def test_sites_know_their_heads_and_width():
    assert [(site.heads, site.channels) for site in select(sites(), ["d0", "m0"])] == [(8, 320), (8, 1280)]


@pytest.mark.parametrize("name", SD15)
def test_each_authors_name_of_sd15_means_one_layer(name: str):
    assert chosen(name) == chosen([name]) == [name]


@pytest.mark.parametrize("name", SDXL)
def test_each_authors_name_of_sdxl_means_one_layer_whatever_its_digits(name: str):
    assert chosen(name, "sdxl") == [name]


@pytest.mark.parametrize("site", sites("sdxl"), ids=str)
def test_each_site_answers_to_all_its_names(site: Site):
    for name in (*site.names, f"{site.path}.processor", f"unet.{site.path}.processor"):
        assert select(sites("sdxl"), name) == (site,), name


MIXED = [
    # ComfyUI: n-th spatial transformer, then block; each may be a range.
    ("u0.4", ["u4"]),
    ("d2.2-9", span("d", 6, 13)),
    ("d1-3", span("d", 2, 23)),
    ("d1-2.0-1", ["d2", "d3", "d4", "d5"]),
    ("m0.3-5", span("m", 3, 5)),
    ("m0, u0.4", ["m0", "u4"]),
    ("u0.4,m0", ["m0", "u4"]),
    (["u0.4", "m0,m0.0"], ["m0", "u4"]),
    # diffusers: a regular expression searched in the path.
    ("mid", span("m", 0, 9)),
    ("mid_block.*attn1", span("m", 0, 9)),
    ("down_blocks.1", span("d", 0, 3)),
    ("down.blocks.1", span("d", 0, 3)),
    ("down_blocks.(1|2).attentions.0", [*span("d", 0, 1), *span("d", 4, 13)]),
    (r"down_blocks\.[12]\.attentions\.0\.transformer_blocks\.0", ["d0", "d4"]),
    ("^up.*attn1$", span("u", 0, 35)),
    ("up_blocks.0.attentions.0", span("u", 0, 9)),
    (r"mid.*blocks\.\d\.attn1", span("m", 0, 9)),
    (r"mid.*blocks\.[1-3]\.", span("m", 1, 3)),
    (r"mid.*blocks\.(?:1|9)", ["m1", "m9"]),
    # as diffusers documents it
    ("down.block_1", span("d", 0, 3)),
    ("up.block_0.attentions_0", span("u", 0, 9)),
    ("mid.block", span("m", 0, 9)),
    ("mid.block.attentions_0", span("m", 0, 9)),
    ("up.block_1", span("u", 30, 35)),
]


@pytest.mark.parametrize(("name", "expected"), MIXED, ids=[str(name) for name, _ in MIXED])
def test_every_spelling_on_sdxl(name: Any, expected: list[str]):
    assert chosen(name, "sdxl") == expected


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["m0", "mid", "m0.0", "mid_block", "mid.block", "mid_block.attentions.0"], "m0"),
        (["d4", "d4.0", "down_blocks.2.attentions.0", "down.block_2.attentions_0"], "d4"),
        (["u0", "u0.0", "up_blocks.1.attentions.0", "up.block_1.attentions_0"], "u0"),
    ],
)
def test_the_same_layer_by_all_names(names: list[str], layer: str):
    assert [chosen(name) for name in names] == [[layer]] * len(names)


# Ten blocks stand in each of SDXL's inner transformers; the 11th and 12th are made up here.
MANY = tuple(Site(f"transformer_blocks.{index}.attn1", "", "", 8, 64) for index in range(12))


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("blocks.1", [1]),
        ("transformer_blocks.1", [1]),
        ("blocks.11", [11]),
        (r"blocks\.1", [1]),
        (r"blocks\.1\b", [1]),
        ("blocks.(1|10)", [1, 10]),
        ("blocks.1.*", [1]),
        (r"blocks\.1\d", [10, 11]),
        ("blocks.1[01]", [10, 11]),
        ("blocks.[1]0", [10]),
        (r"blocks.\d1", [11]),
        ("blocks.[0-2].attn1", [0, 1, 2]),
        (r"blocks\.\d{2}", [10, 11]),
        ("blocks.0|blocks.10", [0, 10]),
        ("transformer_blocks_1", [1]),
    ],
)
def test_numbers_match_as_a_whole(name: str, indices: list[int]):
    assert [site.path for site in select(MANY, name)] == [MANY[index].path for index in indices]


DIFFUSERS = [
    "mid", "up", "down", "attn1", "down_blocks.1", "down_blocks.2", "up_blocks.0", "up_blocks.1", "down.blocks.1",
    "mid_block.attentions.0", "down_blocks.1.attentions.1", "mid_block.*attn1", "blocks.1", r"blocks\.1",
    "down_blocks.(1|2)", "up_blocks.[01]", r"attentions\.0\.transformer_blocks\.[5-9]", "blocks.0.attn1", "^up",
]  # fmt: skip


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("layer", DIFFUSERS)
def test_names_of_diffusers_mean_what_diffusers_finds(layer: str, name: str):
    """On these networks no number continues another, so its mistake (`blocks.1` finding `blocks.10`) cannot show."""

    class Pipe(PAGMixin):
        unet = network(name)

    pipe = Pipe()
    before = dict(pipe.unet.attn_processors)
    try:
        pipe.set_pag_applied_layers([layer])
        pipe._set_pag_attn_processor([layer], do_classifier_free_guidance=True)  # pyright: ignore
        theirs = {
            path.removesuffix(".processor")
            for path, processor in pipe.unet.attn_processors.items()
            if type(processor).__name__.startswith("PAG")
        }
    except ValueError:
        theirs = set[str]()
    finally:
        pipe.unet.set_attn_processor(before)
    try:
        ours = {site.path for site in select(sites(name), layer)}
    except ValueError:
        ours = set[str]()
    assert ours == theirs


def test_selection_keeps_the_order_of_the_network_and_each_layer_once():
    assert chosen(["u8", "mid", "d0", "m0", "down_blocks.0"]) == ["d0", "d1", "m0", "u8"]


def test_a_predicate_chooses_by_what_a_site_is():
    assert chosen(lambda site: site.channels == 1280 and site.path.startswith("down")) == ["d4", "d5"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("m1", "m0 = mid_block"), ("d6", "d"), ("u9", "u"), ("mid_blok.attentions.0", "m0 = mid_block.attentions.0")],
)
def test_a_name_that_matches_nothing_is_answered_with_all_that_exist_nearest_first(name: str, nearest: str):
    with pytest.raises(ValueError, match=re.escape(f"Layer {name!r} matches nothing")) as caught:
        chosen(name)
    listing = str(caught.value).split("nearest first: ")[1]
    assert listing.startswith(nearest)
    assert all(f"{site.authors} = {site.path}" in listing for site in sites())


def test_blocks_of_a_transformer_are_listed_by_their_short_names():
    with pytest.raises(ValueError, match=r"double.9' matches.*nearest first: double.0 = transformer_blocks.0.attn, "):
        pag.guide(RUNS["FluxPipeline"].make(), 3.0, layers="double.9")


@pytest.mark.parametrize("name", ["d24", "m10", "u36", "u0.10", "d9.0", "blocks.100", "attn2", "up_blocks.2"])
def test_what_sdxl_does_not_have_is_an_error(name: str):
    with pytest.raises(ValueError, match="matches nothing"):
        chosen(name, "sdxl")


def test_one_good_name_does_not_excuse_a_bad_one():
    with pytest.raises(ValueError, match="'nope' matches nothing"):
        chosen(["mid", "nope"])


@pytest.mark.parametrize("layers", [[], "", ",", [""], ()])
def test_no_name_at_all_is_an_error(layers: Any):
    with pytest.raises(ValueError, match=r"No layer is named.*d0 = down_blocks\.0"):
        chosen(layers)


@pytest.mark.parametrize("layers", [3.0, [0.5], [True], [None], {"mid"}, b"mid", None])
def test_what_is_no_name_is_a_type_error(layers: Any):
    with pytest.raises(TypeError, match="layers must be a name, a list of names or a predicate"):
        chosen(layers)


@pytest.mark.parametrize("name", ["mid(", "[", "*mid", "up_blocks.(0", "mid)"])
def test_what_is_no_regular_expression_says_so(name: str):
    with pytest.raises(ValueError, match=r"is not a regular expression.*There is"):
        chosen(name)


def test_a_predicate_that_chooses_nothing_is_an_error():
    with pytest.raises(ValueError, match="predicate chose no layer"):
        chosen(lambda site: False)


@pytest.mark.parametrize("layers", [[], "", ()])
def test_an_empty_choice_is_not_the_default(layers: Any):
    with pytest.raises(ValueError, match="No layer is named"):
        pag.guide(zoo.pipeline(), layers=layers)


def test_a_network_without_the_recommended_layers_has_its_middle_one():
    upscaler = zoo.unet("latent_upscaler")
    found = pag.sites(upscaler)
    (recommended,) = [cost.site for cost in pag.layer_costs(upscaler) if cost.recommended]
    assert recommended == found[len(found) // 2]


@pytest.mark.parametrize("name", ["animatediff", "svd"])
def test_layers_over_time_have_no_short_names_and_are_not_recommended(name: str):
    model = NETWORKS[name].model()
    temporal = [site for site in pag.sites(model) if "motion" in site.path or "temporal" in site.path]
    assert len(temporal) >= 2
    assert not any(site.authors or site.comfy for site in temporal)
    pipe = SimpleNamespace(unet=model, scheduler=None)
    (recommended,) = pag.guide(pipe, 3.0).sites
    assert (recommended.authors, recommended.comfy) == ("m0", "m0.0")


def test_layers_with_added_keys_are_counted_as_the_authors_do():
    names = [(site.path, site.authors) for site in pag.sites(NETWORKS["if"].model())]
    assert names[:3] == [
        ("down_blocks.1.attentions.0", "d0"),
        ("down_blocks.2.attentions.0", "d1"),
        ("mid_block.attentions.0", "m0"),
    ]


def test_attention_to_added_keys_alone_is_no_layer():
    config: dict[str, Any] = zoo.unet_config("if_upscaler") | {"only_cross_attention": (False, True, False)}
    paths = [site.path for site in pag.sites(UNet2DConditionModel(**config))]
    assert "down_blocks.2.attentions.0" in paths
    assert "down_blocks.1.attentions.0" not in paths


@pytest.mark.parametrize("layers", [None, "auto", ["auto"], ("auto",)])
def test_the_recommended_layers_by_every_name(layers: Any):
    class Pipe:
        unet = zoo.unet()

    assert [site.authors for site in pag.guide(Pipe(), layers=layers).sites] == ["m0"]


def test_a_block_by_its_number():
    network = NETWORKS["sd3"].model()
    for layers in (2, [2], "2", "blocks.2", "transformer.transformer_blocks.2.attn"):
        assert [site.block for site in select(pag.sites(network), layers)] == ["2"]
    with pytest.raises(ValueError, match="'7' matches nothing"):
        select(pag.sites(network), 7)
    with pytest.raises(TypeError, match="layers must be a name"):
        select(pag.sites(network), [True])


@cache
def adm(name: str) -> Any:
    """A published ADM, without weights."""
    published = next(one for one in PUBLISHED if name in one.files)
    with torch.device("meta"):
        return build(published_adm(name).state_dict(), published.layout, published.settings)


def original(name: str, layers: Any) -> list[str]:
    return [site.original for site in select(pag.sites(adm(name)), layers)]


def test_adm_s_layers_have_the_names_of_their_code():
    ins = [f"input_blocks.{block}.1" for block in (10, 11, 13, 14, 16, 17)]
    outs = [f"output_blocks.{block}.1" for block in range(9)]
    assert original("256x256_diffusion_uncond.pt", lambda site: True) == [*ins, "middle_block.1", *outs]
    for old, path, _ in blocks(PUBLISHED[3].layout):
        found = [site for site in pag.sites(adm("256x256_diffusion_uncond.pt")) if site.path == path]
        assert [site.original for site in found] in ([], [old])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("input_blocks.14.1", "down_blocks.4.attentions.1"),
        ("middle_block.1", "mid_block.attentions.0"),
        ("middle_block", "mid_block.attentions.0"),
        ("output_blocks.3.1", "up_blocks.1.attentions.0"),
        ("input_blocks.14", "down_blocks.4.attentions.1"),
        ("d3", "down_blocks.4.attentions.1"),
        ("mid", "mid_block.attentions.0"),
        ("u3", "up_blocks.1.attentions.0"),
        ("down_blocks.4.attentions.1", "down_blocks.4.attentions.1"),
    ],
)
def test_adm_s_layers_are_found_by_all_their_names(name: str, path: str):
    assert [site.path for site in select(pag.sites(adm("256x256_diffusion_uncond.pt")), name)] == [path]


@pytest.mark.parametrize("name", ["input_blocks.1.1", "input_blocks.14.0", "input_blocks.14.11", "output_blocks.9.1"])
def test_names_that_adm_has_not_are_answered_with_those_that_it_has(name: str):
    with pytest.raises(ValueError, match=r"nearest first: .*d3 = input_blocks.14.1 = down_blocks.4.attentions.1"):
        original("256x256_diffusion_uncond.pt", name)


ADM_RECOMMENDED = {
    "256x256_diffusion_uncond.pt": "14 16 17",
    "256x256_diffusion.pt": "14 16 17",
    "64x64_diffusion.pt": "11 13 14 15",
    "128x128_diffusion.pt": "11 13 14",
    "512x512_diffusion.pt": "17 19 20",
}
"""The authors' for 256×256 pixels, of 16×16 and 8×8 tokens; those of the same resolutions in the others."""


@pytest.mark.parametrize("name", ADM_RECOMMENDED)
def test_the_authors_layers_are_recommended_for_adm(name: str):
    wanted = [f"input_blocks.{block}.1" for block in ADM_RECOMMENDED[name].split()]
    recommended = [one.site.original for one in pag.layer_costs(adm(name)) if one.recommended]
    assert recommended == [*wanted, "middle_block.1"]


def test_other_networks_have_no_names_of_adm():
    assert not any(site.original for site in sites())
    assert not any(site.original for site in pag.sites(NETWORKS["unet2d"].model()))
    assert [one.site.authors for one in pag.layer_costs(NETWORKS["unet2d"].model()) if one.recommended] == ["m0"]
