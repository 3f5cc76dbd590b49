"""What the events of a training mean to a screen."""

from __future__ import annotations

import math

from ilvrctl.cli.screen import Bar, Line, View, warned
from ilvrctl.events import Warned
from ilvrctl.training import events as told
from ilvrctl.training.pictures import Decoded


def training_view(event: told.TrainingEvent) -> View:
    """What a screen shows of an event; its record is that of the training's log."""
    match event:
        case Warned():
            return warned(event)
        case Decoded(done=done, total=total):
            return View(bars=(Bar("pictures", "reading", done, total, f"{done:,}/{total:,}"),))
        case told.Saved(images=images):
            bar = Bar("pictures", "training", 0, None, f"{images:,} pictures: saved")
            return View(bars=(bar,), record=told.record_of(event))
        case told.Advanced(images=images, share=share):
            count, left = f"{images:,} pictures ({share:.1%})", None if math.isinf(event.left) else event.left
            words = f"{event.rate:.1f}/s, loss {event.loss:.4f}"
            bar = Bar("pictures", "training", share, 1.0, count, words, left, told=True)
            line = Line(", ".join(filter(None, bar.tail)), level=0 if share >= 1 else 1, barred=True)
            return View((line,), (bar,), told.record_of(event))
    path = event.files[0] if isinstance(event, told.Published) else None
    return View((Line(_text(event)),), record=told.record_of(event), path=path)


def _text(event: told.TrainingEvent) -> str:
    match event:
        case told.Began():
            aside = f", {event.held_out} kept aside" if event.held_out else ""
            going_on = f"; goes on after {event.images:,}" if event.images else ""
            what = f"{event.parameters / 1e6:.1f} M parameters, {event.pictures:,} pictures{aside}"
            return f"{event.name}: {what}, on {event.device} in {event.precision}{going_on}"
        case told.Validated(images=images, loss=loss):
            return f"after {images:,} pictures: validation loss {loss:.5f}"
        case told.Graded(accuracy=accuracy, levels=shares):
            levels = ", ".join(f"{t}: {share:.0%}" for t, share in shares)
            return f"held-out pictures told right: {accuracy:.1%} (by level {levels})"
        case told.Drawn(path=path):
            return f"samples: {path}"
        case told.Published(name=name, files=files):
            return f"{name} is ready: {files[0]}"
    raise TypeError(f"no words for {event}")
