"""The names that other formats give to the tensors of the one U-Net here. No torch here.

pesser's ``Model`` and diffusers' ``UNet2DModel`` are the network of guided-diffusion with other conventions and
other names: here each of their tensors gets its place under guided-diffusion's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.architecture.shapes import Shapes

_MOST = 64  # levels, or blocks of a level; no network has more


@dataclass(frozen=True)
class Place:
    """Where a tensor of a file goes: into tensor ``name``, as block ``part`` of ``parts`` blocks of rows.

    ``matrix``: the weight of an attention layer, whose shape becomes (rows, columns, 1).
    """

    name: str
    part: int = 0
    parts: int = 1
    matrix: bool = False

    def fit(self, shape: Shape) -> Shape:
        """The shape that a tensor of ``shape`` has in its place; unchanged where it does not belong."""
        return (*shape[:2], 1) if self.matrix and len(shape) > 1 and set(shape[2:]) <= {1} else shape


Names: TypeAlias = Mapping[str, Place]
_Pairs: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dialect:
    """The names of one format. ``{u}``: number of the level, or of the block of that level; ``{j}``: in the level.

    ``coarsest_first``: decoder levels are numbered from the coarsest. Pairs: (here, in guided-diffusion).
    """

    outer: _Pairs
    down: tuple[str, str, str]
    middle: tuple[str, str, str]
    up: tuple[str, str, str]
    coarsest_first: bool
    res: _Pairs
    norm: str
    qkv: tuple[tuple[str, str, str], ...]
    proj_out: tuple[str, ...]


def places(dialect: Dialect, tensors: Iterable[str]) -> dict[str, Place]:
    """The place of every tensor that a network with these ``tensors`` may have."""
    known = tuple(tensors)
    block = re.compile(re.escape(dialect.down[0]).replace(r"\{u\}", r"(\d+)").replace(r"\{j\}", r"(\d+)"))
    found = [tuple(map(int, match.groups())) for match in map(block.match, known) if match]
    levels = min(_MOST, 1 + max((u for u, _ in found), default=0))
    depth = min(_MOST, 1 + max((j for u, j in found if u == 0), default=0))
    pairs = list(dialect.outer)
    pairs += _encoder(dialect, levels, depth)
    pairs += _middle(dialect, known)
    pairs += _decoder(dialect, levels, depth, known)
    result = {
        f"{here}.{kind}": Place(f"{there}.{kind}") for here, there in pairs for kind in ("weight", "bias")
    }
    for here, there in _attentions(dialect, levels, depth):
        result |= dict(_attention(dialect, here, there))
    return result


def names_in(
    dialect: Dialect, depth: int, attention: Sequence[bool], middle_attention: bool
) -> dict[tuple[str, int], str]:
    """The name in the format of what is here tensor ``name``, or block ``part`` of its rows: :func:`places` backwards.

    ``attention``: whether each level attends, the finest first; ``depth``: residual blocks of a level.
    """
    levels = len(attention)
    known = [dialect.down[0].format(u=u, j=j) for u in range(levels) for j in range(depth)]
    known += [f"{dialect.middle[1]}."] if middle_attention else []
    for level in filter(attention.__getitem__, range(levels)):
        u = levels - 1 - level if dialect.coarsest_first else level
        known.append(f"{dialect.up[1].format(u=u, j=depth)}.")
    found: dict[tuple[str, int], str] = {}
    for here, place in places(dialect, known).items():
        found.setdefault((place.name, place.part), here)
    return found


def _encoder(dialect: Dialect, levels: int, depth: int) -> Iterator[tuple[str, str]]:
    block, _, sampler = dialect.down
    for u in range(levels):
        for j in range(depth):
            yield from _res(dialect, block.format(u=u, j=j), f"input_blocks.{1 + u * (depth + 1) + j}.0")
        here, there = sampler.format(u=u), f"input_blocks.{(u + 1) * (depth + 1)}.0"
        yield f"{here}.conv", f"{there}.op"
        yield from _res(dialect, here, there)


def _middle(dialect: Dialect, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    first, attention, last = dialect.middle
    yield from _res(dialect, first, "middle_block.0")
    attends = any(name.startswith(f"{attention}.") for name in known)
    yield from _res(dialect, last, f"middle_block.{2 if attends else 1}")


def _decoder(dialect: Dialect, levels: int, depth: int, known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    block, attention, sampler = dialect.up
    for i in range(levels):
        u = i if dialect.coarsest_first else levels - 1 - i
        for j in range(depth + 1):
            yield from _res(dialect, block.format(u=u, j=j), f"output_blocks.{i * (depth + 1) + j}.0")
        attends = any(name.startswith(attention.format(u=u, j=depth) + ".") for name in known)
        here, there = sampler.format(u=u), f"output_blocks.{i * (depth + 1) + depth}.{2 if attends else 1}"
        yield f"{here}.conv", f"{there}.conv"
        yield from _res(dialect, here, there)


def _res(dialect: Dialect, here: str, there: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{here}.{name}", f"{there}.{published}") for name, published in dialect.res)


def _attentions(dialect: Dialect, levels: int, depth: int) -> Iterator[tuple[str, str]]:
    for i in range(levels):
        for j in range(depth):
            yield dialect.down[1].format(u=i, j=j), f"input_blocks.{1 + i * (depth + 1) + j}.1"
        u = i if dialect.coarsest_first else levels - 1 - i
        for j in range(depth + 1):
            yield dialect.up[1].format(u=u, j=j), f"output_blocks.{i * (depth + 1) + j}.1"
    yield dialect.middle[1], "middle_block.1"


def _attention(dialect: Dialect, here: str, there: str) -> Iterator[tuple[str, Place]]:
    for kind in ("weight", "bias"):
        matrix = kind == "weight"
        yield f"{here}.{dialect.norm}.{kind}", Place(f"{there}.norm.{kind}")
        for names in dialect.qkv:
            for part, name in enumerate(names):
                yield f"{here}.{name}.{kind}", Place(f"{there}.qkv.{kind}", part, 3, matrix)
        for name in dialect.proj_out:
            yield f"{here}.{name}.{kind}", Place(f"{there}.proj_out.{kind}", matrix=matrix)


def placed(names: Names, tensors: Mapping[str, Shape], kind: str) -> Shapes:
    """The shapes of a file's ``tensors`` in their places; a tensor without one keeps its name.

    WeightsError, as of a broken network of the ``kind``, where tensors that belong together do not fit.
    """
    called: dict[str, str] = {}
    for here, place in names.items():
        if here in tensors or place.part == 0:
            called.setdefault(place.name, here)
    groups: dict[str, dict[int, str]] = {}
    file = Shapes(tensors, kind)
    for here in tensors:
        place = names.get(here, Place(here))
        if place.part in groups.setdefault(place.name, {}):
            file.misfit(here, f"it is there twice, as {groups[place.name][place.part]} too")
        groups[place.name][place.part] = here
    shapes = {there: _joined(file, names, parts) for there, parts in groups.items()}
    return Shapes(shapes, kind, called)


def _joined(file: Shapes, names: Names, parts: Mapping[int, str]) -> Shape:
    """The shape of tensors joined by their rows."""
    here = next(iter(parts.values()))
    place = names.get(here, Place(here))
    shape = place.fit(file.of[here])
    for part in range(place.parts):
        if part not in parts:
            file.missing(next(n for n, p in names.items() if p.name == place.name and p.part == part))
        if place.fit(file.of[parts[part]]) != shape:
            file.misfit(parts[part], f"its shape is not that of {here}")
    return (place.parts * shape[0], *shape[1:]) if shape else shape
