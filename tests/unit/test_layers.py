"""What the pure core and the runtime must not do themselves, read from their sources (musts 1 and 11).

Imports between layers are import-linter's; here is what no import shows: a clock, chance, a thread, an order that
depends on addresses.  Whatever is forbidden comes through a port, or the simulator could not own it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = {
    "worker/runtime/service.py": "the process itself: pid, signals, and a drain that is cut by the loop's own clock",
    "worker/runtime/probes.py": "an HTTP server for operators; nothing is decided there",
}
CORE = ("handler", "ledger", "decoding", "sealing", "partitioner", "ports", "errors")
SOURCES = sorted(
    path
    for path in [
        *(ROOT / f"worker/{name}.py" for name in CORE),
        *(ROOT / "worker/domain").rglob("*.py"),
        *(ROOT / "worker/runtime").rglob("*.py"),
    ]
    if str(path.relative_to(ROOT)) not in SHELL
)
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in SOURCES}
DOMAIN = [name for name in TREES if name.startswith("worker/domain/")]

MODULES = {"time", "random", "secrets", "os", "signal", "socket", "threading", "multiprocessing", "subprocess"}
MODULES |= {"concurrent", "concurrent.futures", "queue", "contextvars"}
NAMES = {"uuid1", "uuid4", "perf_counter", "urandom", "token_bytes"}
CALLS = {"now", "utcnow", "today"}  # of datetime and date; the Clock port's `now` is another's
LOOP_CLOCK = {"time", "call_later", "call_at", "timeout", "timeout_at", "wait_for", "to_thread", "run_in_executor"}
ADDRESSES = {"id", "hash"}

ORDER_FREE = {"sorted", "set", "frozenset", "len", "any", "all", "sum", "min", "max"}
ORDERED = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "reversed", "dict"}


def test_the_list_of_sources_is_not_empty_and_the_shell_exists() -> None:
    assert len(DOMAIN) > 8
    assert len(TREES) > 25
    assert all((ROOT / name).is_file() for name in SHELL)


@pytest.mark.parametrize("name", TREES)
def test_time_chance_and_threads_come_through_ports_only(name: str) -> None:
    assert [f"{name}:{line}: {what}" for line, what in _impurities(TREES[name])] == []


@pytest.mark.parametrize("name", DOMAIN)
def test_the_domain_awaits_nothing_and_keeps_nothing(name: str) -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Global, ast.Nonlocal)
    found = [node for node in ast.walk(TREES[name]) if isinstance(node, kinds)]
    called = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and _called(n) in ("open", "print", "input")]
    assert [f"{name}:{node.lineno}" for node in [*found, *called]] == []


@pytest.mark.parametrize("name", TREES)
def test_nothing_iterates_over_a_set(name: str) -> None:
    """A set of objects is ordered by their addresses, one of strings by a seed: another run, another order."""
    assert [f"{name}:{line}" for line in _Sets(TREES[name]).iterations()] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("for x in {1, 2}: pass", [1]),
        ("a: set[int] = set()\n[x for x in a]", [2]),
        ("class A:\n def f(self):\n  self.b = set[int]()\n  g(*self.b)", [4]),
        ("async def f(p):\n done, left = await asyncio.wait(p)\n for t in done: pass", [3]),
        ("def f(old: set[int], new):\n for x in new.keys() - old: pass", [2]),
        ("def f(old: frozenset[int]):\n return list(old)", [2]),
        ("def f(old: set[int]):\n return old.pop()", [2]),
        ("def f(old: set[int]):\n for x in sorted(old): pass\n return any(x for x in old), {y for y in old}", []),
        ("for x in [1]: pass\nfor y in dict.fromkeys([1]): pass", []),
    ],
)
def test_the_search_for_sets_finds_them(source: str, lines: list[int]) -> None:
    assert list(_Sets(ast.parse(source)).iterations()) == lines


# ------------------------------------------------------------------------------------ the searches


def _impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names if alias.name in MODULES)
            case ast.ImportFrom():
                names = {alias.name for alias in node.names}
                if node.module in MODULES or names & NAMES:
                    yield node.lineno, f"{node.module}: {', '.join(sorted(names))}"
            case ast.Call(func=ast.Name(id=called)) if called in ADDRESSES | NAMES:
                yield node.lineno, called
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=called)) if called in CALLS:
                yield node.lineno, f"datetime.{called}"
            case ast.Call(func=ast.Attribute(attr=called)) if called in LOOP_CLOCK | NAMES:
                yield node.lineno, called
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep")):
                if ast.unparse(node) != "asyncio.sleep(0)":
                    yield node.lineno, "asyncio.sleep"
            case _:
                pass


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _is_set_type(annotation: ast.expr) -> bool:
    whole = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return isinstance(whole, ast.Name) and whole.id in ("set", "frozenset")


def _label(node: ast.expr) -> str | None:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f".{node.attr}"
        case _:
            return None


class _Sets:
    """Expressions of one module that are sets, by how they are written; names count for the whole module."""

    def __init__(self, tree: ast.AST) -> None:
        self._tree = tree
        self._known: set[str | None] = set()
        for node in ast.walk(tree):
            match node:
                case ast.AnnAssign() if _is_set_type(node.annotation):
                    self._known |= {_label(node.target), f".{_label(node.target)}"}
                case ast.arg(arg=name, annotation=ast.expr() as annotation) if _is_set_type(annotation):
                    self._known.add(name)
                case ast.Assign(targets=[target], value=ast.Await(value=ast.Call(func=ast.Attribute(attr="wait")))):
                    self._known |= {_label(each) for each in target.elts} if isinstance(target, ast.Tuple) else set()
                case ast.Assign() if self._is_set(node.value):
                    self._known |= {_label(target) for target in node.targets}
        self._known -= {None}

    def _is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=func):
                return _is_set_type(func)
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self._is_set(node.left) or self._is_set(node.right)
            case _:
                return _label(node) in self._known

    def iterations(self) -> Iterator[int]:
        free = {
            argument
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Call) and _called(node) in ORDER_FREE
            for argument in node.args
        }
        for node in ast.walk(self._tree):
            yield from (site.lineno for site in self._sites(node, node in free) if self._is_set(site))

    def _sites(self, node: ast.AST, is_free: bool) -> Iterator[ast.expr]:
        """What this node goes through in order."""
        match node:
            case ast.For() | ast.AsyncFor():
                yield node.iter
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp() if not is_free:
                yield from (generator.iter for generator in node.generators)
            case ast.Starred() | ast.YieldFrom():
                yield node.value
            case ast.Call(func=ast.Attribute(value=whole, attr="pop" | "join" | "extend" | "extendleft" | "__iter__")):
                yield from [*node.args, *([] if node.args else [whole])]
            case ast.Call() if _called(node) in ORDERED:
                yield from node.args
