# SPDX-License-Identifier: Apache-2.0
"""Who may import whom in `iap_authz`, and a reader of imports that finds who does.

A *part* is what the table below speaks of: the first name under the package (`tlog`, `ports`, `cli`), or, among the
adapters, the second (`adapters.envoy`). Imports are read from the syntax tree, so those in functions and under
`TYPE_CHECKING` count, relative ones are resolved, and so are constant names given to `importlib.import_module` and
`__import__`. A part that the table does not know is a violation.

Not seen: names put together at run time. Nothing here does that.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PURE = ("errors", "model", "tlog", "facts", "policy", "records")
SERVICES = ("sidecar", "log", "trail", "client")
WIRING = (
    "seal_wiring",
    "assertion_wiring",
    "identity_wiring",
    "credential_wiring",
    "policy_wiring",
    "shipping_wiring",
    "wiring",
    "privacy_wiring",
    "log_wiring",
    "key_wiring",
)
CONFIG_PARTS = (
    *("config_identity", "config_credentials", "config_tokens", "config_certificate"),
    *("config_seal", "config_assertion", "config_listen"),
)
CONFIG = ("config", *CONFIG_PARTS, "log_config")
ASSEMBLY = (
    *CONFIG,
    "bootstrap",
    *WIRING,
    "supervise",
    "demo",
    "ui",
    "cli",
    "__main__",
)

CORE = frozenset({"errors", "model", "_pb"})
BELOW_SERVICES = frozenset({*PURE, "_pb", "ports"})
"""Layers 1 and 2: what a service or an adapter stands on."""

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "_pb": frozenset(),
    "model": frozenset({"errors", "_pb"}),
    "tlog": frozenset({"errors"}),
    "facts": CORE,
    "policy": CORE,
    "records": CORE | {"tlog"},
    "ports": frozenset({*PURE, "_pb"}),
    "client": BELOW_SERVICES,
    "sidecar": BELOW_SERVICES | {"client"},
    "log": BELOW_SERVICES | {"client"},
    "trail": BELOW_SERVICES | {"client"},
    "adapters": frozenset(),
    "adapters.*": BELOW_SERVICES,
    "config": frozenset({*PURE, "_pb", *CONFIG_PARTS}),
    "config_tokens": frozenset({*PURE, "_pb"}),
    "config_credentials": frozenset({*PURE, "_pb", "config_tokens"}),
    "config_identity": frozenset({*PURE, "_pb", "config_credentials", "config_tokens"}),
    "config_certificate": frozenset({*PURE, "_pb"}),
    "config_seal": frozenset({*PURE, "_pb"}),
    "config_assertion": frozenset({*PURE, "_pb", "config_listen"}),
    "config_listen": frozenset({*PURE, "_pb"}),
    "log_config": frozenset({*PURE, "_pb"}),
    "bootstrap": frozenset({*PURE, "_pb"}),
    "seal_wiring": BELOW_SERVICES | {*SERVICES, "config"},
    "assertion_wiring": BELOW_SERVICES | {*SERVICES, "adapters", "adapters.*", "config_assertion"},
    "identity_wiring": BELOW_SERVICES | {*SERVICES, "adapters", "adapters.*", "config", "config_identity"},
    "credential_wiring": BELOW_SERVICES | {*SERVICES, "adapters.*", "config", "config_credentials"},
    "policy_wiring": BELOW_SERVICES | {*SERVICES, "adapters.*", "config", "assertion_wiring"},
    "shipping_wiring": BELOW_SERVICES | {*SERVICES, "adapters.*", "config"},
    "wiring": BELOW_SERVICES
    | {*SERVICES, "adapters", "adapters.*", *CONFIG}
    | {"identity_wiring", "credential_wiring", "policy_wiring", "seal_wiring", "assertion_wiring", "shipping_wiring"},
    "privacy_wiring": BELOW_SERVICES | {*SERVICES, "adapters", "adapters.*", "log_config", "key_wiring"},
    "log_wiring": BELOW_SERVICES | {*SERVICES, "adapters", "adapters.*", "log_config", "privacy_wiring"},
    "key_wiring": BELOW_SERVICES | {"adapters", "adapters.*"},
    "supervise": BELOW_SERVICES | {"config", "wiring"},
    "demo": BELOW_SERVICES | {"client", "bootstrap", "config", "key_wiring", "wiring", "supervise"},
    "ui": BELOW_SERVICES | {"client", "config", "wiring"},
    "cli": BELOW_SERVICES | {"client", *ASSEMBLY} - {"cli", "__main__"},
    "__main__": frozenset({"cli"}),
}
"""Each part, and the parts it may import besides itself. The package's own `__init__` may be imported by all."""

PURE_FORBIDS: Mapping[str, str] = {
    "asyncio": "only what can block is async, and nothing pure blocks",
    "concurrent": "a pure function runs where it is called",
    "fcntl": "files are an adapter's",
    "glob": "files are an adapter's",
    "grpc": "the wire is an adapter's",
    "http": "the wire is an adapter's",
    "httpx": "the wire is an adapter's",
    "logging": "a value or an exception says it; who called writes it down",
    "mmap": "files are an adapter's",
    "multiprocessing": "processes are the assembly's",
    "os": "the machine is an adapter's",
    "pathlib": "files are an adapter's; a file's name in a message is text",
    "random": "randomness is an argument",
    "secrets": "randomness is an argument",
    "select": "the wire is an adapter's",
    "selectors": "the wire is an adapter's",
    "shutil": "files are an adapter's",
    "signal": "processes are the assembly's",
    "socket": "the wire is an adapter's",
    "sqlite3": "stores are an adapter's",
    "ssl": "the wire is an adapter's",
    "subprocess": "processes are the assembly's",
    "tempfile": "files are an adapter's",
    "threading": "a pure function runs where it is called",
    "time": "`now` is an argument",
    "uvloop": "only what can block is async, and nothing pure blocks",
}
"""Packages that a pure module does not import, and why."""

PURE_MAY: Mapping[str, frozenset[str]] = {
    "errors": frozenset({"pathlib"}),  # the type of an argument: a fault names a file
    "records": frozenset({"secrets"}),  # draws record ids, subject keys and salts, in functions that do nothing else
}
"""Exceptions to `PURE_FORBIDS`, by part."""

CLOCK_CALLS = frozenset({"now", "today", "utcnow"})
"""Methods of `datetime` and `date` that read the clock."""

IO_CALLS = frozenset({"input", "open", "print"})
"""Built-in functions that are I/O."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: where it stands, and the module it names (of the package: the module itself, not a name in it)."""

    file: Path
    line: int
    target: str


def module_name(file: Path, root: Path) -> str:
    """The dotted name of a module by its file below `root`."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(file: Path, root: Path) -> Iterator[Import]:
    """Every module that `file` imports, wherever in the file it does so."""
    name = module_name(file, root)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        for target in targets_of(node, package, root):
            yield Import(file=file, line=getattr(node, "lineno", 0), target=target)


def targets_of(node: ast.AST, package: str, root: Path) -> Iterator[str]:
    """The modules that one node of a syntax tree imports."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = resolved(module or "", level, package)
            yield from dict.fromkeys(member(base, alias.name, root) for alias in names)
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(target)), *_],
        ):
            level = len(target) - len(target.lstrip("."))
            yield resolved(target[level:], level, package)


def resolved(module: str, level: int, package: str) -> str:
    """The absolute name of a module that is imported with `level` leading dots from `package`."""
    if not level:
        return module
    parents = package.split(".")
    above = parents[: len(parents) - level + 1]
    return ".".join([*above, module] if module else above)


def member(base: str, name: str, root: Path) -> str:
    """What `from base import name` imports: the module `base.name` if there is one, or else `base`."""
    path = root.joinpath(*base.split("."), name)
    return f"{base}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else base


def part_of(module: str) -> str:
    """The part that a module of the package belongs to; "" for the package's own `__init__`."""
    parts = module.split(".")[1:]
    if parts[:1] == ["adapters"]:
        return ".".join(parts[:2])
    return parts[0] if parts else ""


def general(part: str) -> str:
    """The part's row in the table: one for all adapters."""
    return "adapters.*" if part.startswith("adapters.") else part


def why_not(importer: str, imported: str) -> str | None:
    """The reason that a part may not import another one, or None if it may."""
    if imported in {"", importer}:
        return None
    for part in (importer, imported):
        if part and general(part) not in MAY_IMPORT:
            return f"{part} is not in the table of tests/repo/layers.py: say which layer it is"
    if importer == "":
        return "the package's __init__ is the map: it imports nothing"
    if general(imported) in MAY_IMPORT[general(importer)]:
        return None
    return REASONS.get((layer(importer), layer(imported)), f"{layer(importer)} stands above {layer(imported)}")


def layer(part: str) -> str:
    """The layer of a part."""
    for name, parts in (("pure", PURE), ("services", SERVICES), ("assembly", ASSEMBLY)):
        if part in parts:
            return name
    return {"adapters.*": "adapters"}.get(general(part), part)


REASONS = {
    ("pure", "pure"): "the pure parts stand in this order: errors, model, then tlog, facts, policy, records (on tlog)",
    ("pure", "_pb"): "this pure part knows bytes only; messages belong to model, facts, policy and records",
    ("services", "services"): "services never import one another; only client/ may be used by all",
    ("services", "adapters"): "a service speaks to a port; wiring.py chooses the adapter",
    ("adapters", "adapters"): "an adapter is one outside thing; what two of them share belongs in a lower layer",
    ("adapters", "services"): "an adapter takes an inbound port, never a service",
    (
        "assembly",
        "adapters",
    ): "wiring.py is the only file, with the other *_wiring.py, that names concrete adapters",
    ("assembly", "services"): "wiring.py puts services together; only client/ is a public API",
    ("assembly", "assembly"): "assembly stands in this order: config, wiring, supervise, demo and ui, cli",
}
"""Why an edge between two layers is refused, where there is more to say than that it points upward."""


def layer_violations(root: Path) -> Iterator[str]:
    """Every import of the package below `root` that the table does not allow, with its reason."""
    for file in sorted((root / "iap_authz").rglob("*.py")):
        importer = part_of(module_name(file, root))
        for found in read_imports(file, root):
            if found.target.split(".")[0] != "iap_authz":
                continue
            reason = why_not(importer, part_of(found.target))
            if reason:
                place = f"{file.relative_to(root)}:{found.line}"
                yield f"{place}: {importer or 'iap_authz'} imports {found.target}: {reason}"


def purity_violations(root: Path) -> Iterator[str]:
    """Every import or call in a pure module below `root` that is not pure, with its reason."""
    for file in sorted((root / "iap_authz").rglob("*.py")):
        part = part_of(module_name(file, root))
        if part not in PURE:
            continue
        for found in read_imports(file, root):
            top = found.target.split(".")[0]
            if top in PURE_FORBIDS and top not in PURE_MAY.get(part, ()):
                yield f"{file.relative_to(root)}:{found.line}: {part} imports {found.target}: {PURE_FORBIDS[top]}"
        for line, call in impure_calls(file):
            yield f"{file.relative_to(root)}:{line}: {part} calls {call}: values in, values out"


def impure_calls(file: Path) -> Iterator[tuple[int, str]]:
    """Calls that read the clock, or are I/O without an import."""
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IO_CALLS:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr=name, value=ast.Name(id="datetime" | "date") | ast.Attribute())) if (
                name in CLOCK_CALLS
            ):
                yield node.lineno, name
