"""The probe: finds the flags that no tensor of the guided-diffusion format shows, by denoising pictures.

A picture is noised, the network estimates the noise under every reading of its tensors, and the reading with
the lowest error is the one it was trained with. Every reading gets the same noisy picture, so that only the
reading differs. Which level the network was told at a noise strength is looked for freely among all numbers, and a
schedule is named only where all the levels found are its own.
"""

from ilvrctl.probe.curve import Point
from ilvrctl.probe.findings import Finding, Findings
from ilvrctl.probe.readings import Attention, Timing, guess_image_size
from ilvrctl.probe.search import Trial, probe

__all__ = ["Attention", "Finding", "Findings", "Point", "Timing", "Trial", "guess_image_size", "probe"]
