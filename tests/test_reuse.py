"""Reuse of deltas: what a run gives is what the formula gives with those deltas, and the rows are not run."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback

import pag
import pag.reuse
from pag.cli.options import SPEEDS
from pag.families import Convention
from pag.reuse import Deltas
from tests import zoo
from tests.groups import building
from tests.modular import RUNS as MODULAR
from tests.modular._run import Formula
from tests.runs import RUNS, guided

S = 3.0
REUSE = pag.Reuse(pag=2, cfg=3)


OF_THEIR_OWN_STEPS = (
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
    "SkyReelsV2DiffusionForcingPipeline: a long video",
    "two transformers",
    "skipped layers",
    "temporal reasoning",
    "LTX2DFRPipeline: tiles",
)
"""In their names, of runs with networks or calls that begin in the middle, or blocks of frames with steps of their own:
the formula here plans by the number of the step."""
OF_TWO_STEPS = ("SanaSprint", "truncated", "CFG in the second half", "CFG in an interval", "cover", "KleinKV")
"""In their names, of runs whose description fits two steps only: later ones have other inputs, or other rows."""
TOO_SENSITIVE = (
    "IFImg2ImgPipeline",
    "KandinskyImg2ImgPipeline",
    "KandinskyImg2ImgCombinedPipeline",
    "KandinskyV22ControlnetImg2ImgPipeline",
)
"""In four steps the rounding of any guided run is above the bound."""
KEEPS_KEYS = ("QwenImage21Pipeline", "QwenImage21Pipeline: edit")
OTHERS = [
    name
    for name in RUNS
    if not any(part in name for part in (*OF_TWO_STEPS, *OF_THEIR_OWN_STEPS, *TOO_SENSITIVE, *KEEPS_KEYS))
]
FIRST = {name.partition(":")[0]: name for name in reversed(OTHERS)}
"""One run for each class of pipelines; the others take minutes."""


@pytest.mark.parametrize(
    "name", [name if name in FIRST.values() else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_a_run_gives_the_formula_with_the_deltas_of_earlier_steps(name: str):
    run = RUNS[name]
    steps = {} if run.steps is None else {"num_inference_steps": 4}
    with building():
        pipe = run.make()
    with pag.guide(pipe, S, layers=run.path, reuse=REUSE):
        ours = run.sample(pipe, **steps)
        again = run.sample(pipe, **steps)
    count = len(pipe.scheduler.timesteps)
    with guided(run, pipe, S, REUSE, min(count, getattr(pipe, "_num_timesteps", count))):
        expected = run.sample(pipe, **steps)
    assert zoo.difference(ours, expected) <= run.tolerance
    assert again.equal(ours)


@pytest.mark.parametrize("name", KEEPS_KEYS)
def test_rows_whose_keys_are_kept_cannot_be_left_out(name: str):
    run = RUNS[name]
    with building():
        pipe = run.make()
    plain = run.sample(pipe)
    with pag.guide(pipe, S, layers=run.path, reuse=REUSE), pytest.raises(RuntimeError, match=r"keeps keys.*Reuse\(pag"):
        run.sample(pipe, num_inference_steps=4)
    with pag.guide(pipe, S, layers=run.path, reuse=pag.Reuse(pag=2)):
        run.sample(pipe, num_inference_steps=4)
    assert run.sample(pipe).equal(plain)


@pytest.mark.parametrize("name", MODULAR)
def test_the_guider_reuses_the_same_deltas(name: str):
    run = MODULAR[name]
    steps = {} if run.steps is None else {"num_inference_steps": 5}
    pipe, g = run.make(), None if run.distilled else 4.0
    expected = run.sample(pipe, *[Formula(run, g, S, reuse=REUSE) for _ in run.guiders], **steps)
    guiders = [pag.PerturbedAttentionGuider(g or 1.0, S, run.path, reuse=REUSE) for _ in run.guiders]
    ours = run.sample(pipe, *guiders, **steps)
    assert zoo.difference(ours, expected) <= 1e-4
    assert run.sample(pipe, *guiders, **steps).equal(ours)


def test_one_guider_of_two_predictions_reuses_the_deltas_of_each():
    """As one for video and audio: both in turn give what each gives alone."""
    noise = torch.randn(2, 8, 3, 1, 4, generator=torch.Generator().manual_seed(0))
    names = ("pred_cond", "pred_uncond", "pred_cond_perturbed")

    def run(*which: int) -> list[torch.Tensor]:
        guider, found = pag.PerturbedAttentionGuider(4.0, S, "mid", reuse=pag.Reuse(pag=2, cfg=3)), []
        for step in range(8):
            guider.set_state(step, 8, torch.tensor(1.0))
            wanted = guider.active_predictions()
            for one in which:
                given: dict[str, torch.Tensor] = dict(zip(names, noise[one, step], strict=True))
                found.append(guider.forward(**{name: given[name] for name in wanted}).pred)
        return found

    both = run(0, 1)
    assert torch.stack(both[::2]).equal(torch.stack(run(0)))
    assert torch.stack(both[1::2]).equal(torch.stack(run(1)))


def planned(reuse: pag.Reuse, steps: int, parts: int = 1) -> tuple[list[int], list[int]]:
    """The steps in which ``c − u`` and ``c − ĉ`` are computed."""
    deltas, c = Deltas(reuse), [torch.zeros(1, 1)]
    computed: dict[str, list[int]] = {"uncond": [], "perturbed": []}
    for step in range(steps):
        deltas.begin(step, steps, parts)
        left_out = deltas.left_out(list(computed))
        now = [group for group in computed if group not in left_out]
        deltas.completed(c, dict.fromkeys(now, c), left_out)
        for group in now:
            computed[group].append(step)
    return computed["uncond"], computed["perturbed"]


class TestPlan:
    def test_the_two_are_computed_in_different_steps_and_late_once_more(self):
        assert planned(pag.Reuse(4, 4), 25) == ([0, 4, 8, 12, 16, 20, 23], [0, 6, 10, 14, 18, 22, 24])

    def test_a_share_of_the_run_begins_later(self):
        assert planned(pag.Reuse(0.175, 0.14), 25) == ([0, 6, 9, 13, 16, 20, 23], [0, 8, 13, 17, 21, 24])
        assert planned(pag.Reuse(0.175, 0.14), 50)[0] == [0, 11, 18, 25, 32, 39, 46, 48]
        assert planned(pag.Reuse(0.175, 0.14), 4) == ([0, 1, 2, 3], [0, 1, 2, 3])

    def test_fast_costs_three_quarters_of_classifier_free_guidance(self):
        """What rows cost is counted for Stable Diffusion 1.5 at 512² and `mid`."""
        fast = pag.reuse.SPEEDS["fast"]
        assert fast is not None
        for steps, parts in ((25, 1), (28, 1), (50, 1), (49, 2)):
            uncond, perturbed = planned(fast, steps, parts)
            assert (steps + 0.949 * len(uncond) + 0.684 * len(perturbed)) / (2 * steps) <= 0.735

    def test_one_alone(self):
        assert planned(pag.Reuse(pag=3), 9) == (list(range(9)), [0, 3, 6, 8])
        assert planned(pag.Reuse(cfg=3), 9) == ([0, 3, 6], list(range(9)))

    def test_both_calls_of_a_step_of_two_are_seen(self):
        for reuse, apart in ((pag.Reuse(4, 4), 5), (pag.Reuse(0.175, 0.14), 5), (pag.Reuse(3, 3), 3)):
            uncond, _ = planned(reuse, 49, parts=2)
            assert {after - before for before, after in pairwise(uncond[1:-1])} == {apart}

    @pytest.mark.parametrize("steps", range(1, 6))
    def test_short_runs(self, steps: int):
        uncond, perturbed = planned(pag.Reuse(4, 4), steps)
        assert uncond[0] == perturbed[0] == 0


def test_what_was_missed_is_repaid():
    """A delta that grows evenly, all of it: its sum over the run is right."""
    deltas, used = Deltas(pag.Reuse(cfg=3, repay=1.0)), 0.0
    for step in range(28):
        deltas.begin(step, 29)
        left_out = deltas.left_out(["uncond"])
        u = {} if left_out else {"uncond": [torch.full((1, 1), -float(step))]}
        used -= float(deltas.completed([torch.zeros(1, 1)], u, left_out)["uncond"][0])
    assert used == sum(range(28))


def test_few_steps_repay_less():
    reuse = pag.Reuse(repay=0.75)
    assert [reuse.repaid(steps) for steps in (None, 100, 25, 10)] == [0.75, 0.75, 0.75, pytest.approx(0.3)]
    assert [reuse.repaid(steps, parts=2) for steps in (None, 49, 19)] == [0.75, 0.75, pytest.approx(0.3)]


class TestGate:
    """Classifier-free guidance ends where ``u`` is as similar to ``c`` as the gate says."""

    def ended(self, gate: float, *others: torch.Tensor) -> bool:
        """Whether a step of these negative predictions is the last one that runs them."""
        deltas, names = Deltas(pag.Reuse(gate=gate)), [f"uncond {index}" for index, _ in enumerate(others)]
        deltas.begin(0, 9)
        computed = {name: [one] for name, one in zip(names, others, strict=True)}
        c = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        found = deltas.completed([c], {"perturbed": [c], **computed}, deltas.left_out([*names, "perturbed"]))
        assert all(found[name][0].equal(one) for name, one in zip(names, others, strict=True))
        deltas.begin(1, 9)
        left_out = deltas.left_out([*names, "perturbed"])
        assert "perturbed" not in left_out
        assert deltas.promise(2, names) == bool(left_out)
        assert all(deltas.completed([c + 1], {}, left_out)[name][0].equal(c + 1) for name in left_out)
        return set(left_out) == set(names)

    def test_the_least_similar_image_counts(self):
        far, near = [0.6, 0.8], [0.8, 0.6]
        assert self.ended(0.59, torch.tensor([far, near]))
        assert not self.ended(0.61, torch.tensor([far, near]))
        assert self.ended(0.79, torch.tensor([near, near]))

    def test_of_several_negative_prompts_none_is_left_out_alone(self):
        near, far = torch.tensor([[0.8, 0.6]] * 2), torch.tensor([[0.6, 0.8]] * 2)
        assert self.ended(0.7, near, near)
        assert not self.ended(0.7, near, far)

    def test_one_that_has_ended_does_not_begin_again(self):
        """It is run once more beside the other, is far then, and has no delta after all."""
        deltas, names = Deltas(pag.Reuse(gate=0.7)), ["uncond 1", "uncond 2"]
        near, far, c = torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
        for step, others in enumerate(((near, far), (far, near))):
            deltas.begin(step, 9)
            assert deltas.left_out(names) == ()
            deltas.completed([c], {name: [one] for name, one in zip(names, others, strict=True)}, ())
        deltas.begin(2, 9)
        assert deltas.left_out(names) == tuple(names)
        assert all(one[0].equal(c) for one in deltas.completed([c], {}, names).values())

    @pytest.mark.parametrize("steps", [1, 3])
    def test_from_then_on_it_is_a_run_whose_guidance_was_cut_off(self, steps: int, monkeypatch: pytest.MonkeyPatch):
        pipe, seen, rows = zoo.pipeline(), [0], []
        pipe.unet.conv_out.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
        given: dict[str, Any] = {**zoo.prompts(), "steps": 6}
        callback = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=steps - 1)  # pyright: ignore

        def similarity(*_: Any) -> float:
            seen[0] += 1
            return float(seen[0] == steps)

        monkeypatch.setattr(pag.reuse, "_similarity", similarity)
        with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(gate=0.5)):
            ours = zoo.sample(pipe, **given)
        assert rows == [3] * steps + [2] * (6 - steps)
        with pag.guide(pipe, S, layers="mid"):
            assert zoo.difference(ours, zoo.sample(pipe, callback_on_step_end=callback, **given)) <= 1e-5

    def test_what_is_never_reached_changes_nothing(self):
        pipe = zoo.pipeline()
        given: dict[str, Any] = {**zoo.prompts(), "steps": 4}
        with pag.guide(pipe, S, layers="mid"):
            exact = zoo.sample(pipe, **given)
        with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(gate=1.0)):
            assert zoo.difference(zoo.sample(pipe, **given), exact) <= 1e-5

    @pytest.mark.parametrize("reuse", [pag.Reuse(cfg=2), pag.Reuse(gate=0.5)])
    def test_what_is_called_for_ahead_of_the_prompt_cannot_be_left_out(self, reuse: pag.Reuse):
        run = RUNS["WanPipeline"]
        with building():
            pipe = run.make()
        pipe.pag_convention = Convention(calls=("uncond", "cond"))
        with pag.guide(pipe, S, layers=run.path, reuse=reuse), pytest.raises(ValueError, match="for uncond first"):
            run.sample(pipe)

    def test_a_call_of_its_own_is_not_made(self):
        run, calls = RUNS["WanPipeline"], [0]
        with building():
            pipe = run.make()
        pipe.transformer.proj_out.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        with pag.guide(pipe, S, layers=run.path, reuse=pag.Reuse(gate=0.0)):
            run.sample(pipe, num_inference_steps=4)
        assert calls == [5]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"pag": 0}, ValueError),
        ({"pag": -2}, ValueError),
        ({"cfg": 2.5}, ValueError),
        ({"cfg": float("nan")}, ValueError),
        ({"cfg": float("inf")}, ValueError),
        ({"pag": True}, TypeError),
        ({"pag": "2"}, TypeError),
        ({"repay": 1.5}, ValueError),
        ({"repay": None}, TypeError),
        ({"gate": 1.5}, ValueError),
        ({"gate": "0.9"}, TypeError),
    ],
)
def test_wrong_settings_say_what_is_possible(wrong: dict[str, Any], error: type[Exception]):
    with pytest.raises(error, match=next(iter(wrong))):
        pag.Reuse(**wrong)


def test_settings_survive_json():
    guidance = pag.Guidance(reuse=pag.Reuse(np.int64(3), 0.25, 0.5, np.float64(0.9)))  # pyright: ignore[reportArgumentType]
    assert pag.Guidance.from_json(guidance.to_json()) == guidance


def test_settings_that_do_not_exist_are_told():
    with pytest.raises(ValueError, match=r"Unknown settings of reuse \['speed'\]. Possible are: pag, cfg, repay, gate"):
        pag.Guidance.from_json('{"reuse": {"pag": 2, "speed": 3}}')


def test_a_speed_is_a_name_and_the_only_setting():
    pipe = zoo.pipeline()
    assert pag.guide(pipe, speed="exact").guidance.reuse is None
    assert pag.guide(pipe, speed="fast").guidance.reuse == pag.Reuse(0.175, 0.14)
    with pytest.raises(ValueError, match=r"speed='faster' does not exist. There is: exact, fast"):
        pag.guide(pipe, speed="faster")
    with pytest.raises(ValueError, match="two names of one setting"):
        pag.guide(pipe, speed="fast", reuse=REUSE)


def test_the_command_line_has_all_speeds():
    assert tuple(pag.reuse.SPEEDS) == SPEEDS


class TestRuns:
    """State belongs to one run."""

    STEPS = 8

    def sample(self, pipe: Any, seed: int = 0, **arguments: Any) -> torch.Tensor:
        return zoo.sample(pipe, seeds=(seed,), **({"steps": self.STEPS} | zoo.prompts() | arguments))

    @pytest.fixture
    def pipe(self) -> Any:
        return zoo.pipeline()

    @pytest.fixture
    def rows(self, pipe: Any) -> list[int]:
        """Rows of each call of the last layer."""
        seen: list[int] = []
        pipe.unet.conv_out.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
        return seen

    def test_rows_that_are_not_needed_are_not_run(self, pipe: Any, rows: list[int]):
        with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(3, 3)):
            self.sample(pipe)
        assert rows == [3, 1, 1, 2, 2, 1, 2, 2]  # CFG in 0, 3, 6; PAG in 0, 4, 7

    def test_off_is_exact(self, pipe: Any):
        plain = self.sample(pipe)
        with pag.guide(pipe, 0.0, layers="mid", speed="fast"):
            assert self.sample(pipe).equal(plain)
        assert self.sample(pipe).equal(plain)

    def test_every_step_is_exact(self, pipe: Any):
        with pag.guide(pipe, S, layers="mid"):
            exact = self.sample(pipe)
        with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse()):
            assert zoo.difference(self.sample(pipe), exact) <= 1e-5

    def test_a_run_knows_nothing_of_another(self, pipe: Any):
        def stop(pipe: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step == 2:
                raise InterruptedError
            return tensors

        with pag.guide(pipe, S, layers="mid", reuse=REUSE):
            first = self.sample(pipe)
            self.sample(pipe, seed=1, steps=5)
            assert self.sample(pipe).equal(first)
            with pytest.raises(InterruptedError):
                self.sample(pipe, seed=2, callback_on_step_end=stop)
            assert self.sample(pipe).equal(first)
            self.sample(pipe, guidance_scale=0.0)
            self.sample(pipe, height=24, width=40)
            assert self.sample(pipe).equal(first)

    def test_rows_that_are_dropped_begin_anew(self, pipe: Any, rows: list[int]):
        callback = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=3)  # pyright: ignore
        with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(3, 3)):
            self.sample(pipe, callback_on_step_end=callback)
        assert rows == [3, 1, 1, 2, 2, 1, 1, 2]  # no uncond row from 4 on; the prompt's delta is good all the same

    def test_an_interval_is_for_pag_alone(self, pipe: Any, rows: list[int]):
        with pag.guide(pipe, S, layers="mid", stop=0.5, reuse=pag.Reuse(3, 3)):
            self.sample(pipe)
        assert rows == [3, 1, 1, 2, 1, 1, 2, 1]

    def test_each_image_is_its_own(self, pipe: Any):
        with pag.guide(pipe, S, layers="mid", reuse=REUSE):
            both = zoo.sample(pipe, seeds=(0, 1), steps=self.STEPS, **zoo.prompts(), num_images_per_prompt=2)
            alone = self.sample(pipe, seed=1)
        assert zoo.difference(both[1:], alone) <= 1e-4

    def test_in_a_loop_of_its_own_nothing_tells_the_steps(self, pipe: Any):
        pipe.scheduler.set_timesteps(4)
        given = zoo.inputs(pipe.unet, 1)
        with pag.guide(pipe, S, layers="mid", speed="fast"), pytest.raises(RuntimeError, match="where a run begins"):
            pipe.unet(**given)
