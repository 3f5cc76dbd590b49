"""Which subcommands there are."""

from __future__ import annotations

SUMMARIES = {
    "translate": "Turn pictures into pictures of the target domain, steered by the input (ILVR, SDDM, EGSDE).",
    "edit": "Edit a photo at its own size: scribble on a copy of it, and get it back clean.",
    "draw": "Paint in the browser, and have a picture of the target domain made of it.",
    "eval": "Measure results: how near the input or the truth, how real; with intervals, runs compared.",
    "batch": "Carry out the jobs of a file: resumable, spread over devices and machines.",
    "train": "Train a model of a folder of pictures, so that other pictures can be translated to it.",
    "download": "Fetch weights, go on where a transfer was cut, and prove what arrived.",
    "presets": "List and show presets: targets (--to), methods (--preset) and models.",
    "inspect": "Tell what a checkpoint holds: format, architecture, size, and what its tensors do not tell.",
    "convert": "Write a checkpoint anew, with its facts inside: as one safetensors file or a diffusers folder.",
    "doctor": "Versions, device and precision, folders, and which weights are here; with --bench how fast it runs.",
    "cache": "List what lies where: weights, what is remembered, leftovers; and remove it.",
    "docs": "Print a page of the documentation, or which there are.",
}
"""The first sentence of each subcommand's help, so that the list of all needs none of their modules."""
