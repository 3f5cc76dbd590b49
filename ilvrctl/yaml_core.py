"""YAML as its version 1.2 has it, the core schema: no aliases, no types beyond those of JSON.

PyYAML reads version 1.1, where ``10:50`` is 650 (minutes and seconds), ``on`` and ``no`` are truth values, ``010`` is
8, ``1_000`` a number, ``2026-01-02`` a date, and ``1e-4`` text. Here all of these are what people mean by them.
Source: YAML 1.2.2, section 10.3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import yaml

_TAG = "tag:yaml.org,2002:"
_SCALARS: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
)
"""What plain text is more than text: the kind, the whole of it, and its first characters."""
_KINDS = ("map", "seq", "str", *dict.fromkeys(kind for kind, _, _ in _SCALARS))
_DEEPEST = 100
"""Levels of nesting; a deeper file is a mistake, or meant to exhaust the memory of who reads it."""
_Reader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is fifteen times faster


class _Loader(_Reader):  # type: ignore[misc]
    yaml_implicit_resolvers: ClassVar[Any] = {}
    yaml_constructors: ClassVar[Any] = {  # and no others: not dates, sets or bytes either
        tag: make
        for tag, make in _Reader.yaml_constructors.items()
        if tag is None or tag in [_TAG + kind for kind in _KINDS]
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what either version would take for more than text."""


def _whole(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for _kind, _pattern, _first in _SCALARS:
    for _cls in (_Loader, _Dumper):
        _cls.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _whole)


def load_yaml(text: str) -> tuple[yaml.Node | None, Any]:
    """The document as nodes and as values; an error of yaml for anchors, aliases and bottomless nesting.

    What aliases can build loops or grows without end, and no file here needs them.
    """
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            mark: Any = event.start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", mark)
        if depth > _DEEPEST:
            raise RecursionError("it is nested too deeply")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def dump_yaml(values: Mapping[str, Any], remarks: Mapping[str, str] = MappingProxyType({})) -> str:
    """``values`` as YAML in their order; ``remarks`` stand as comments behind keys of the first level."""
    text = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    said = {key: f"  # {remark}" for key, remark in remarks.items()}
    return "".join(f"{line}{said.get(line.partition(':')[0], '')}\n" for line in text.splitlines())
