"""Self-attention guidance: diffusers' own pipeline of it, its formula on other networks, and the laws."""

from functools import cache
from typing import Any, cast

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

import pag
from pag.families import Convention
from pag.perturbations import INPUT_PERTURBATIONS, Attend, Tokens
from tests import degraded, zoo
from tests.denoisers import NETWORKS, Network
from tests.test_compile import Graphs
from tests.test_contract import Step as UNetStep
from tests.test_denoisers import Step, mean, step_arguments

G, S, TOLERANCE = 4.0, 0.75, 1e-4
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1"

with_and_without_cfg = pytest.mark.parametrize("g", [0.0, G], ids=["alone", "cfg"])
network = cache(zoo.unet)


def pipeline(cls: str = "StableDiffusionPipeline", **scheduler: Any) -> Any:
    return zoo.pipeline(cls, unet=network(), scheduler=zoo.ddim(**scheduler))


def sample(pipe: Any, **arguments: Any) -> Tensor:
    return zoo.sample(pipe, seeds=(1, 2), **zoo.prompts(2), **arguments)


@with_and_without_cfg
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_diffusers_own_pipeline_gives_the_same(kind: str, g: float):
    theirs, pipe = pipeline("StableDiffusionSAGPipeline", prediction_type=kind), pipeline(prediction_type=kind)
    expected = sample(theirs, guidance_scale=g, sag_scale=S)
    with pag.guide(pipe, perturbation="sag") as guide:
        assert zoo.difference(sample(pipe, guidance_scale=g), expected) <= TOLERANCE
    assert (guide.guidance.scale, [str(site) for site in guide.sites]) == (S, ["m0"])
    assert zoo.difference(sample(pipe, guidance_scale=g), expected) > 100 * TOLERANCE


def part(value: Any, rows: int) -> Any:
    """The first rows of an argument."""
    if isinstance(value, dict):
        return {name: part(item, rows) for name, item in value.items()}  # pyright: ignore
    return value[:rows] if isinstance(value, Tensor) and value.ndim else value


def by_hand(network: Network, path: str, given: dict[str, Any], g: float, *, flow: bool) -> list[Tensor]:
    """The formula of the paper, from separate forwards: started from the negative prompt, if there is one."""
    model, name = network.model(), "sample" if "sample" in given else "hidden_states"
    bar = zoo.ddim().alphas_cumprod[500]
    signal, noise = (torch.tensor(0.5),) * 2 if flow else (bar.sqrt(), (1 - bar).sqrt())
    image = network.image[path] if isinstance(network.image, dict) else network.image
    tokens = image if isinstance(image, slice) else slice(None)
    with torch.no_grad(), degraded.looking(model, path) as maps:
        output: Tensor = model(**given)[0]
        rows = len(output) // 2 if g > 1 else len(output)
        first, noisy = mean(network, output)[:rows], given[name][:rows]
        clean = noisy - noise * first if flow else (noisy - noise * first) / signal
        own = maps[0][:rows, :, tokens, tokens]
        worse = degraded.blurred(clean, own / own.sum(-1, keepdim=True), int(own.shape[-1] ** 0.5))
        noisy = signal * worse + noise * (first + clean if flow else first)
        again = mean(network, model(**({key: part(value, rows) for key, value in given.items()} | {name: noisy}))[0])
    step = Step(model, g)
    (result,) = [step.combined(network, output)]
    result[:, : first.shape[1]] += S * (first - again)
    return [result]


FORMULAS = {
    "unet2d_variance": "mid_block.attentions.0",
    "dit": "transformer_blocks.2.attn1",
    "pixart": "transformer_blocks.0.attn1",
    "sd3": "transformer_blocks.2.attn",
    "sd35": "transformer_blocks.1.attn2",
}


@with_and_without_cfg
@pytest.mark.parametrize("name", FORMULAS)
def test_a_call_gives_the_formula(name: str, g: float):
    """Without one's own learned variance, at one layer, in joint attention among the image's tokens."""
    known, flow = NETWORKS[name], name.startswith("sd3")
    step: Any = Step(known.model(), g)
    if flow:
        step.scheduler = FlowMatchEulerDiscreteScheduler()
    given = step_arguments(known, g, 2)
    given["timestep"] = given["timestep"] * 0 + 500
    with pag.guide(step, S, layers=FORMULAS[name], perturbation="sag"):
        (result,) = step(known, given)
    (expected,) = by_hand(known, FORMULAS[name], given, g, flow=flow)
    assert zoo.difference(result, expected) <= 1e-5
    assert zoo.difference(step(known, given)[0], expected) > 1e-3


def arguments(count: int = 2, kind: str = "sd15") -> dict[str, Any]:
    """What a pipeline passes with classifier-free guidance: equal rows, but for the text."""
    given = zoo.inputs(network(kind), 2 * count)
    given["sample"] = given["sample"][:count].repeat(2, 1, 1, 1)
    return given


def guided(step: Any, given: dict[str, Any], **settings: Any) -> Tensor:
    with pag.guide(step, S, perturbation="sag", **settings):
        return step(given)


def test_the_scheduler_does_not_matter():
    """What the network gets is the same at one noise level, whatever a scheduler makes of it around the call."""
    given, ddim_step = arguments(), UNetStep(network(), G)
    euler_step: Any = UNetStep(network(), G)
    euler: Any = EulerDiscreteScheduler.from_config(ddim_step.scheduler.config)
    euler.set_timesteps(10)
    euler_step.scheduler = euler
    assert zoo.difference(guided(euler_step, given), guided(ddim_step, given)) <= 1e-6


def test_channels_that_are_not_denoised_stay_as_they_are():
    seen: list[Tensor] = []
    unet, given = zoo.unet("inpaint"), arguments(1, "inpaint")
    unet.register_forward_pre_hook(lambda _module, _args, kwargs: seen.append(kwargs["sample"]), with_kwargs=True)
    guided(UNetStep(unet, G), given)
    first, again = seen
    assert again[:, 4:].equal(first[:1, 4:])
    assert zoo.difference(again[:, :4], first[:1, :4]) > 1e-3


def test_the_laws():
    """Off is exact; sharing rows and saving memory change nothing; an image depends on its own rows; nothing stays."""
    step, given = UNetStep(network(), G), arguments()
    before, plain = zoo.state_of(network()), step(given)
    for scale, start, stop in ((0.0, 0.0, 1.0), (S, 0.51, 1.0), (S, 0.0, 0.5)):
        with pag.guide(step, scale, start=start, stop=stop, perturbation="sag"):
            assert step(given).equal(plain)
    result = guided(step, given)
    assert zoo.difference(guided(step, given, share_rows=False), result) <= 1e-5
    assert guided(step, given, low_memory=True).equal(result)
    alone = {name: value[[1, 3]] if value.ndim else value for name, value in given.items()}
    assert zoo.difference(guided(step, alone), result[[1]]) <= 1e-5
    assert step(given).equal(plain)
    assert zoo.state_of(network()) == before


def test_an_error_in_the_second_call_leaves_nothing():
    unet, calls = zoo.unet(), list[int]()
    step, given = UNetStep(unet, G), arguments()
    plain = step(given)

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError

    hook = unet.conv_out.register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        guided(step, given)
    hook.remove()
    assert step(given).equal(plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype):
    """What is returned has the network's type; noise and image are told apart in float32."""
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in arguments().items()}
    half: Any = zoo.unet()
    result = guided(UNetStep(half.to(dtype), G), given)
    assert result.dtype == dtype
    exact = {name: value.float() if value.is_floating_point() else value for name, value in given.items()}
    error = zoo.difference(result, guided(UNetStep(network(), G), exact))
    assert error <= 2 * zoo.difference(UNetStep(half, G)(given), UNetStep(network(), G)(exact))


@pytest.mark.parametrize(
    ("reuse", "expected"),
    [
        (pag.Reuse(pag=2), [2, 1, 2, 2, 1, 2, 2, 1]),
        (pag.Reuse(pag=2, cfg=3), [2, 1, 1, 1, 2, 1, 1]),
        (pag.Reuse(cfg=3), [2, 1] * 5),
    ],
)
def test_differences_are_reused(reuse: pag.Reuse, expected: list[int]):
    """A step that looks anew runs all rows, for it starts from the negative prompt. Others leave out what is held."""
    rows: list[int] = []
    unet = zoo.unet()
    unet.conv_in.register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    pipe = zoo.pipeline(unet=unet)
    with pag.guide(pipe, perturbation="sag", reuse=reuse, share_rows=False):
        zoo.sample(pipe, steps=5, **zoo.prompts())
    assert rows == expected


def test_outside_of_its_interval_the_negative_prompt_is_reused():
    rows: list[int] = []
    unet = zoo.unet()
    unet.conv_in.register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    pipe = zoo.pipeline(unet=unet)
    with pag.guide(pipe, perturbation="sag", reuse=pag.Reuse(cfg=3), stop=0.2, share_rows=False):
        zoo.sample(pipe, steps=6, **zoo.prompts())
    assert rows == [2, 1, 1, 1, 2, 1, 1]


def test_it_costs_a_forward_of_the_rows_it_starts_from():
    alone, cfg = pag.guide(pipeline(), perturbation="sag").cost, pag.cost(network(), perturbation="sag")
    assert (alone.rows, alone.floor, cfg.rows) == (2, 2.0, 3)
    assert 2.7 < cfg.floor < 3.0  # up to the text a row serves for two
    assert all(cost.floor <= cost.executed <= 1.02 * cost.floor for cost in (alone, cfg))


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_it_compiles_to_two_graphs(in_place: bool):
    """One looks at the layer, one is the plain network's, whatever the timestep."""
    torch.compiler.reset()
    graphs, pipe = Graphs(), pipeline()
    expected, unet = {"steps": 4, "guidance_scale": 0.0}, zoo.unet()
    with pag.guide(pipe, perturbation="sag"):
        latents = sample(pipe, **expected)
    pipe.unet = unet if in_place else torch.compile(unet, backend=graphs, fullgraph=True)  # pyright: ignore
    if in_place:
        unet.compile(backend=graphs, fullgraph=True)
    for _ in range(2):
        with pag.guide(pipe, perturbation="sag"):
            assert zoo.difference(sample(pipe, **expected), latents) <= TOLERANCE
        assert graphs.count == 2


def test_one_layer_is_looked_at():
    with pytest.raises(ValueError, match=r"looks at the attention of one layer, but 2 were given: d0, m0\."):
        pag.guide(pipeline(), perturbation="sag", layers="d0,m0")
    unet = zoo.unet("sdxl")
    pipe: DiffusionPipeline = zoo.pipeline("StableDiffusionXLPipeline", unet=unet)
    assert [site.comfy for site in pag.guide(pipe, perturbation="sag").sites] == ["m0.0"]


def test_what_has_no_image_in_its_input_is_refused():
    with pytest.raises(TypeError, match="FluxTransformer2DModel gets tokens, frames or something else"):
        pag.guide(Step(NETWORKS["flux"].model(), 0.0), perturbation="sag")


def test_a_pipeline_with_another_image_first_is_refused():
    step: Any = UNetStep(network(), G)
    step.pag_convention = Convention(noisy_first=False)
    with pytest.raises(TypeError, match="Step does not pass it in its first channels alone"):
        pag.guide(step, perturbation="sag")


def test_a_pipeline_that_calls_for_each_prompt_is_refused():
    given, step = arguments(), cast(Any, UNetStep(network(), G))
    step.pag_convention = Convention(calls=("cond", "uncond"))
    with pytest.raises(TypeError, match="Step calls its denoiser once for each prompt"):
        guided(step, given)


def test_an_image_that_is_smaller_than_the_blur_is_refused():
    with pytest.raises(ValueError, match="blurs over 9 pixels here, but has 4×16: it needs at least 5 of each"):
        INPUT_PERTURBATIONS["sag"].degrade(torch.zeros(1, 3, 4, 16), torch.ones(1, 1, 2, 8, dtype=torch.bool))


@pytest.mark.parametrize("boolean", [False, True])
def test_the_map_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch, boolean: bool):
    """It is that of the image among itself, its queries a part at a time; 5 keys are of something else."""
    monkeypatch.setattr("pag.perturbations.self_attention_guidance._SCORES", 0)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, count, 4, generator=generator).double() for count in (300, 305))
    allowed = torch.rand(1, 1, 300, 305, generator=generator) > 0.2
    added = torch.zeros(1, 1, 300, 305).double().masked_fill(~allowed, float("-inf"))
    weights = ((q @ k.transpose(-1, -2) / 2) + added)[..., 5:].softmax(dim=-1)
    attend = Attend(torch.nn.functional.scaled_dot_product_attention, allowed if boolean else added)
    seen = INPUT_PERTURBATIONS["sag"].look(q, k, attend, Tokens(slice(0, 300), slice(5, 305)))
    assert seen.equal(weights.mean(1).sum(1) > 1)
    assert 0 < seen.sum() < seen.numel()


@pytest.mark.parametrize(("name", "size", "sigma"), [("sag", 9, 1.0), ("sag_pixels", 31, 9.0)])
def test_the_blurs(name: str, size: int, sigma: float):
    image = zoo.picture(2, size=40).double()
    where = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    mask = where.repeat_interleave(5, 2).repeat_interleave(5, 3).double()
    expected = mask * degraded.blur(image, size, sigma) + (1 - mask) * image
    assert zoo.difference(INPUT_PERTURBATIONS[name].degrade(image, where), expected) <= 1e-7
