"""Contenders, and a contest: who needs how long for the same latents, in turns."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo as dynamo
from diffusers import DDIMScheduler, modular_pipelines
from diffusers.guiders import ClassifierFreeGuidance, PerturbedAttentionGuidance
from diffusers.hooks import LayerSkipConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

import pag
from benchmarks import models
from benchmarks.subject import Setting, Subject
from pag.counters import PeakMemory

Call = Callable[[], Tensor]
NONE, CFG, PAG, BOTH = KINDS = ("no guidance", "CFG", "PAG", "CFG + PAG")
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of exact contenders of a kind, relative to the largest latent."""

FASTER: dict[str, dict[str, Any]] = {
    "fast": {"speed": "fast"},
}
"""Approximate settings of :func:`pag.guide` that are timed."""

# Kernels of a CPU's attention are unknown to the counter.
_ATTENTION_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True)
class Contender:
    """One way to compute guided latents.

    Args:
        kind: which guidance.
        by: whose code guides; empty without PAG.
        run: computes the latents.
        exact: whether they must equal those of the others of its kind.
    """

    kind: str
    by: str
    run: Call
    exact: bool = True

    @property
    def name(self) -> str:
        """Kind and origin."""
        return ", ".join(filter(None, (self.kind, self.by)))


@dataclass(frozen=True)
class Contest:
    """Contenders on one network.

    Args:
        network: the denoiser.
        contenders: who takes part.
        layers: the layers to perturb; None for those recommended.
        costs: what :func:`pag.cost` counts, if it is more than the denoiser.
    """

    network: nn.Module
    contenders: list[Contender]
    layers: str | None = None
    costs: Any = None


def pipelines(subject: Subject, approximate: bool = False, low_memory: bool = False) -> Contest:
    """The plain pipeline, guided and not, against diffusers' PAG pipeline.

    Args:
        subject: the pipelines.
        approximate: whether cheaper guidance, of which latents differ, takes part.
        low_memory: whether the mode for less memory does.
    """

    def ours(cfg: bool, **settings: Any) -> Call:
        def run() -> Tensor:
            with pag.guide(subject.plain, subject.s, layers=subject.layers, **settings):
                return subject.draw(subject.plain, cfg)

        return run

    def theirs(cfg: bool) -> Call:
        return lambda: subject.draw(subject.peer, cfg, pag_scale=subject.s)

    found = [
        Contender(NONE, "", lambda: subject.draw(subject.plain, False)),
        Contender(CFG, "", lambda: subject.draw(subject.plain, True)),
    ]
    for kind, cfg in ((PAG, False), (BOTH, True)):
        found += [Contender(kind, "diffusers", theirs(cfg))] if subject.peer is not None else []
        found.append(Contender(kind, "here", ours(cfg)))
    found += [Contender(BOTH, "here, low memory", ours(True, low_memory=True))] if low_memory else []
    if approximate:
        found += [Contender(BOTH, f"here, {name}", ours(True, **settings), False) for name, settings in FASTER.items()]
    return Contest(subject.network, found, subject.layers, subject.plain)


def guiders(setting: Setting) -> Contest:
    """diffusers' guider against ours in its modular pipeline of Stable Diffusion XL.

    The network is that of Stable Diffusion 1.5 with XL's added conditions, so that it fits a small machine: diffusers'
    guider works with no smaller modular pipeline. It leaves the first step out, and does something else without CFG.
    """
    blocks = modular_pipelines.StableDiffusionXLAutoBlocks()
    for name in set(blocks.sub_blocks) - {"denoise"}:
        blocks.sub_blocks.pop(name)
    pipe: Any = blocks.init_pipeline()
    unet = models.sd15_unet(setting, **models.XL_CONDITIONS)
    pipe.vae = models.latent_vae(setting)
    pipe.update_components(unet=unet, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False))
    given = models.texts(setting, 77, 768) | models.pooled(setting, 1280)
    given |= {"height": setting.size, "width": setting.size, "num_inference_steps": setting.steps}

    def draw(guider: Any) -> Call:
        def run() -> Tensor:
            pipe.set_progress_bar_config(disable=True)
            pipe.update_components(guider=guider)
            return pipe(**given, generator=torch.Generator().manual_seed(0), output="latents")

        return run

    fqn = "mid_block.attentions.0.transformer_blocks"
    config = LayerSkipConfig([0], fqn=fqn, skip_attention=False, skip_attention_scores=True, skip_ff=False)
    theirs = PerturbedAttentionGuidance(5.0, 3.0, 0.0, 1.0, perturbed_guidance_config=config)
    ours = pag.PerturbedAttentionGuider(5.0, 3.0, "mid", pag_start=0.5 / setting.steps)
    contenders = [
        Contender(CFG, "", draw(ClassifierFreeGuidance(5.0))),
        Contender(BOTH, "diffusers' guider", draw(theirs)),
        Contender(BOTH, "our guider", draw(ours)),
    ]
    return Contest(unet, contenders, "mid")


def measure(contest: Contest, setting: Setting, rounds: int, compiled: str = "") -> dict[str, Any]:
    """Differences, operations and seconds of each contender.

    The first run of each is in eager mode: there operations are counted and latents compared. Then all take turns.

    Args:
        contest: the contenders.
        setting: what is drawn.
        rounds: how often each is timed.
        compiled: mode of `torch.compile`, empty for none.
    """
    latents: dict[str, Tensor] = {}
    found: dict[str, dict[str, Any]] = {}
    for one in contest.contenders:
        latents[one.name], operations = counted(one.run)
        found[one.name] = {"kind": one.kind, "by": one.by, "operations": operations, "exact": one.exact, "seconds": []}
    differences = compare(contest.contenders, latents, TOLERANCE[setting.dtype])
    able = contest.contenders
    if compiled:
        failed = _compile(contest, compiled)
        able = [one for one in able if one.name not in failed]
        for name, error in failed.items():
            found[name]["failed"] = error
    for turn in range(rounds):
        for one in _rotated(able, turn):
            seconds, peak = _timed(one.run, setting.device)
            found[one.name]["seconds"].append(seconds)
            if peak is not None:
                found[one.name].setdefault("allocated", []).append(peak)
    return {"contenders": list(found.values()), "differences": differences}


def _compile(contest: Contest, mode: str) -> dict[str, str]:
    """Compile the network and run each contender until its graphs are there. Returns what fails, with its error."""
    # A pipeline that sets other attention processors in each call is compiled each time, and must not take the places
    # of graphs that last.
    dynamo.config.recompile_limit = 64
    dynamo.reset()
    contest.network.compile(mode=mode)
    failed: dict[str, str] = {}
    for one in contest.contenders * 3:  # graphs of CUDA are recorded in the second run
        try:
            one.run()
        except Exception as error:
            failed[one.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return failed


def counted(run: Call) -> tuple[Tensor, int]:
    """What a run computes, and its floating-point operations."""
    operations = FlopCounterMode(display=False, custom_mapping={_ATTENTION_ON_CPU: _attention})
    with operations:
        result = run()
    return result, operations.get_total_flops()


def activations(run: Call) -> int:
    """The most bytes of activations that are alive at once in a run."""
    with PeakMemory() as memory:
        run()
    return memory.bytes


def compare(contenders: list[Contender], latents: dict[str, Tensor], tolerance: float) -> dict[str, float]:
    """Largest differences, relative to the largest latent, of each contender from the first of its kind.

    Raises:
        AssertionError: if contenders of a kind differ by more than is tolerated, or guidance hardly does anything.
    """
    differences: dict[str, float] = {}
    first: dict[str, str] = {}
    for one in contenders:
        reference = latents[first.setdefault(one.kind, one.name)]
        difference = differences[one.name] = _difference(latents[one.name], reference)
        assert difference <= tolerance or not one.exact, f"{one.name} is off by {difference}"
    for kind, without in ((PAG, NONE), (BOTH, CFG)):
        if {kind, without} <= first.keys():
            effect = differences[f"effect of {kind}"] = _difference(latents[first[kind]], latents[first[without]])
            noise = max(differences[one.name] for one in contenders if one.exact) if tolerance <= 1e-4 else 0.0
            assert effect > noise, f"{kind} does nothing"
    return differences


def median(contender: dict[str, Any], steps: int) -> float:
    """Median of the seconds a step."""
    return statistics.median(contender["seconds"]) / steps


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _rotated(contenders: list[Contender], by: int) -> list[Contender]:
    """Each goes first once."""
    by %= len(contenders)
    return contenders[by:] + contenders[:by]


def _timed(run: Call, device: str) -> tuple[float, int | None]:
    """Seconds, and on a GPU the peak of the allocated memory on top of what was there."""
    if device != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() - before


def _attention(query: Any, key: Any, value: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return sdpa_flop(query, key, value)
