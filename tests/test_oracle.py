"""The installed diffusers' own PAG pipelines give the same latents as guidance on its plain pipelines."""

import copy
import re
from functools import cache
from typing import Any, cast

import pytest
from diffusers.callbacks import SDCFGCutoffCallback
from torch import Tensor

import pag
from tests import reference, zoo
from tests.denoisers import NETWORKS

TOLERANCE = 1e-4
"""Relative to the largest latent."""

with_and_without_cfg = pytest.mark.parametrize("guidance_scale", [0.0, 5.0], ids=["alone", "cfg"])


network, autoencoder = cache(zoo.unet), cache(zoo.vae)


def compare(plain: str, kind: str = "sd15", *, settings: dict[str, Any] | None = None, **arguments: Any) -> Tensor:
    """Run both with the same networks, seeds and settings; returns the latents."""
    parts: dict[str, Any] = {"unet": network(kind), "vae": autoencoder(), **arguments.pop("components", {})}
    settings = {"pag_scale": 3.0, "pag_applied_layers": ["mid"], "pag_adaptive_scale": 0.0} | (settings or {})
    given = {**zoo.prompts(), **arguments}
    # Some of them stay perturbed when they return latents.
    theirs = zoo.pipeline(peer(plain.removesuffix("Pipeline")), **(parts | {"unet": copy.deepcopy(parts["unet"])}))
    ours = zoo.pipeline(plain, **parts)
    theirs.set_pag_applied_layers(layers := settings.pop("pag_applied_layers"))
    expected = zoo.sample(theirs, **settings, **given)
    with pag.guide(ours, settings["pag_scale"], layers=layers, adaptive_scale=settings["pag_adaptive_scale"]):
        result = zoo.sample(ours, **given)
    assert zoo.difference(result, expected) <= TOLERANCE
    return result


def test_the_comparison_sees_guidance():
    guided = compare("StableDiffusionPipeline")
    plain = zoo.sample(zoo.pipeline(unet=network("sd15")), **zoo.prompts())
    assert zoo.difference(guided, plain) > 100 * TOLERANCE


def peer(name: str) -> str:
    """`StableDiffusionImg2Img` is `StableDiffusionPAGImg2ImgPipeline`."""
    return re.sub(r"(Img2Img|Inpaint)?$", r"PAG\1Pipeline", name, count=1)


LAYERS = [
    ["mid"], ["down"], ["up_blocks.1"], ["down_blocks.0.attentions.0"], ["mid", "up"], ["mid_block.*attn1"], ["attn1"],
]  # fmt: skip


@with_and_without_cfg
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_layers(layers: list[str], guidance_scale: float):
    compare("StableDiffusionPipeline", settings={"pag_applied_layers": layers}, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("adaptive", [0.001, 0.005])
def test_adaptive_scale(adaptive: float, guidance_scale: float):
    compare("StableDiffusionPipeline", settings={"pag_adaptive_scale": adaptive}, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("kind", ["sd15", "sd2"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_prediction_types(kind: str, prediction_type: str, guidance_scale: float):
    components = {"scheduler": zoo.ddim(prediction_type=prediction_type)}
    compare("StableDiffusionPipeline", kind, components=components, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_guidance_rescale(amount: float, guidance_scale: float):
    """diffusers rescales with CFG only, towards the deviation of the prompt's own prediction."""
    rescaled = compare("StableDiffusionPipeline", guidance_rescale=amount, guidance_scale=guidance_scale)
    plain = compare("StableDiffusionPipeline", guidance_scale=guidance_scale)
    assert rescaled.equal(plain) == (guidance_scale == 0)


def test_a_prompt_in_words():
    components = {"tokenizer": zoo.tokenizer(), "text_encoder": zoo.text_encoder()}
    words = {"prompt": "a cat", "negative_prompt": "b"}
    no_embeddings: dict[str, Any] = {"prompt_embeds": None, "negative_prompt_embeds": None}
    compare("StableDiffusionPipeline", components=components, **words, **no_embeddings)


@with_and_without_cfg
def test_image_to_image(guidance_scale: float):
    compare("StableDiffusionImg2ImgPipeline", image=zoo.picture(), strength=0.75, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("kind", ["sd15", "inpaint"])
def test_inpainting(kind: str, guidance_scale: float):
    mask = (zoo.picture(channels=1) > 0.5).float()
    compare(
        "StableDiffusionInpaintPipeline",
        kind,
        image=zoo.picture(),
        mask_image=mask,
        strength=0.8,  # its default is 1 in the plain pipeline and 0.9999 in diffusers' PAG pipeline
        height=2 * zoo.SIZE,
        width=2 * zoo.SIZE,
        guidance_scale=guidance_scale,
    )


@with_and_without_cfg
def test_controlnet(guidance_scale: float):
    components = {"controlnet": zoo.controlnet()}
    compare(
        "StableDiffusionControlNetPipeline", components=components, image=zoo.picture(), guidance_scale=guidance_scale
    )


@with_and_without_cfg
def test_controlnet_inpainting(guidance_scale: float):
    mask = (zoo.picture(channels=1) > 0.5).float()
    compare(
        "StableDiffusionControlNetInpaintPipeline",
        components={"controlnet": zoo.controlnet()},
        image=zoo.picture(),
        mask_image=mask,
        control_image=zoo.picture(seed=8),
        guidance_scale=guidance_scale,
    )


def xl(cls: str, kind: str = "sdxl", **arguments: Any) -> None:
    """Compare pipelines that take pooled embeddings on top."""
    sizes: dict[str, Any] = {"height": 2 * zoo.SIZE, "width": 2 * zoo.SIZE}
    compare(cls, kind, **zoo.pooled(), **(sizes | arguments))


@with_and_without_cfg
class TestXL:
    @pytest.mark.parametrize(
        "layers", [["mid"], ["mid_block.attentions.0.transformer_blocks.1"], ["up_blocks.0"]], ids=str
    )
    def test_text_to_image(self, layers: list[str], guidance_scale: float):
        xl("StableDiffusionXLPipeline", settings={"pag_applied_layers": layers}, guidance_scale=guidance_scale)

    def test_guidance_rescale(self, guidance_scale: float):
        xl("StableDiffusionXLPipeline", guidance_rescale=0.7, guidance_scale=guidance_scale)

    def test_adaptive_scale(self, guidance_scale: float):
        xl("StableDiffusionXLPipeline", settings={"pag_adaptive_scale": 0.001}, guidance_scale=guidance_scale)

    def test_image_to_image(self, guidance_scale: float):
        images: dict[str, Any] = {"image": zoo.picture(), "strength": 0.75}
        compare("StableDiffusionXLImg2ImgPipeline", "sdxl", **zoo.pooled(), **images, guidance_scale=guidance_scale)

    @pytest.mark.parametrize("kind", ["sdxl", "sdxl_inpaint"])
    def test_inpainting(self, kind: str, guidance_scale: float):
        mask = (zoo.picture(channels=1) > 0.5).float()
        images: dict[str, Any] = {"image": zoo.picture(), "mask_image": mask, "strength": 0.8}
        xl("StableDiffusionXLInpaintPipeline", kind, **images, guidance_scale=guidance_scale)

    def test_controlnet(self, guidance_scale: float):
        components = {"controlnet": zoo.controlnet(kind="sdxl")}
        image = zoo.picture()
        xl("StableDiffusionXLControlNetPipeline", components=components, image=image, guidance_scale=guidance_scale)

    def test_controlnet_image_to_image(self, guidance_scale: float):
        components = {"controlnet": zoo.controlnet(kind="sdxl")}
        images: dict[str, Any] = {"image": zoo.picture(), "control_image": zoo.picture(seed=8), "strength": 0.75}
        xl(
            "StableDiffusionXLControlNetImg2ImgPipeline",
            components=components,
            **images,
            guidance_scale=guidance_scale,
        )

    def test_kolors(self, guidance_scale: float):
        xl("KolorsPipeline", "kolors", guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("layers", [["mid_block.*attn1"], ["mid_block.attentions"], ["motion_modules"]], ids=str)
def test_animatediff(layers: list[str], guidance_scale: float):
    """diffusers' default is the first: the layers in the middle over space and over time."""
    components = {"unet": NETWORKS["animatediff"].model()}
    video: dict[str, Any] = {"num_frames": 3, "height": 16, "width": 16, "guidance_scale": guidance_scale}
    compare("AnimateDiffPipeline", components=components, settings={"pag_applied_layers": layers}, **video)


class TestWhereThePeerIsWrong:
    """`facts/diffusers.md` 1.2: what diffusers' class does, and what is done here instead."""

    def test_it_stays_perturbed_after_an_error(self):
        def callback(*_: Any) -> dict[str, Any]:
            raise ValueError("stop")

        def perturbed(pipe: Any) -> bool:
            return any(type(processor).__name__.startswith("PAG") for processor in pipe.unet.attn_processors.values())

        theirs, ours = zoo.pipeline("StableDiffusionPAGPipeline"), zoo.pipeline()
        with pytest.raises(ValueError, match="stop"):
            zoo.sample(theirs, callback_on_step_end=callback, pag_scale=3.0, **zoo.prompts())
        with pytest.raises(ValueError, match="stop"), pag.guide(ours, 3.0):
            zoo.sample(ours, callback_on_step_end=callback, **zoo.prompts())
        assert (perturbed(theirs), perturbed(ours)) == (True, False)

    @pytest.mark.parametrize("plain", ["StableDiffusionXLInpaint", "StableDiffusionXLControlNetImg2Img"])
    def test_it_stays_perturbed_after_a_run_for_latents(self, plain: str):
        mask = (zoo.picture(channels=1) > 0.5).float()
        images: dict[str, Any] = {"image": zoo.picture(), "strength": 0.8, "height": 32, "width": 32}
        images |= {"mask_image": mask} if "Inpaint" in plain else {"control_image": zoo.picture(seed=8)}
        theirs = zoo.pipeline(peer(plain), "sdxl", controlnet=zoo.controlnet(kind="sdxl"))
        zoo.sample(theirs, **zoo.prompts(), **zoo.pooled(), **images)
        assert any(type(one).__name__.startswith("PAG") for one in theirs.unet.attn_processors.values())

    def test_it_computes_perturbed_rows_when_the_adaptive_scale_has_reached_zero(self):
        def rows(pipe: Any) -> list[int]:
            seen: list[int] = []
            pipe.unet.conv_out.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[0]))
            return seen

        theirs, ours = zoo.pipeline("StableDiffusionPAGPipeline"), zoo.pipeline()
        their_rows, our_rows = rows(theirs), rows(ours)
        expected = zoo.sample(theirs, steps=4, pag_scale=3.0, pag_adaptive_scale=0.005, **zoo.prompts())
        with pag.guide(ours, 3.0, adaptive_scale=0.005):
            assert zoo.difference(zoo.sample(ours, steps=4, **zoo.prompts()), expected) <= TOLERANCE
        assert (their_rows, our_rows) == ([3, 3, 3, 3], [3, 3, 2, 2])

    @with_and_without_cfg
    def test_it_has_no_guess_mode(self, guidance_scale: float):
        """There the ControlNet runs for the prompt alone, and its output is padded with zeros for the other rows."""
        arguments: dict[str, Any] = {**zoo.prompts(), "image": zoo.picture(), "guess_mode": True}
        arguments["guidance_scale"] = guidance_scale
        theirs = zoo.pipeline("StableDiffusionControlNetPAGPipeline", controlnet=zoo.controlnet())
        if guidance_scale:
            with pytest.raises(RuntimeError, match="must match the size"):
                zoo.sample(theirs, pag_scale=3.0, **arguments)
        ours = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=zoo.controlnet())
        assert zoo.difference(*by_formula(ours, **arguments)) <= TOLERANCE

    def test_it_cannot_lose_its_unconditional_rows(self):
        cutoff: dict[str, Any] = {
            "callback_on_step_end": cast(Any, SDCFGCutoffCallback)(cutoff_step_ratio=None, cutoff_step_index=0),
            "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
            **zoo.prompts(),
        }
        theirs = zoo.pipeline("StableDiffusionPAGPipeline")
        with pytest.raises(ValueError, match="not enough values to unpack"):
            zoo.sample(theirs, pag_scale=3.0, **cutoff)
        assert zoo.difference(*by_formula(zoo.pipeline(), **cutoff)) <= TOLERANCE


def by_formula(pipe: Any, **arguments: Any) -> tuple[Tensor, Tensor]:
    """A guided run, and the same by separate forwards of the network."""
    path = "mid_block.attentions.0.transformer_blocks.0.attn1"
    with pag.guide(pipe, 3.0):
        ours = zoo.sample(pipe, **arguments)
    with reference.guided(pipe, 3.0, [path]):
        return ours, zoo.sample(pipe, **arguments)
