"""`pag sample`: many samples in one file, for measurements."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pag.cli import console
from pag.cli.options import Batch, Device, Dtype, Layers, LowMemory, Seed, Speed, in_range
from pag.generate import UserError
from pag.generate.errors import mendable

__all__ = ["sample"]

GUIDANCE, SAMPLING, RUNNING = "Guidance", "Sampling", "Running"

sample = typer.Typer(help="Write many samples to one file, for evaluators of the FID.")

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE.npz", help="Appears when it is complete.")]


@sample.command()
def adm(
    model: Annotated[str, typer.Argument(help="A folder that `pag convert adm` made.", show_default=False)],
    num: Annotated[int, typer.Option("--num", min=1, metavar="N", help="How many images; seeds count up.")] = 50_000,
    out: Out = Path("samples.npz"),
    pag_scale: Annotated[
        float,
        typer.Option(
            "--pag-scale", "-s", callback=in_range(), rich_help_panel=GUIDANCE, help="Strength of PAG; 0 is off."
        ),
    ] = 1.0,
    layers: Layers = None,
    perturbation: Annotated[
        str,
        typer.Option("--perturbation", rich_help_panel=GUIDANCE, help="Method: identity (PAG), sag, sag_pixels."),
    ] = "identity",
    classifier_scale: Annotated[
        float,
        typer.Option(
            "--classifier-scale",
            callback=in_range(),
            rich_help_panel=GUIDANCE,
            help="Strength of classifier guidance; 0 is off.",
        ),
    ] = 0.0,
    speed: Speed = "exact",
    classes: Annotated[
        str,
        typer.Option(
            "--classes",
            rich_help_panel=SAMPLING,
            help="none, random, balanced, or labels and names like 207,88; auto is random where there are classes.",
        ),
    ] = "auto",
    sampler: Annotated[
        str,
        typer.Option("--sampler", rich_help_panel=SAMPLING, help="ddpm, ddim, or a scheduler such as dpm++2m."),
    ] = "ddpm",
    steps: Annotated[
        int, typer.Option("--steps", min=1, metavar="N", rich_help_panel=SAMPLING, help="Sampling steps.")
    ] = 250,
    eta: Annotated[
        float, typer.Option("--eta", callback=in_range(), rich_help_panel=SAMPLING, help="Noise that DDIM adds.")
    ] = 0.0,
    seed: Seed = 0,
    batch: Batch = 16,
    shards: Annotated[
        int, typer.Option("--shards", min=1, metavar="K", rich_help_panel=RUNNING, help="Split the images in K files.")
    ] = 1,
    shard: Annotated[
        int | None,
        typer.Option("--shard", min=0, metavar="k", rich_help_panel=RUNNING, help="Which to make, 0 to K-1."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=RUNNING, help="Replace what --out holds; do not go on with it.")
    ] = False,
    low_memory: LowMemory = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Sample an ADM model, by default as Table 1 of the paper does.

    The file holds arr_0, uint8 images, and arr_1, their classes if they have
    any. Killed at any moment, the same command goes on where it was.
    """
    if (shard is None) != (shards == 1) and not (shards == 1 and shard == 0):
        raise UserError("--shards K and --shard k go together: how many files, and which of them to make")
    with console.quiet():
        from pag.adm.samplers import use_sampler
        from pag.adm.samples import Samples

        pipe = _load(model, dtype, device)
        use_sampler(pipe, sampler)
        samples = Samples(
            num=num,
            seed=seed,
            steps=steps,
            eta=eta,
            classes=classes,
            pag_scale=pag_scale,
            layers=layers or "auto",
            perturbation=perturbation,
            classifier_scale=classifier_scale,
            speed=speed,
        )
        _run(pipe, out, samples, batch, (shard or 0, shards) if shards > 1 else None, force, low_memory)


@sample.command()
def merge(
    out: Annotated[Path, typer.Argument(metavar="FILE.npz", help="The --out of the shards.", show_default=False)],
) -> None:
    """Make one file of the files of all shards, as the last of them does by itself where it sees the others."""
    from pag.adm.merge import merge as merge_shards

    images = merge_shards(out)
    console.stdout().print(f"{out}: {images} images", markup=False)


def _load(model: str, dtype: str | None, device: str | None) -> Any:
    import pag
    from pag.generate.models import DTYPES, choose_device, choose_dtype

    where = choose_device(device)
    what = DTYPES[choose_dtype(dtype, where)]
    if not (Path(model) / "model_index.json").is_file():
        raise UserError(
            f"{model} is not a diffusers model folder: it has no model_index.json (see pag convert adm --help)"
        )
    # Whatever is wrong with the files of a model surfaces here, as any kind of exception.
    with console.waiting(f"loading the model {model}"), mendable(f"cannot load {model}", Exception):
        pipeline: Any = pag.ADMPipeline
        pipe = pipeline.from_pretrained(model, dtype=what)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(where)


def _run(
    pipe: Any, out: Path, samples: Any, batch: int, shard: tuple[int, int] | None, force: bool, low_memory: bool
) -> None:
    from pag.adm.samples import block
    from pag.adm.samples import sample as write_samples

    count = len(block(samples.num, *(shard or (0, 1))))
    with console.Bar(count) as bar:
        kept: list[int] = []

        def tell(done: int) -> None:
            if not kept:
                bar.advance(done)
            kept.append(done)
            bar.finish(done)

        try:
            made = write_samples(
                pipe,
                out,
                samples,
                batch=batch,
                shard=shard,
                force=force,
                low_memory=low_memory,
                on_step=bar.advance,
                on_done=tell,
            )
        except KeyboardInterrupt:
            bar.notice(f"{kept[-1] if kept else 0} of {count} images are kept: the same command goes on", "yellow")
            raise
    console.stdout().print(f"{out}: {'' if made else 'is '}complete", markup=False)
