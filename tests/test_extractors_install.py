"""A torchvision of another build of torch is answered with the command that installs the one that fits."""

from __future__ import annotations

import pytest
import torch

from ilvrctl.models.extractors import _install


@pytest.mark.parametrize(
    ("version", "wanted", "index"),
    [
        ("2.13.0+cpu", "0.28.*", "https://download.pytorch.org/whl/cpu"),
        ("2.4.1+cu121", "0.19.*", "https://download.pytorch.org/whl/cu121"),
        ("2.9.0", "0.24.*", "https://pypi.org/simple"),
    ],
)
def test_the_build_that_fits(version: str, wanted: str, index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    hint = _install(RuntimeError("operator torchvision::nms does not exist"))
    assert f"'torchvision=={wanted}' --index-url {index}" in hint
    assert _install(ImportError("no module")) == "pip install 'ilvrctl[eval]'"
