"""The form of the code, checked: sizes, names, docstrings, and what the pure packages must not touch.

    python -m tools.check_form [ROOT]

prints `file:line: what is wrong; what to do` for each finding and exits with 1 if there is one. To add a
rule: a function from a `Source` to findings, its line in `RULES`, a sample in `tests/form` that breaks it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

FILE_LINES = 500
FUNCTION_LINES = 50
CODE = ("coordinator", "agent_sdk", "chaos", "bench", "tools", "examples", "tests")
DOCUMENTED = ("coordinator", "agent_sdk", "chaos")
MAY_PRINT = ("coordinator/cli", "bench", "tools", "examples", "tests")
PURE = (
    "coordinator/core", "coordinator/families", "coordinator/dag", "coordinator/scheduling",
    "coordinator/forecast",
)  # fmt: skip
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}
IMPURE_MODULES = {
    "asyncio", "concurrent", "contextvars", "ctypes", "datetime", "fcntl", "glob", "grpc", "http",
    "importlib", "io", "locale", "logging", "mmap", "multiprocessing", "os", "pathlib", "pickle",
    "platform", "psutil", "pysyncobj", "queue",
    "random", "resource", "rocksdict", "sched", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "sqlite3", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
    "uuid", "uvloop", "warnings", "weakref", "zoneinfo",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "id", "__import__"}
THREADED_CALLS = {f"np.{name}" for name in ("dot", "inner", "matmul", "tensordot", "vdot")}
LIBRARY_CALLBACKS = {"connection_made", "data_received", "eof_received", "connection_lost"}
"""Of `asyncio.Protocol`, which documents them."""
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[)")
BARE_NOQA = re.compile(r"#\s*noqa(?!:)", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    """Something to mend: where, what is wrong, what to do."""

    path: PurePosixPath
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.remedy}"


class Source:
    """A Python file; `path` is relative to the root, `described` names methods that a Protocol documents."""

    def __init__(self, path: PurePosixPath, text: str, described: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.text = text
        self.described = described

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Everything in the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Every comment with its line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    def inside(self, *folders: str) -> bool:
        """Whether the file lies in one of these folders."""
        return any(self.path.is_relative_to(folder) for folder in folders)

    def finding(self, line: int, what: str, remedy: str) -> Finding:
        """A finding in this file."""
        return Finding(self.path, line, what, remedy)


def file_length(source: Source) -> Iterator[Finding]:
    """A file is read top down in one sitting."""
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield source.finding(
            FILE_LINES + 1, f"{lines} lines, limit {FILE_LINES}", "split it by reason to change"
        )


def function_length(source: Source) -> Iterator[Finding]:
    """A function fits a screen."""
    for node in source.nodes:
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield source.finding(
                    node.lineno,
                    f"{node.name} has {lines} lines, limit {FUNCTION_LINES}",
                    "give its steps names of their own",
                )


def telling_names(source: Source) -> Iterator[Finding]:
    """A module's name says what it is about."""
    vague = VAGUE_NAMES & {part.removesuffix(".py").lstrip("_") for part in source.path.parts}
    for name in sorted(vague):
        yield source.finding(
            1,
            f"a module named {name}",
            "name it after what it is about, or move its parts to where they belong",
        )


def docstrings(source: Source) -> Iterator[Finding]:
    """What is public says what it does, unless a Protocol, a .proto file or asyncio has said so already."""
    if source.inside(*DOCUMENTED):
        yield from _undocumented(source, source.tree, source.path.name)
    elif source.path.name.startswith("test_") and not ast.get_docstring(source.tree):
        yield source.finding(
            1, "a test module without a docstring", "say what it pins down, with the requirements"
        )


def _undocumented(source: Source, node: Documented, name: str) -> Iterator[Finding]:
    if not ast.get_docstring(node):
        line = getattr(node, "lineno", 1)
        yield source.finding(
            line,
            f"{name} is public and has no docstring",
            "say what it does, in which units, and what it raises",
        )
    if isinstance(node, Function):
        return
    in_class = isinstance(node, ast.ClassDef)
    for child in node.body:
        if not isinstance(child, Function | ast.ClassDef) or child.name.startswith("_"):
            continue
        if in_class and isinstance(child, Function) and _described_elsewhere(source, node, child):
            continue
        yield from _undocumented(source, child, child.name)


def _described_elsewhere(source: Source, owner: Documented, method: Function) -> bool:
    bases = [_dotted(base) for base in getattr(owner, "bases", [])]
    markers = {_dotted(decorator).rpartition(".")[2] for decorator in method.decorator_list}
    return (
        (method.name in source.described and not _is_protocol(owner))
        or method.name in LIBRARY_CALLBACKS
        or any(base.endswith("Servicer") for base in bases)
        or bool(markers & {"override", "overload", "setter"})
    )


def coded_ignores(source: Source) -> Iterator[Finding]:
    """An exemption says from which rule."""
    if not (BARE_IGNORE.search(source.text) or BARE_NOQA.search(source.text)):
        return
    for line, comment in source.comments:
        if BARE_IGNORE.search(comment):
            yield source.finding(
                line, "a blanket type: ignore", "name the code in brackets, or mend the type"
            )
        if BARE_NOQA.search(comment):
            yield source.finding(line, "a blanket noqa", "name the rule, or mend the line")


def no_print(source: Source) -> Iterator[Finding]:
    """Libraries and servers log; programs print."""
    if source.inside(*MAY_PRINT):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and _dotted(node.func) == "print":
            yield source.finding(node.lineno, "print", "log an event, or return the text to the command line")


def purity(source: Source) -> Iterator[Finding]:
    """Neither clock nor randomness nor I/O: the same input gives the same bytes on every node."""
    if not source.inside(*PURE):
        return
    remedy = "pass what it needs in, or move this to the shell"
    for node in source.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in _imported(node):
                if module.partition(".")[0] in IMPURE_MODULES or module.startswith("numpy.random"):
                    yield source.finding(node.lineno, f"a pure package imports {module}", remedy)
        if isinstance(node, ast.Call) and _dotted(node.func) in IMPURE_CALLS:
            yield source.finding(node.lineno, f"a pure package calls {_dotted(node.func)}", remedy)
        if isinstance(node, ast.Attribute) and _dotted(node) in {"np.random", "numpy.random"}:
            yield source.finding(node.lineno, "a pure package draws random numbers", remedy)
        if isinstance(node, ast.BinOp | ast.Call) and _may_be_shared(node):
            instead = "add up what * gives, or use scheduling/learning/products"
            yield source.finding(node.lineno, "a product that BLAS may share among threads", instead)


def _may_be_shared(node: ast.BinOp | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        return _dotted(node.func) in THREADED_CALLS
    return isinstance(node.op, ast.MatMult)


def nothing_unfinished(source: Source) -> Iterator[Finding]:
    """What is left to do stands in the issue tracker."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if match := UNFINISHED.search(line):
            yield source.finding(number, f"a {match[0]}", "do it now, or write an issue")


RULES = (
    file_length,
    function_length,
    telling_names,
    docstrings,
    coded_ignores,
    no_print,
    purity,
    nothing_unfinished,
)


def check(root: Path) -> list[Finding]:
    """Every finding in the Python files of the project at `root`, in the order of the files."""
    sources = [
        Source(PurePosixPath(path.relative_to(root).as_posix()), path.read_text(encoding="utf-8"))
        for folder in CODE
        for path in sorted((root / folder).rglob("*.py"))
    ]
    described = frozenset(name for source in sources for name in _protocol_methods(source))
    findings = []
    for source in sources:
        source.described = described
        findings += check_source(source)
    return findings


def check_source(source: Source) -> list[Finding]:
    """Every finding in one file, by line."""
    return sorted(finding for rule in RULES for finding in rule(source))


def _protocol_methods(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.ClassDef) and _is_protocol(node):
            yield from (
                item.name for item in node.body if isinstance(item, Function) and ast.get_docstring(item)
            )


def _is_protocol(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(_dotted(base) == "Protocol" for base in node.bases)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [prefix + alias.name for alias in node.names]


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a name, an attribute, a call or a subscript of one; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    return _dotted(node.value) if isinstance(node, ast.Subscript) else ""


def main() -> int:
    """Check the tree that was named, or the present folder."""
    findings = check(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
