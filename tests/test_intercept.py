"""What goes on comes off: after guidance, by whatever way it ended, the pipeline is as it was."""

import copy
import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import accelerate.hooks
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from torch import nn

import pag
from pag.intercept import Override
from tests import zoo


@pytest.fixture
def pipe() -> Any:
    return zoo.pipeline()


def plain(pipe: Any, **arguments: Any) -> torch.Tensor:
    return zoo.sample(pipe, **zoo.prompts(), **arguments)


def references_to_guidance(model: nn.Module) -> list[str]:
    """Attributes of modules that come from `pag`."""
    return [
        f"{path}.{name}"
        for path, attributes in zoo.state_of(model).items()
        for name, value in attributes.items()
        if type(value).__module__.startswith("pag")
    ]


class TestAfterwards:
    """Every attribute of every module is the very object that it was."""

    @pytest.fixture(autouse=True)
    def _restored(self, pipe: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        before, processors, image = zoo.state_of(pipe.unet), pipe.unet.attn_processors, plain(pipe)
        yield
        assert not references_to_guidance(pipe.unet)
        after = zoo.state_of(pipe.unet)
        assert after.keys() == before.keys()
        for path, attributes in before.items():
            assert after[path].keys() == attributes.keys(), path
            # Tables of children and parameters are compared by what they hold below.
            assert all(after[path][name] is value for name, value in attributes.items()), path
        assert all(pipe.unet.attn_processors[name] is processor for name, processor in processors.items())
        assert plain(pipe).equal(image)

    def test_a_run(self, pipe: Any):
        with pag.guide(pipe, layers=["d0", "mid", "u3"]):
            assert references_to_guidance(pipe.unet)
            plain(pipe)

    def test_attach_and_detach_again_and_again(self, pipe: Any):
        handle = pag.guide(pipe)
        for _ in range(2):
            assert handle.attach() is handle
            assert handle.attached
            handle.detach()
            handle.detach()
            assert not handle.attached

    def test_a_callback_that_raises(self, pipe: Any):
        def callback(*_: Any) -> dict[str, Any]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), pag.guide(pipe):
            plain(pipe, callback_on_step_end=callback)

    @pytest.mark.parametrize("path", ["conv_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_v", "conv_out"])
    def test_a_network_that_runs_out_of_memory(self, pipe: Any, path: str):
        def fail(*_: Any) -> None:
            raise torch.OutOfMemoryError("no memory")

        hook = pipe.unet.get_submodule(path).register_forward_pre_hook(fail)
        with pag.guide(pipe):
            with pytest.raises(torch.OutOfMemoryError):
                plain(pipe)
            hook.remove()
            guided = plain(pipe)
        with pag.guide(pipe):
            assert plain(pipe).equal(guided)

    @pytest.mark.parametrize("after", [1, 4], ids=["attaching", "a guided call"])
    def test_stepping_in_that_fails_half_way(self, pipe: Any, monkeypatch: pytest.MonkeyPatch, after: int):
        installed: list[Override] = []
        install = Override.install

        def failing(override: Override) -> None:
            if len(installed) == after:
                raise MemoryError
            installed.append(override)
            install(override)

        monkeypatch.setattr(Override, "install", failing)
        handle = pag.guide(pipe)
        with pytest.raises(MemoryError), handle:
            plain(pipe)
        assert not handle.attached
        monkeypatch.undo()
        with handle:
            plain(pipe)

    def test_between_guided_calls_the_modules_are_untouched(self, pipe: Any):
        untouched = zoo.state_of(pipe.unet)
        kept: list[bool] = []

        def callback(*_: Any) -> dict[str, Any]:
            state = zoo.state_of(pipe.unet)
            kept.append(all(state[name] == before for name, before in untouched.items() if name))
            return {}

        with pag.guide(pipe):
            plain(pipe, callback_on_step_end=callback)
        assert kept == [True] * 3

    def test_nesting_is_refused_and_does_not_disturb_what_is_on(self, pipe: Any):
        with pag.guide(pipe) as outer:
            guided = plain(pipe)
            with pytest.raises(RuntimeError, match=r"guided already.*identity guidance, scale 3, at m0.*Detach"):
                pag.guide(pipe, layers="d0").attach()
            with pytest.raises(RuntimeError, match="guided already"):
                outer.attach()
            assert plain(pipe).equal(guided)

    def test_pipelines_that_share_the_network_cannot_both_guide_it(self, pipe: Any):
        sibling = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
        with pag.guide(pipe), pytest.raises(RuntimeError, match="guided already"):
            pag.guide(sibling).attach()
        with pag.guide(sibling):
            pass


class TestCopies:
    """What is copied or saved under guidance is the plain network, on its own."""

    @staticmethod
    def check(made: UNet2DConditionModel, pipe: Any) -> None:
        assert not references_to_guidance(made)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.01)
        arguments = zoo.inputs(made, 2)
        expected = zoo.unet()
        expected.load_state_dict(made.state_dict())
        with torch.no_grad():
            assert made(**arguments)[0].equal(expected(**arguments)[0])
        assert {str(name) for name in made.state_dict()} == {str(name) for name in zoo.unet().state_dict()}
        with torch.no_grad():
            assert all(map(torch.equal, pipe.unet.parameters(), zoo.unet().parameters()))

    def test_deepcopy(self, pipe: Any):
        with pag.guide(pipe, layers=["d0", "mid"]):
            self.check(copy.deepcopy(pipe.unet), pipe)

    def test_pickle(self, pipe: Any):
        with pag.guide(pipe, layers=["d0", "mid"]):
            self.check(pickle.loads(pickle.dumps(pipe.unet)), pipe)

    def test_save_pretrained(self, pipe: Any, tmp_path: Path):
        with pag.guide(pipe):
            pipe.unet.save_pretrained(tmp_path)
        self.check(UNet2DConditionModel.from_pretrained(tmp_path), pipe)  # pyright: ignore

    def test_a_copy_does_not_keep_the_original_alive(self, pipe: Any):
        handle = pag.guide(pipe).attach()
        duplicate = copy.deepcopy(pipe.unet)
        original = weakref.ref(pipe.unet)
        handle.detach()
        del handle, pipe.unet
        gc.collect()
        assert original() is None
        assert duplicate is not None

    def test_a_pipeline_that_is_dropped_under_guidance_is_freed(self, pipe: Any):
        pag.guide(pipe).attach()
        original = weakref.ref(pipe.unet)
        del pipe.unet
        gc.collect()
        assert original() is None


class TestForeignHooks:
    """Somebody else wraps the call of a module while guidance is on."""

    class Shift(accelerate.hooks.ModelHook):
        def post_forward(self, module: nn.Module, output: Any) -> Any:
            sample = output[0] + 1
            return (sample,) if isinstance(output, tuple) else type(output)(sample=sample)

    def test_ours_steps_aside_and_theirs_stays(self, pipe: Any):
        with pag.guide(pipe):
            accelerate.hooks.add_hook_to_module(pipe.unet, self.Shift())
            guided = plain(pipe)
        shifted = plain(pipe)
        assert zoo.difference(guided, shifted) > 1e-3
        expected = zoo.pipeline()
        accelerate.hooks.add_hook_to_module(expected.unet, self.Shift())
        assert shifted.equal(plain(expected))
        accelerate.hooks.remove_hook_from_module(pipe.unet)
        assert plain(pipe).equal(plain(zoo.pipeline()))

    def test_guidance_outlives_hooks_that_are_taken_off_and_put_on_again(self, pipe: Any):
        """As model offloading does after each run: the second image must not be silently unguided."""
        accelerate.hooks.add_hook_to_module(pipe.unet, self.Shift())
        with pag.guide(pipe):
            first = plain(pipe)
            accelerate.hooks.remove_hook_from_module(pipe.unet)
            accelerate.hooks.add_hook_to_module(pipe.unet, self.Shift())
            assert plain(pipe).equal(first)
        assert zoo.difference(plain(pipe), first) > 1e-3
        assert not references_to_guidance(pipe.unet)

    def test_torch_hooks_see_the_rows_that_run(self, pipe: Any):
        rows: list[int] = []
        path = "mid_block.attentions.0"
        pipe.unet.get_submodule(path).register_forward_hook(lambda m, i, output: rows.append(output[0].shape[0]))
        with pag.guide(pipe):
            plain(pipe, steps=1)
        assert rows == [3]
