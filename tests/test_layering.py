"""The rules of the tree as tests: who may import whom, by which door, and how large a folder or file may be."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
MIN_LINES = 40
MAX_ENTRIES = 12
MAY_IMPORT: dict[str, set[str]] = {
    "cluster": set(),
    "encoders": set(),
    "training": {"cluster", "encoders"},
    "indexing": {"cluster", "encoders"},
    "benchmarks": {"cluster", "encoders", "training", "indexing"},
}
# Heavy package -> the files or folders that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "cluster/",
        "training/trainer/ray_launch.py",
        "indexing/store/transfer/datasink.py",
        "indexing/pipeline/",
        "indexing/serving/deploy.py",
    ),
    "pymilvus": ("indexing/store/",),
    "milvus_lite": ("indexing/store/",),
    "nvidia": ("encoders/decoding/nvidia/dali_video.py",),
    "PyNvVideoCodec": ("encoders/decoding/nvidia/pynv_video.py",),
    "triton": ("encoders/decoding/nvidia/resize.py", "encoders/video_encoder/time_attention.py"),
    "tensorrt": ("encoders/backends/tensorrt_library.py",),
    "tensorrt_rtx_bindings": ("encoders/backends/tensorrt_library.py",),
    "av": (
        "encoders/media/packets.py",
        "encoders/decoding/frames/converter.py",
        "encoders/decoding/pyav_video.py",
        "encoders/decoding/trim.py",
        "benchmarks/dives/video.py",
        "benchmarks/studies/numbered_video.py",
        "benchmarks/throughput/decode_peers.py",
    ),
}
# Not code that a reader opens one by one.
NOT_ENTRIES = {
    "__init__.py",
    "__main__.py",
    "__pycache__",
    "data",
    "kubernetes",
    "milvus",
    "results",
    "web",
    "weights",
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """`from module import name`, or `import module` (name None)."""

    module: str
    name: str | None


class Tree:
    """The modules below a folder and what each imports. Imports in functions count, those for type checkers do not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = dict(sorted(_modules(root)))
        self.imports = {name: list(_imports(path)) for name, path in self.paths.items()}

    def is_package(self, module: str) -> bool:
        return module in self.paths and self.paths[module].name == "__init__.py"

    def package_of(self, module: str) -> str:
        """The sub-package that a module lies in; a package lies in itself."""
        return module if self.is_package(module) else module.rpartition(".")[0]

    def imported(self, module: str) -> Iterator[str]:
        """Our modules that a module imports."""
        for item in self.imports[module]:
            inner = f"{item.module}.{item.name}"
            if item.name is not None and inner in self.paths:
                yield inner
            elif item.module in self.paths:
                yield item.module

    def public_modules(self, package: str) -> set[str]:
        """What the door of a package lists."""
        for node in ast.parse(self.paths[package].read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
        return set()


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for package in MAY_IMPORT:
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
    if (root / "tfcovr.py").exists():
        yield "tfcovr", root / "tfcovr.py"


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (Import(module=alias.name, name=None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(module=node.module, name=alias.name) for alias in node.names)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return components


def package_violations(tree: Tree) -> list[str]:
    return [
        f"{module} may not import {item.module}"
        for module in tree.paths
        if (package := module.partition(".")[0]) in MAY_IMPORT
        for item in tree.imports[module]
        if (other := item.module.partition(".")[0]) in {*MAY_IMPORT, "tfcovr"}
        and other not in MAY_IMPORT[package] | {package}
    ]


def heavy_violations(tree: Tree) -> list[str]:
    return [
        f"{path.relative_to(tree.root)} may not import {name}"
        for module, path in tree.paths.items()
        for item in tree.imports[module]
        if (name := item.module.partition(".")[0]) in ONLY_IN
        and not str(path.relative_to(tree.root)).startswith(ONLY_IN[name])
    ]


def module_circles(tree: Tree) -> list[str]:
    arrows = {module: set(tree.imported(module)) - {module} for module in tree.paths}
    return [" <-> ".join(circle) for circle in circles(arrows)]


def package_circles(tree: Tree) -> list[str]:
    """Between sub-packages. A module beside sub-packages (training/losses.py) counts as one of its own."""
    parents = {module.rpartition(".")[0] for module in tree.paths if tree.is_package(module)}

    def node(module: str) -> str:
        package = tree.package_of(module)
        return module if package in parents else package

    arrows: dict[str, set[str]] = {}
    for module in tree.paths:
        arrows.setdefault(node(module), set()).update(
            other for item in tree.imported(module) if (other := node(item)) != node(module)
        )
    return [" <-> ".join(circle) for circle in circles(arrows)]


def door_violations(tree: Tree) -> list[str]:
    """Imports of a module of another sub-package that its door does not list."""
    public = {name: tree.public_modules(name) for name in tree.paths if tree.is_package(name)}
    parents = {module.rpartition(".")[0] for module in tree.paths if tree.is_package(module)}
    return [
        f"{module} imports {other}, which {package}/__init__.py does not list"
        for module in tree.paths
        for other in tree.imported(module)
        if not tree.is_package(other)
        and other != "tfcovr"
        and (package := tree.package_of(other)) != tree.package_of(module)
        and package not in parents  # its own modules are entered by name: training.losses
        and other.rpartition(".")[2] not in public[package]
    ]


def missing_in_doors(tree: Tree) -> list[str]:
    """What a door lists and is not there."""
    return [
        f"{package}/__init__.py lists {name}, which is missing"
        for package in tree.paths
        if tree.is_package(package)
        for name in tree.public_modules(package)
        if f"{package}.{name}" not in tree.paths
    ]


def private_imports(tree: Tree) -> list[str]:
    return [
        f"{module} imports {item.module}.{item.name}"
        for module in tree.paths
        for item in tree.imports[module]
        if item.module.partition(".")[0] in MAY_IMPORT
        and item.name is not None
        and item.name.startswith("_")
    ]


def long_files(tree: Tree) -> list[str]:
    return [
        f"{path.relative_to(tree.root)} has {count} lines; at most {MAX_LINES}"
        for path in tree.paths.values()
        if (count := _num_lines(path)) > MAX_LINES
    ]


def fragments(tree: Tree) -> list[str]:
    """Files too short for a file of their own; a command is imported by name, and so by none or by tests."""
    users: dict[str, set[str]] = {}
    for module in tree.paths:
        for other in tree.imported(module):
            users.setdefault(other, set()).add(module)
    return [
        f"{path.relative_to(tree.root)} has {count} lines and one user"
        for module, path in tree.paths.items()
        if not tree.is_package(module)
        and (count := _num_lines(path)) < MIN_LINES
        and len(users.get(module, ())) == 1
    ]


def crowded_folders(tree: Tree) -> list[str]:
    folders = sorted({path.parent for path in tree.paths.values()} - {tree.root})
    return [
        f"{folder.relative_to(tree.root)} has {count} entries; at most {MAX_ENTRIES}"
        for folder in folders
        if (count := sum(_is_entry(path) for path in folder.iterdir())) > MAX_ENTRIES
    ]


def undocumented(tree: Tree) -> list[str]:
    """Modules whose docstring is missing, or whose first line asks a question."""
    first_lines = {
        module: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for module, path in tree.paths.items()
    }
    return [module for module, line in first_lines.items() if not line or "?" in line]


def _num_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _is_entry(path: Path) -> bool:
    return path.name not in NOT_ENTRIES and (path.suffix == ".py" or path.is_dir())


RULES: dict[str, Callable[[Tree], list[str]]] = {
    rule.__name__: rule
    for rule in (
        package_violations,
        heavy_violations,
        module_circles,
        package_circles,
        door_violations,
        missing_in_doors,
        private_imports,
        long_files,
        fragments,
        crowded_folders,
        undocumented,
    )
}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_the_tree_keeps_the_rule(tree: Tree, rule: str) -> None:
    assert RULES[rule](tree) == []


def _plant(root: Path, files: dict[str, str]) -> Tree:
    for package in MAY_IMPORT:
        (root / package).mkdir()
        (root / package / "__init__.py").write_text('"""A package."""\n')
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root)


DOC = '"""A module."""\n'
FILLER = "x = 1\n" * MIN_LINES
PLANTED: dict[str, tuple[dict[str, str], str]] = {
    "package_violations": (
        {"encoders/bad.py": "from training.losses import hn_nce\n"},
        "encoders.bad may not import training.losses",
    ),
    "heavy_violations": ({"encoders/bad.py": "import ray\n"}, "encoders/bad.py may not import ray"),
    "module_circles": (
        {
            "encoders/a.py": "from encoders import b\n",
            "encoders/b.py": "def f():\n    import encoders.a\n",
        },
        "encoders.a <-> encoders.b",
    ),
    "package_circles": (
        {
            "encoders/a/__init__.py": '__all__ = ["one"]\n',
            "encoders/a/one.py": "from encoders.b.one import x\n",
            "encoders/a/two.py": "",
            "encoders/b/__init__.py": '__all__ = ["one"]\n',
            "encoders/b/one.py": "",
            "encoders/b/two.py": "from encoders.a import two\n",
        },
        "encoders.a <-> encoders.b",
    ),
    "door_violations": (
        {
            "encoders/a/__init__.py": '__all__ = ["one"]\n',
            "encoders/a/one.py": "",
            "encoders/a/two.py": "",
            "indexing/b.py": "from encoders.a.two import x\n",
        },
        "indexing.b imports encoders.a.two, which encoders.a/__init__.py does not list",
    ),
    "missing_in_doors": (
        {"encoders/a/__init__.py": '__all__ = ["gone"]\n'},
        "encoders.a/__init__.py lists gone, which is missing",
    ),
    "private_imports": (
        {"encoders/a.py": "", "encoders/b.py": "from encoders.a import _hidden\n"},
        "encoders.b imports encoders.a._hidden",
    ),
    "long_files": (
        {"encoders/a.py": "x = 1\n" * (MAX_LINES + 1)},
        f"encoders/a.py has {MAX_LINES + 1} lines; at most {MAX_LINES}",
    ),
    "fragments": (
        {"encoders/a.py": "x = 1\n", "encoders/b.py": FILLER + "from encoders.a import x\n"},
        "encoders/a.py has 1 lines and one user",
    ),
    "crowded_folders": (
        {f"encoders/m{number}.py": "" for number in range(MAX_ENTRIES + 1)},
        f"encoders has {MAX_ENTRIES + 1} entries; at most {MAX_ENTRIES}",
    ),
    "undocumented": ({"encoders/a.py": '"""What is this? A module."""\n'}, "encoders.a"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_planted_violation_is_caught(tmp_path: Path, rule: str) -> None:
    files, expected = PLANTED[rule]
    assert RULES[rule](_plant(tmp_path, files)) == [expected]


def test_imports_for_type_checkers_make_no_circle(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import encoders.a\n"
    tree = _plant(tmp_path, {"encoders/a.py": "import encoders.b\n", "encoders/b.py": guarded})
    assert module_circles(tree) == []
