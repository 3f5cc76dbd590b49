"""Shared options: one flag means the same under every subcommand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MAIN = "Common options"
_METHOD = "Method"
_SAMPLING = "Sampling"
_PICTURE = "Pictures"
_MACHINE = "Machine"
OUTPUT = "Output"

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        "-t",
        metavar="NAME",
        help="Target domain: see [bold]ilvrctl presets[/].",
        rich_help_panel=_MAIN,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME",
        help="Domain of the inputs, for methods with two models: ddib, cyclediffusion.",
        rich_help_panel=_METHOD,
    ),
]
FromWeights = Annotated[
    Path | None,
    typer.Option(
        "--from-weights", metavar="FILE", help="A checkpoint of the inputs' kind.", rich_help_panel=_MACHINE
    ),
]
Out = Annotated[
    str,
    typer.Option(
        "--out", "-o", metavar="PATH", help="Folder, file, or - for standard output.", rich_help_panel=_MAIN
    ),
]
Factor = Annotated[
    str | None,
    typer.Option(
        "--N",
        "-N",
        metavar="N,...",
        help="Factor of the low-pass filter: small stays close to the input, large keeps only its colours.",
        rich_help_panel=_MAIN,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples", "-n", min=1, help="Samples of every input.", show_default="1", rich_help_panel=_MAIN
    ),
]
Steps = Annotated[
    str | None,
    typer.Option(
        "--steps",
        metavar="N,...",
        help="Sampling steps, spread evenly over the levels.",
        rich_help_panel=_MAIN,
    ),
]
Seed = Annotated[
    str | None,
    typer.Option(
        "--seed",
        metavar="N,...",
        help="Noise for this seed; also ILVRCTL_SEED in the environment.",
        show_default="0",
        rich_help_panel=_MAIN,
    ),
]
Examples = Annotated[
    bool,
    typer.Option(
        "--examples",
        help="Also take the twelve example pictures that ship with ilvrctl.",
        rich_help_panel=_MAIN,
    ),
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Contact sheet: input, low-pass, samples; a grid has one anyhow.",
        rich_help_panel=_MAIN,
    ),
]
Speed = Annotated[
    str | None,
    typer.Option(
        "--speed",
        metavar="NAME",
        help="exact: fp32. fast: the hardware's own precision. turbo: few steps from the noised input by ddim, "
        "deep features reused. --steps, --sampler, --start, --precision and --set beside it win.",
        show_default="fast",
        rich_help_panel=_MAIN,
    ),
]

MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME,...",
        help="Method: ilvr, sddm, egsde, sdedit, sddm+egsde, ddib, cyclediffusion, or your own.",
        rich_help_panel=_METHOD,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="LEVEL",
        help="Begin from the noised input at this level: 0.8 of all, or 500. 1.0 is pure noise.",
        rich_help_panel=_METHOD,
    ),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        metavar="N",
        help="Blocks a side whose statistics sddm holds: few leave much free.",
        rich_help_panel=_METHOD,
    ),
]
Repeats = Annotated[
    str | None,
    typer.Option(
        "--repeats",
        metavar="N",
        help="Passes, each from the noised output of the last (K of SDEdit and EGSDE).",
        rich_help_panel=_METHOD,
    ),
]
Resample = Annotated[
    str | None,
    typer.Option(
        "--resample",
        metavar="JUMPxTIMES",
        help="Walk the last JUMP steps TIMES times, so that what is painted in joins its surroundings.",
        rich_help_panel=_METHOD,
    ),
]
RangeT = Annotated[
    str | None,
    typer.Option(
        "--range-t",
        metavar="STEPS",
        help="Condition the steps with more than this many to go (respaced steps, as ILVR's range_t).",
        rich_help_panel=_METHOD,
    ),
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="HIGH:LOW",
        help="Condition these levels: 1000:200, or fractions 1.0:0.2, whatever the number of steps.",
        rich_help_panel=_METHOD,
    ),
]
Kernel = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        metavar="NAME",
        help="Low-pass kernel: cubic, linear, box, lanczos3.",
        rich_help_panel=_METHOD,
    ),
]
Compat = Annotated[
    str | None,
    typer.Option(
        "--compat",
        metavar="NAME",
        help="Follow published code where it differs from the paper: ilvr_adm, sddm, egsde.",
        rich_help_panel=_METHOD,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME|FILE",
        help="Settings by name (paint, scribble, ilvr_adm) or from a YAML file.",
        rich_help_panel=_METHOD,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, for instance energies.dse.weight=500 or model.num_heads=4.",
        rich_help_panel=_METHOD,
    ),
]

Respacing = Annotated[
    str | None,
    typer.Option(
        "--timestep-respacing",
        metavar="TEXT",
        help="Respacing as published: 100, ddim50, or 10,15,20.",
        rich_help_panel=_SAMPLING,
    ),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME,...",
        help="Sampler: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde.",
        rich_help_panel=_SAMPLING,
    ),
]
Eta = Annotated[
    str | None,
    typer.Option(
        "--eta", metavar="ETA", help="Noise of the ddim sampler, 0 to 1.", rich_help_panel=_SAMPLING
    ),
]
VarianceName = Annotated[
    str | None,
    typer.Option(
        "--variance",
        metavar="NAME",
        help="Variance of the ddpm sampler: auto, learned, fixed_small, fixed_large.",
        rich_help_panel=_SAMPLING,
    ),
]
Clip = Annotated[
    bool | None,
    typer.Option(
        "--clip/--no-clip",
        help="Keep clean estimates in the range of pictures.",
        show_default="clip",
        rich_help_panel=_SAMPLING,
    ),
]
ClassLabel = Annotated[
    str | None,
    typer.Option(
        "--class-label", metavar="N", help="Class, for class-conditional models.", rich_help_panel=_SAMPLING
    ),
]

Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="NAME",
        help="Make inputs square: crop, pad or stretch; or native: keep their size.",
        rich_help_panel=_PICTURE,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background", metavar="COLOR", help="Behind transparency and padding.", rich_help_panel=_PICTURE
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Pictures of subfolders too.", rich_help_panel=_PICTURE)
]
FromFile = Annotated[
    str | None,
    typer.Option(
        "--from-file",
        metavar="FILE",
        help="Read input names from a file, - for standard input.",
        rich_help_panel=_PICTURE,
    ),
]
Null = Annotated[
    bool,
    typer.Option("-0", "--null", help="Names in --from-file end with a zero byte.", rich_help_panel=_PICTURE),
]

Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:1, mps.", envvar="ILVRCTL_DEVICE", rich_help_panel=_MACHINE
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="auto, fp32, bf16, fp16; also ILVRCTL_PRECISION in the environment.",
        show_default="auto",
        rich_help_panel=_MACHINE,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Samples at a time; pixels do not depend on it.",
        envvar="ILVRCTL_BATCH_SIZE",
        rich_help_panel=_MACHINE,
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="torch.compile; by itself only on CUDA and for long jobs.",
        show_default="where it pays",
        rich_help_panel=_MACHINE,
    ),
]
CompileAsked = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile", help="torch.compile: pays for long jobs.", rich_help_panel=_MACHINE
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="A checkpoint that you have: a file, or a folder of diffusers.",
        rich_help_panel=_MACHINE,
    ),
]

Quality = Annotated[
    int,
    typer.Option("--quality", min=1, max=100, help="Of results in JPEG and WebP.", rich_help_panel=OUTPUT),
]
Gif = Annotated[bool, typer.Option("--gif", help="An animation of every sample.", rich_help_panel=OUTPUT)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs made otherwise.", rich_help_panel=OUTPUT)
]
FromImage = Annotated[
    Path | None,
    typer.Option(
        "--from-image",
        metavar="FILE",
        help="Take target, settings and sample from a result of ilvrctl.",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.", rich_help_panel=OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.", rich_help_panel=OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only failures and warnings.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="More; -vv with tracebacks.", rich_help_panel=OUTPUT),
]
Color = Annotated[
    str, typer.Option("--color", metavar="WHEN", help="auto, always or never.", rich_help_panel=OUTPUT)
]
