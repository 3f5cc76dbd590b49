"""The probe: finds the flags that no tensor of the guided-diffusion format shows, by denoising pictures.

A picture is noised, the network estimates the noise under every reading of its tensors, and the reading with
the lowest error is the one it was trained with. Every reading gets the same noisy picture, so that only the
reading differs: the levels of two schedules are compared at the same signal-to-noise ratio, not at the same t.
"""

from ilvrctl.probe.findings import Finding, Findings
from ilvrctl.probe.curve import Point
from ilvrctl.probe.readings import Attention, Timing, guess_image_size
from ilvrctl.probe.search import Trial, probe

__all__ = ["Attention", "Finding", "Findings", "Timing", "Trial", "guess_image_size", "probe"]
