"""The house has floors: imports go down only, and each door (disk, net, terminal, pickles) is in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import ilvrctl

PACKAGE = Path(ilvrctl.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

GROUND = frozenset(
    {
        "errors",
        "events",
        "fields",
        "config",
        "model_preset",
        "presets",
        "quality",
        "new_presets",
        "paths",
        "files",
        "text",
        "choices",
        "classes",
        "memory",
        "sizes",
        "yaml_core",
        "arithmetic",
        "devices",
        "__init__",
    }
)
BESIDE = {
    "hub": GROUND,
    "metrics": GROUND,
}
"""Parts that stand beside the floors and may use only what is named."""
FLOORS = (
    GROUND,
    frozenset({"diffusion"}),
    frozenset({"models"}),
    frozenset({"images"}),
    frozenset({"methods"}),
    frozenset({"trust", "settings", "finiteness", "sampling", "engine", "timing", "probe", "training"}),
    frozenset({"plans"}),
    frozenset({"work"}),
    frozenset({"evaluation"}),
    frozenset({"api", "model"}),
    frozenset({"draw"}),
    frozenset({"cli", "__main__"}),
)
WITHOUT_TORCH = GROUND | {
    "diffusion",
    "methods",
    "trust",
    "settings",
    "timing",
    "plans",
    "work",
    "cli",
    "hub",
    "images",
    "evaluation",
    "api",
    "model",
    "draw",
}
"""Parts that must not import torch until they need it."""
WITH_TORCH = ("models.files.checkpoint", "models.files.loading", "models.files.saving")
"""Of the parts of ``models`` that read files, those that handle numbers: names and shapes need no torch."""


def part_of(module: str) -> str:
    """The floor's room that a module of the package is in: its first name."""
    return module.split(".")[0]


def floor_of(part: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if part in rooms:
            return number
    raise AssertionError(f"{part} stands on no floor: give it one in this test, as the design says")


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(tree: ast.AST) -> tuple[str, ...]:
    """Every name imported anywhere in the tree, dotted: ``from a import b`` is ``a.b``."""
    return tuple(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The parts of the package that a module imports, inside functions and for type checkers too."""
    found = set()
    for name in imports(tree_of(module)):
        first, _, rest = name.partition(".")
        if first == "ilvrctl":
            part = part_of(rest)
            if module == "__init__" and part == "api":
                continue  # the door names what it opens to, for type checkers alone: see the next test
            found.add(part if (PACKAGE / part).exists() or (PACKAGE / f"{part}.py").exists() else "__init__")
    return found


def runs_on_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported; not bodies of functions or what type checkers alone read."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        else:
            yield node
            for block in ("body", "orelse", "finalbody"):
                pending.extend(getattr(node, block, []))
            for handler in getattr(node, "handlers", []):
                pending.extend(handler.body)


@cache
def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    part = part_of(module)
    for other in own_imports(module) - {part}:
        if part in BESIDE:
            assert other in BESIDE[part], f"{module} imports {other}"
        elif other in BESIDE:
            assert floor_of(part) > floor_of("images"), f"{module} imports {other}"
        else:
            assert floor_of(other) <= floor_of(part), f"{module} imports {other}, which is above it"


def files_imported(module: str, wanted: Callable[[ast.Module], Iterator[ast.AST]]) -> set[str]:
    """The modules of the package that a module imports in the parts of it that are ``wanted``."""
    found = set()
    for node in wanted(tree_of(module)):
        for name in imports(node):
            dotted = name.removeprefix("ilvrctl.") if name.startswith("ilvrctl.") else ""
            for known in (dotted, dotted.rpartition(".")[0]):
                if known in MODULES and known != module:
                    found.add(known)
                    break
    return found


def but_for_type_checkers(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not even late, in functions; only for type checkers."""
    arrows = {module: files_imported(module, but_for_type_checkers) for module in MODULES}
    while free := [module for module, others in arrows.items() if not others & arrows.keys()]:
        for module in free:
            del arrows[module]
    assert {module: others & arrows.keys() for module, others in arrows.items()} == {}


def test_the_doors_open_without_torch_and_to_all_that_is_promised() -> None:
    code = "import importlib, sys; sys.path[:0] = [sys.argv[2]]; importlib.import_module(sys.argv[1])"
    for module in ("ilvrctl", "ilvrctl.plans", "ilvrctl.cli", "ilvrctl.api"):
        check = f"{code}; assert 'torch' not in sys.modules, sys.argv[1]"
        subprocess.run([sys.executable, "-c", check, module, str(PACKAGE.parent)], check=True)
    assert all(getattr(ilvrctl, name) is not None for name in ilvrctl.__all__)


def is_light(module: str) -> bool:
    reads = module.startswith(("models.architecture", "models.files")) and module not in WITH_TORCH
    return part_of(module) in WITHOUT_TORCH or reads


@pytest.mark.parametrize("module", list(filter(is_light, MODULES)))
def test_torch_is_imported_late(module: str) -> None:
    for node in runs_on_import(tree_of(module)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not {name.split(".")[0] for name in imports(node)} & {"torch", "numpy", "safetensors"}, (
                f"{module}, line {node.lineno}"
            )


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) != "cli"])
def test_below_the_command_line_nobody_prints_reads_arguments_or_leaves(module: str) -> None:
    tree = tree_of(module)
    for name, call in calls(tree):
        assert name not in {"print", "input", "exit", "quit", "sys.exit", "os._exit"}, (
            f"{module}, line {call.lineno}"
        )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"sys.argv", "sys.stdout", "sys.stderr", "sys.stdin"}, (
                f"{module}, line {node.lineno}"
            )
        assert not (isinstance(node, ast.Raise) and "SystemExit" in ast.unparse(node)), module
    assert not {name.split(".")[0] for name in imports(tree)} & {"typer", "rich", "click"}


@pytest.mark.parametrize("module", MODULES)
def test_only_models_unpickle_and_only_tensors(module: str) -> None:
    tree = tree_of(module)
    assert not {name.split(".")[0] for name in imports(tree)} & {
        "pickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
    }
    for name, call in calls(tree):
        if name.endswith("torch.load") or (name == "load" and "torch.load" in set(imports(tree))):
            assert part_of(module) == "models", f"{module}, line {call.lineno}"
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert safe.get("weights_only") == "True", f"{module}, line {call.lineno}"
        assert name not in {"eval", "exec", "__import__"}, f"{module}, line {call.lineno}"


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) != "images"])
def test_only_images_read_and_write_pictures(module: str) -> None:
    tree = tree_of(module)
    for node in runs_on_import(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert "PIL" not in {name.split(".")[0] for name in imports(node)}, module
    inside_functions = {
        name
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for name in imports(function)
    }
    assert "PIL" not in {name.split(".")[0] for name in inside_functions}
    for name, call in calls(tree):
        assert not name.endswith(".save") or name == "torch.save" or name.startswith("Noise("), (
            f"{module}, line {call.lineno}"
        )


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) not in {"hub", "cli", "draw"}])
def test_only_the_hub_uses_the_network(module: str) -> None:
    network = {
        "urllib.request",
        "http",
        "http.client",
        "requests",
        "httpx",
        "socket",
        "ssl",
        "ftplib",
        "gdown",
    }
    found = set(imports(tree_of(module)))
    assert not {name for name in found for door in network if name == door or name.startswith(f"{door}.")}


def test_no_module_is_too_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
