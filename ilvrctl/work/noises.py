"""Between noise in files and noise as a network has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilvrctl.errors import InputError
from ilvrctl.images.io import open_picture
from ilvrctl.models.files.noise_file import Array, Arrays, Noise, NoiseFacts, read_noise
from ilvrctl.work.pieces import Whole

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.methods.encoders import Inversion
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan


def facts_for(plan: Plan, output: Output, digest: str, found: Arrays) -> NoiseFacts:
    """What a file tells of noise that was ``found`` for an output; ``digest``: of its input."""
    channels, height, width = found.x.shape
    variant, target = plan.variants[output.variant], plan.model
    source, chain = plan.source_of(variant), variant.settings.chain(plan.schedule())
    assert source is not None  # as its method finds noise
    return NoiseFacts(
        picture=output.item.file_name,
        sha256=digest,
        sample=output.sample,
        method=variant.settings.method.name,
        network=source.model.name,
        network_sha256=source.weights_sha256,
        schedule=target.noise_schedule,
        T=target.diffusion_steps,
        levels=tuple(k.t for k in chain),
        alphas=tuple(k.alpha_t for k in chain),
        shape=(channels, height, width),
        noises=found.deviations is not None,
    )


def packed(found: Inversion) -> Arrays:
    """What an encoder has found, as a file has it."""
    import torch

    assert found.x is not None
    if not found.surprises:
        return Arrays(_bytes(found.x))
    deviations = torch.stack([told.deviation for told in found.surprises])
    std = torch.stack([told.std for told in found.surprises])
    first = std[:, :1, :1, :1]
    return Arrays(_bytes(found.x), _bytes(deviations), _bytes(first if bool((std == first).all()) else std))


def unpacked(noise: Noise) -> Inversion:
    """Noise as a network has it."""
    from ilvrctl.methods.encoders import Inversion, Surprise

    arrays = noise.arrays
    if arrays.deviations is None or arrays.std is None:
        return Inversion(_tensor(arrays.x))
    deviations, std = _tensor(arrays.deviations), _tensor(arrays.std)
    return Inversion(_tensor(arrays.x), [Surprise(d, s) for d, s in zip(deviations, std, strict=True)])


def _bytes(x: Tensor) -> Array:
    import torch

    whole = x.detach().to("cpu", torch.float32).contiguous()
    data = bytearray(whole.nbytes)
    torch.frombuffer(data, dtype=torch.float32).copy_(whole.view(-1))
    return Array(tuple(whole.shape), bytes(data))


def _tensor(array: Array) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(array.data), dtype=torch.float32).view(array.shape)


def pieces_of(data: bytes, name: str, fit: str, size: int, multiple: int) -> Whole:
    """What is translated of the noise in a file: its picture, beside it. InputError where it is of another size."""
    noise = read_noise(data, name)
    _, height, width = noise.facts.shape
    picture = open_picture(noise.picture, name)
    if picture.size != (width, height):
        raise InputError(
            f"{name}: its picture is {picture.width} x {picture.height}, and its noise {width} x {height}"
        )
    fits = (width, height) == (size, size) if fit != "native" else not (width % multiple or height % multiple)
    if not fits:
        raise InputError(
            f"{name} is noise of {width} x {height} pixels, and this network makes pictures of {size}: "
            "noise cannot be resized and stay noise",
            "a target of the same size",
        )
    return Whole(picture, None, read={"noise_of": noise.facts.sha256}, noise=noise)
