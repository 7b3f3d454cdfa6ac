"""`StableDiffusionPAGPipeline` against diffusers' class of the same name, and as a citizen of diffusers."""

import inspect
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import save_file

import pag
import pag.reuse
from pag import StableDiffusionPAGPipeline
from tests import zoo


def ours(**settings: Any) -> Any:
    """Our pipeline on a tiny random network with a text encoder."""
    pipe = zoo.pipeline(tokenizer=zoo.tokenizer(), text_encoder=zoo.text_encoder())
    made = StableDiffusionPAGPipeline(**pipe.components, requires_safety_checker=False, **settings)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipe() -> Any:
    return ours()


def peer(pipe: Any, layers: str | list[str]) -> Any:
    made = diffusers.StableDiffusionPAGPipeline(
        **pipe.components, requires_safety_checker=False, pag_applied_layers=layers
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [0.0, 5.0])
@pytest.mark.parametrize(
    ("names", "peer_names"),
    [(["m0"], "mid"), (["d1"], "down_blocks.1"), (["u0", "m0"], ["up_blocks.1.attentions.0", "mid"])],
)
@pytest.mark.parametrize("adaptive", [0.0, 0.002])
def test_latents_are_those_of_diffusers(
    pipe: Any,
    prediction_type: str,
    guidance_scale: float,
    names: list[str],
    peer_names: str | list[str],
    adaptive: float,
) -> None:
    pipe.scheduler = zoo.ddim(prediction_type=prediction_type)
    run: dict[str, Any] = {"prompt": ["a b", "c"], "negative_prompt": ["", "d"], "guidance_scale": guidance_scale}
    run |= {"seeds": (1, 2), "steps": 5, "pag_scale": 3.0, "guidance_rescale": 0.3, "pag_adaptive_scale": adaptive}
    expected = zoo.sample(peer(pipe, peer_names), **run)
    unguided = zoo.sample(pipe, **dict[str, Any](run, pag_scale=0.0))
    result = zoo.sample(pipe, pag_applied_layers_index=names, **run)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert zoo.difference(unguided, expected) > 1e-2


def test_the_interface_of_the_paper(tmp_path: Path) -> None:
    ours().save_pretrained(tmp_path)
    with pytest.warns(FutureWarning, match="use `dtype` instead"):  # diffusers' new name of the same argument
        loaded = StableDiffusionPAGPipeline.from_pretrained(tmp_path, torch_dtype=torch.float32).to("cpu")
    pipe: Any = loaded
    prompts = ["a", "b c"]
    images = pipe(
        prompts, width=32, height=32, num_inference_steps=2, guidance_scale=0.0, pag_scale=5.0,
        pag_applied_layers_index=["m0"],
    ).images  # fmt: skip
    assert [image.size for image in images] == [(32, 32)] * 2


def test_low_memory() -> None:
    guided, rows = ours(), list[int]()
    expected = zoo.sample(guided, steps=1, **zoo.prompts())
    guided.unet.conv_out.register_forward_hook(lambda _module, _inputs, output: rows.append(output.shape[0]))
    ours_again = zoo.sample(guided, steps=1, pag_low_memory=True, **zoo.prompts())
    assert rows == [2, 1]
    assert zoo.difference(ours_again, expected) <= 1e-4


@pytest.mark.parametrize(
    "how", [{"pag_speed": "fast"}, {"pag_reuse": pag.reuse.SPEEDS["fast"]}], ids=["speed", "reuse"]
)
def test_fast_leaves_rows_out(how: dict[str, Any]) -> None:
    guided, rows = ours(), list[int]()
    guided.unet.conv_out.register_forward_hook(lambda _module, _inputs, output: rows.append(output.shape[0]))
    result = zoo.sample(guided, steps=25, **how, **zoo.prompts())
    assert (rows[0], rows[1:6], rows[6], rows[8]) == (3, [1] * 5, 2, 2)
    with pag.guide(guided, 3.0, layers="mid", speed="fast"):
        assert zoo.sample(guided, steps=25, pag_scale=0.0, **zoo.prompts()).equal(result)


def test_speed_and_reuse_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="two names of one setting"):
        zoo.sample(ours(), pag_speed="fast", pag_reuse=pag.Reuse(2), **zoo.prompts())


def test_settings_survive_saving(tmp_path: Path) -> None:
    ours(pag_applied_layers=["d0", "m0"]).save_pretrained(tmp_path)
    assert StableDiffusionPAGPipeline.from_pretrained(tmp_path).pag_applied_layers == ["d0", "m0"]
    assert StableDiffusionPAGPipeline.from_pretrained(tmp_path, pag_applied_layers="mid").pag_applied_layers == ["mid"]
    # The folder names a class that diffusers has too.
    assert DiffusionPipeline.from_pretrained(tmp_path).pag_applied_layers == ["d0", "m0"]


def test_from_pipe_shares_components_both_ways() -> None:
    guided = ours(pag_applied_layers=["d0"])
    plain: Any = StableDiffusionPipeline.from_pipe(guided)
    again: Any = StableDiffusionPAGPipeline.from_pipe(plain)
    assert type(plain) is StableDiffusionPipeline
    assert again.pag_applied_layers == ["d0"]
    for name, component in guided.components.items():
        assert plain.components[name] is component
        assert again.components[name] is component


def test_from_pipe_takes_over_the_layers_of_diffusers_class(pipe: Any) -> None:
    theirs = peer(pipe, "down_blocks.0")
    assert StableDiffusionPAGPipeline.from_pipe(theirs).pag_applied_layers == ["down_blocks.0"]
    assert StableDiffusionPAGPipeline.from_pipe(theirs, pag_applied_layers="mid").pag_applied_layers == ["mid"]


def test_auto_pipeline_keeps_components_and_layers() -> None:
    guided = ours(pag_applied_layers=["down_blocks.0"])
    auto: Any = AutoPipelineForText2Image.from_pipe(guided)
    assert auto.unet is guided.unet
    assert auto.pag_applied_layers == ["down_blocks.0"]
    assert type(AutoPipelineForText2Image.from_pipe(guided, enable_pag=False)) is StableDiffusionPipeline


def test_custom_pipeline_folder(tmp_path: Path) -> None:
    zoo.pipeline(tokenizer=zoo.tokenizer(), text_encoder=zoo.text_encoder()).save_pretrained(tmp_path)
    folder = Path(pag.__file__).parent / "custom_pipeline"
    loaded = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(folder), trust_remote_code=True)
    assert isinstance(loaded, StableDiffusionPAGPipeline)


def test_every_argument_is_documented() -> None:
    for parameter in inspect.signature(StableDiffusionPAGPipeline.__call__).parameters.values():
        if parameter.name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            text = inspect.getdoc(StableDiffusionPAGPipeline.__call__) or ""
            assert re.search(rf"^ +{parameter.name}:? ?\(.+\):", text, re.MULTILINE), parameter.name
    for name in ("vae", "unet", "scheduler", "pag_applied_layers"):
        assert re.search(rf"^ +{name} \(.+\):", inspect.getdoc(StableDiffusionPAGPipeline) or "", re.MULTILINE), name


def test_signature_holds_all_of_diffusers_class() -> None:
    expected = set(inspect.signature(diffusers.StableDiffusionPAGPipeline.__call__).parameters)
    assert expected <= set(inspect.signature(StableDiffusionPAGPipeline.__call__).parameters)
    expected = set(inspect.signature(diffusers.StableDiffusionPAGPipeline.__init__).parameters)
    assert expected == set(inspect.signature(StableDiffusionPAGPipeline.__init__).parameters)


def test_public_members_of_diffusers_class_exist(pipe: Any) -> None:
    theirs = {name for name in dir(diffusers.StableDiffusionPAGPipeline) if not name.startswith("_")}
    assert theirs <= set(dir(StableDiffusionPAGPipeline))
    pipe.set_pag_applied_layers("mid")
    assert set(pipe.pag_attn_processors) == {"mid_block.attentions.0.transformer_blocks.0.attn1.processor"}


def test_call_layers_hold_for_the_call_only(pipe: Any) -> None:
    pipe.set_pag_applied_layers("mid")
    seen: list[Any] = []

    def look(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((running.pag_applied_layers, running.pag_scale, running.do_perturbed_attention_guidance))
        return {}

    zoo.sample(pipe, prompt="a", steps=1, pag_applied_layers="d0", pag_scale=2.0, callback_on_step_end=look)
    assert seen == [(["d0"], 2.0, True)]
    assert pipe.pag_applied_layers == ["mid"]


def rows_of(pipe: Any, **run: Any) -> list[int]:
    """Rows of each call of the network, as it sees them."""
    rows: list[int] = []
    hook = pipe.unet.conv_out.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    try:
        zoo.sample(pipe, prompt="a", **run)
    finally:
        hook.remove()
    return rows


@pytest.mark.parametrize(
    ("run", "rows"),
    [
        ({"guidance_scale": 5.0}, [3, 3, 3, 3]),
        ({"guidance_scale": 0.0}, [2, 2, 2, 2]),
        ({"guidance_scale": 0.0, "pag_scale": 0.0}, [1, 1, 1, 1]),
        ({"guidance_scale": 0.0, "pag_applied_layers": []}, [1, 1, 1, 1]),
        ({"guidance_scale": 5.0, "pag_start": 0.5}, [2, 2, 3, 3]),
        ({"guidance_scale": 5.0, "pag_stop": 0.5}, [3, 3, 2, 2]),
        ({"guidance_scale": 5.0, "pag_adaptive_scale": 0.01}, [3, 2, 2, 2]),
    ],
)
def test_perturbed_rows_run_only_where_they_count(pipe: Any, run: dict[str, Any], rows: list[int]) -> None:
    assert rows_of(pipe, steps=4, **run) == rows


def test_both_adaptive_spellings_are_one(pipe: Any) -> None:
    one = zoo.sample(pipe, prompt="a", pag_adaptive_scale=0.002)
    other = zoo.sample(pipe, prompt="a", pag_adaptive_scaling=0.002)
    assert torch.equal(one, other)
    assert zoo.difference(one, zoo.sample(pipe, prompt="a")) > 1e-3


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pag_applied_layers": "mdi"}, ValueError, "'mdi' matches nothing.*nearest first: .*mid_block"),
    ({"pag_applied_layers_index": ["d99"]}, ValueError, "'d99' matches nothing"),
    ({"pag_applied_layers": 3.5}, TypeError, "name, a list of names or a predicate"),
    ({"pag_applied_layers": lambda site: True}, TypeError, "are names. A predicate is for `pag.guide"),  # pyright: ignore
    ({"pag_applied_layers": "mid", "pag_applied_layers_index": ["m0"]}, ValueError, "Leave one out"),
    ({"pag_adaptive_scale": 0.1, "pag_adaptive_scaling": 0.1}, ValueError, "Leave one out"),
    ({"pag_scale": -1.0}, ValueError, "pag_scale must be a finite number, 0 or more, but is -1.0"),
    ({"pag_scale": float("nan")}, ValueError, "pag_scale must be a finite number"),
    ({"pag_scale": "3"}, TypeError, "pag_scale must be a finite number.*'3' \\(str\\)"),
    ({"pag_start": 1.5}, ValueError, "pag_start must be a number from 0 to 1, but is 1.5"),
    ({"pag_start": 0.7, "pag_stop": 0.2}, ValueError, "must be below"),
    ({"pag_stop": 1.5}, ValueError, "from 0 to 1"),
    ({"pag_sclae": 3.0}, TypeError, "no argument 'pag_sclae'. Nearest: pag_scale"),
    ({"prompt": 7}, TypeError, "prompt must be a string"),
    ({"prompt": ["a", 7]}, TypeError, "prompt must be a string.*7"),
    ({"prompt": []}, ValueError, "prompt is an empty list"),
    ({"prompt": None, "prompt_embeds": torch.zeros(5, 16)}, ValueError, r"prompt_embeds must be of shape .*\(5, 16\)"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 5, 9)}, ValueError, "prompt_embeds must be of shape"),
    ({"prompt": None, "prompt_embeds": [[1.0]]}, TypeError, "prompt_embeds must be a tensor"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_input_is_a_clear_error_and_changes_nothing(
    pipe: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = zoo.state_of(pipe.unet)
    run: dict[str, Any] = {"prompt": "a"} | arguments
    with pytest.raises(error, match=message):
        zoo.sample(pipe, **run)
    assert zoo.state_of(pipe.unet) == before


def test_bad_layers_are_refused_when_loading() -> None:
    with pytest.raises(ValueError, match="'nope' matches nothing"):
        ours(pag_applied_layers="nope")


def test_attention_processors_cannot_be_set(pipe: Any) -> None:
    with pytest.raises(ValueError, match="replaces no attention processor"):
        pipe.set_pag_applied_layers("mid", (object(), object()))


def test_from_single_file_takes_our_settings(tmp_path: Path) -> None:
    parts = ours().components
    ours().save_pretrained(tmp_path / "config")
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, checkpoint)
    given = {name: part for name, part in parts.items() if part is not None}
    loaded = StableDiffusionPAGPipeline.from_single_file(
        str(checkpoint), config=str(tmp_path / "config"), pag_applied_layers=["d0"], safety_checker=None, **given
    )
    assert type(loaded) is StableDiffusionPAGPipeline
    assert loaded.unet is parts["unet"]
    assert loaded.pag_applied_layers == ["d0"]
