"""The house as it is built, read from the source alone: docs/rooms tells it in prose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "twisted_kv"

GROUND, ORDER_AND_MEANING, DOORS, CORRIDOR, ROOF = range(5)
FLOORS = {
    "interfaces": GROUND,
    "codec": GROUND,
    "errors": GROUND,
    "constants": GROUND,
    "_version": GROUND,
    "consensus": ORDER_AND_MEANING,
    "machines": ORDER_AND_MEANING,
    "storage": DOORS,
    "transport": DOORS,
    "replica": CORRIDOR,
    "client": CORRIDOR,
    "service": ROOF,
    "admin": ROOF,
    "web": ROOF,
    "simulation": ROOF,
    "testing": ROOF,
    "": ROOF,
}
SIDEWAYS = {
    # The command line offers the simulator, and is a user of the public names.
    ("admin", "simulation"),
    ("testing", "simulation"),
    ("admin", ""),
}
VALUES_OF_DOORS = {"twisted_kv.transport.wire"}
"""All that the corridor may know of floor 2; the rest it knows by interface."""

ENTRANCES = (
    "twisted_kv",
    "twisted_kv.admin.__main__",
    "twisted_kv.admin.cli",
    "twisted_kv.service.controller",
    "twisted_kv.service.group",
    "twisted_kv.service.node",
    "twisted_kv.testing",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(), str(MODULES[module]))


def room_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


@cache
def imports_of(module: str) -> tuple[str, ...]:
    """Every module that this one imports, also inside functions, but for what only type checkers see."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            children: list[ast.stmt] = node.orelse
        elif isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
            return
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            found.append(node.module)
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
            return
        else:
            children = list(ast.iter_child_nodes(node))  # type: ignore[arg-type]
        for child in children:
            visit(child)

    visit(tree_of(module))
    return tuple(found)


def ours_of(module: str) -> set[str]:
    """The modules of ours that it imports."""
    return {name for name in imports_of(module) if name in MODULES} - {module}


def calls_of(module: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_every_room_has_a_floor() -> None:
    """A new room is put on a floor before anything is put in it."""
    assert {room_of(module) for module in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """House: imports go down, never up, never sideways."""
    room = room_of(module)
    for imported in ours_of(module):
        other = room_of(imported)
        if other == "" and any(name.startswith("twisted_kv.") and name in MODULES for name in imports_of(module)):
            # "from twisted_kv.x import y" names the package too; only names taken from it count.
            taken = [name for name in imports_of(module) if name.startswith("twisted_kv.") and name not in MODULES]
            if not any(name.count(".") == 1 for name in taken):
                continue
        allowed = other == room or FLOORS[other] < FLOORS[room] or (room, other) in SIDEWAYS
        assert allowed, f"{module} imports {imported}"
        if FLOORS[room] == CORRIDOR and FLOORS[other] == DOORS:
            assert imported in VALUES_OF_DOORS | {f"twisted_kv.{other}"}, f"{module} knows {imported}"


def test_consensus_cores_do_not_know_each_other() -> None:
    """House: Raft and Paxos are the same corridor with a different core."""
    for module in MODULES:
        for core, other in (("raft", "paxos"), ("paxos", "raft")):
            if module.startswith(f"twisted_kv.consensus.{core}"):
                assert not any(name.startswith(f"twisted_kv.consensus.{other}") for name in ours_of(module)), module


@pytest.mark.parametrize("module", [module for module in MODULES if FLOORS[room_of(module)] == ORDER_AND_MEANING])
def test_order_and_meaning_are_pure(module: str) -> None:
    """House: floor 1 knows no Twisted, no database, no time; chance is a Random that is given to it."""
    impure = {"twisted", "sqlite3", "sqlite_utils", "time", "datetime", "os", "secrets", "threading", "socket"}
    assert not {name.partition(".")[0] for name in imports_of(module)} & impure


@pytest.mark.parametrize("module", [module for module in MODULES if FLOORS[room_of(module)] < ROOF])
def test_below_the_roof_the_world_is_given(module: str) -> None:
    """House: no module-level reactor, clock, randomness, threads or print on floors 0–3."""
    imported = set(imports_of(module))
    assert not imported & {"twisted.internet.reactor", "time", "threading", "secrets", "uuid", "datetime"}
    assert "random" not in imported or {name for name in imported if name.startswith("random.")} == {"random.Random"}
    forbidden = {"print", "input", "os.urandom", "Random"}
    assert not [(call, line) for call, line in calls_of(module) if call in forbidden]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled_or_evaluated(module: str) -> None:
    """Hazard S2: no pickle, marshal, eval anywhere."""
    dangerous = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml"}
    assert not {name.partition(".")[0] for name in imports_of(module)} & dangerous
    assert not [(call, line) for call, line in calls_of(module) if call in {"eval", "exec", "compile", "__import__"}]


def test_rooms_of_the_simulation_know_those_before_them() -> None:
    """What must hold knows nothing of what goes wrong, and neither of them a whole life."""
    order = ["doors", "judges", "faults", "small", "lives"]
    known = {"explorer": {"explorer"}} | {room: set(order[: place + 1]) for place, room in enumerate(order)}
    known["small"].add("explorer")  # whose disks, views and arithmetic of the past it shares
    for room in known:
        inside = f"twisted_kv.simulation.{room}."
        for module in (module for module in MODULES if module.startswith(inside)):
            rooms = {name.split(".")[2] for name in ours_of(module) if name.startswith("twisted_kv.simulation.")}
            assert rooms <= known[room], module


def test_every_module_is_reachable() -> None:
    """House: every module is reachable from a roof or a plugin; what nobody can reach is dead."""
    reached: set[str] = set()
    waiting = list(ENTRANCES)
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        waiting += ours_of(module)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    assert sorted(MODULES.keys() - reached) == []


def behaves(module: str) -> bool:
    """Whether a module has a function that does something; one of values and promises alone needs no test."""
    functions = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(not all(isinstance(step, ast.Expr | ast.Pass) for step in function.body) for function in functions)


@pytest.mark.parametrize("module", [module for module in MODULES if behaves(module)])
def test_every_module_has_its_test_module(module: str) -> None:
    """House: every module has its test module, in the room of the same name."""
    parts = module.split(".")[1:] or ["public"]
    folder = ROOT / "tests" / (parts[0] if len(parts) > 1 else "")
    # A prefix or suffix is allowed, since test modules are imported by their bare names.
    found = list(folder.rglob(f"test_*{parts[-1].strip('_')}*.py"))
    assert found, f"there is no {folder.relative_to(ROOT)}/test_{parts[-1]}.py"


def test_test_modules_have_different_names() -> None:
    """pytest imports test modules by their bare names."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
