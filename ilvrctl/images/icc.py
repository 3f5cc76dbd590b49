"""Colour profiles (ICC, version 4) of spaces that are told by their primaries and their curve."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

Point = tuple[float, float]
"""CIE x and y."""
Matrix = Sequence[Sequence[float]]

D50 = (0.9642, 1.0, 0.8249)
D65: Point = (0.3127, 0.3290)
REC_709: tuple[Point, ...] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
REC_2020: tuple[Point, ...] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
P3: tuple[Point, ...] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

Curve = tuple[float, ...]
"""Parameters from numbers to light: (g,) is x^g; (g, a, b, c, d) is (a x + b)^g from d on and c x below."""
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
REC_709_CURVE: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)


@cache
def srgb() -> bytes:
    """The profile of sRGB."""
    return rgb_profile("sRGB", SRGB_CURVE, REC_709, D65)


def rgb_profile(name: str, curve: Curve, primaries: Sequence[Point], white: Point) -> bytes:
    """The profile of an RGB space. ValueError or ZeroDivisionError for primaries that span none."""
    columns = _transposed([_xyz(point) for point in primaries])
    scale = _times(_inverse(columns), _xyz(white))
    adapted = _adapted(white)
    tags = [(b"wtpt", _xyz_tag(D50))]
    for letter, point, amount in zip((b"r", b"g", b"b"), primaries, scale, strict=True):
        colour = _times(adapted, [amount * value for value in _xyz(point)])
        tags += [(letter + b"XYZ", _xyz_tag(colour)), (letter + b"TRC", _curve_tag(curve))]
    return _file(b"RGB ", name, tags)


def grey_profile(name: str, curve: Curve) -> bytes:
    """The profile of a grey space."""
    return _file(b"GRAY", name, [(b"wtpt", _xyz_tag(D50)), (b"kTRC", _curve_tag(curve))])


def _adapted(white: Point) -> Matrix:
    """Bradford's matrix from colours under this white to those under D50, the white of all profiles."""
    source, target = _times(_BRADFORD, _xyz(white)), _times(_BRADFORD, D50)
    scaled = [[t / s * v for v in row] for s, t, row in zip(source, target, _BRADFORD, strict=True)]
    return _transposed([_times(_inverse(_BRADFORD), column) for column in _transposed(scaled)])


def _xyz(point: Point) -> list[float]:
    x, y = point
    return [x / y, 1.0, (1 - x - y) / y]


def _times(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _transposed(matrix: Matrix) -> list[list[float]]:
    return [list(column) for column in zip(*matrix, strict=True)]


def _inverse(m: Matrix) -> list[list[float]]:
    cofactors = [
        [
            m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3]
            - m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3]
            for i in range(3)
        ]
        for j in range(3)
    ]
    determinant = sum(m[0][j] * cofactors[j][0] for j in range(3))
    return [[value / determinant for value in row] for row in cofactors]


def _fixed(*values: float) -> bytes:
    """Numbers as the standard writes them: in 65536ths."""
    try:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
    except (struct.error, OverflowError) as error:
        raise ValueError("the colours of the space are out of range") from error


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _curve_tag(curve: Curve) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + _fixed(*curve)


def _text_tag(text: str) -> bytes:
    words = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(words), 28) + words


def _file(space: bytes, name: str, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A profile of a display with these tags; equal ones stand in it once, and its date is always the same."""
    tags = [(b"desc", _text_tag(name)), (b"cprt", _text_tag("no copyright, use freely")), *tags]
    body, table, places = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags:
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", places[content], len(content))
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
