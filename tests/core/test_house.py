"""The rules of the house, held by looking at every file."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sadcl_core

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "sadcl_core").rglob("*.py"))
CLI = sorted((ROOT / "sadcl_cli").rglob("*.py"))

# a module may import modules of a lower floor, or of its own folder
FLOORS = {
    "sadcl_core.errors": 0,
    "sadcl_core.registry": 0,
    "sadcl_core.runtime": 1,
    "sadcl_core.losses": 1,
    "sadcl_core.metrics": 1,
    "sadcl_core.config": 2,
    "sadcl_core.data": 3,
    "sadcl_core.model": 4,
    "sadcl_core.plots": 4,
    "sadcl_core.runs": 5,
    "sadcl_core.inference": 6,
    "sadcl_core.serving": 8,
    "sadcl_core.training": 7,
    "sadcl_core.evaluation": 7,
    "sadcl_core.experiments": 8,
    "sadcl_core.exporting": 8,
    "sadcl_core.diagnosis": 8,
    "sadcl_cli": 9,
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(module: str) -> tuple[int, str]:
    for room, number in FLOORS.items():
        if module == room or module.startswith(f"{room}."):
            return number, room
    raise AssertionError(f"{module} has no floor: add it to FLOORS")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", [p for p in CORE if name_of(p) != "sadcl_core"], ids=name_of)
def test_imports_run_down_only(path: Path) -> None:
    number, room = floor(name_of(path))
    for module in imports(path):
        if module.startswith("sadcl_") and module != "sadcl_core":
            other, other_room = floor(module)
            assert other < number or other_room == room or other == 0, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_does_not_talk_to_people(path: Path) -> None:
    assert not {"typer", "rich", "click", "argparse"} & {module.split(".")[0] for module in imports(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "input", "eval", "exec"), f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", [p for p in CORE if p.parent.name in ("losses", "metrics")], ids=name_of)
def test_losses_and_metrics_stand_alone(path: Path) -> None:
    ours = {module for module in imports(path) if module.startswith("sadcl_")}
    assert all(module.startswith(("sadcl_core.losses", "sadcl_core.metrics", "sadcl_core.errors")) for module in ours)


@pytest.mark.parametrize(
    "module",
    [
        "sadcl_cli.app",
        "sadcl_core.data.prepare.prepare",
        "sadcl_core.data.statistics",
        "sadcl_core.inference.predict_images",
        "sadcl_core.config.presets",
        "sadcl_core.runs.run_directory",
        "sadcl_core.inference.predictor",
        "sadcl_core.data.batches",
        "sadcl_core.serving.serve",
    ],
)
def test_torch_is_not_imported_by(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_root_is_small() -> None:
    assert len(list((ROOT / "sadcl_core").glob("*.py"))) <= 4


@pytest.mark.parametrize("path", [*CORE, *CLI], ids=name_of)
def test_no_function_of_ours_is_imported_under_another_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sadcl_"):
            folder = ROOT / str(node.module).replace(".", "/")
            modules = {file.stem for file in folder.glob("*.py")}
            renamed = [alias.name for alias in node.names if alias.asname and alias.name not in modules]
            assert not renamed, f"{name_of(path)}:{node.lineno} renames {renamed}"


@pytest.mark.parametrize("path", [*CORE, *CLI], ids=name_of)
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = (ast.get_docstring(node) or "").partition(" ")[0]
            assert first not in ("What", "Whether", "How", "Where", "Of"), f"{name_of(path)}: {ast.get_docstring(node)}"


@pytest.mark.parametrize("name", sadcl_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sadcl_core, name)


def test_no_file_names_a_package_registry_or_a_folder_of_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    paths = [ROOT / name for name in tracked] or [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts]
    for path in paths:
        if path.suffix in (".py", ".md", ".toml", ".txt", ".yaml", "") and path.is_file() and path.name != "LICENSE":
            text = path.read_text(encoding="utf-8", errors="ignore")
            for word in (
                "index" + "-url",
                "/sim" + "ple/",
                "/ro" + "ot/",
                "/wo" + "rk/",
            ):  # in two parts: this file is one of them
                assert word not in text, f"{path} says {word}"


def test_every_file_that_is_no_module_is_packaged() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    taken = {
        path for package, globs in packaged.items() for glob in globs for path in (ROOT / package.replace(".", "/")).glob(glob)
    }
    found = {path for path in (ROOT / "sadcl_core").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert found
    assert found == taken
