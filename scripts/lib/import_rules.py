"""Who may import whom: the contracts in pyproject.toml, and a rule that import-linter cannot express.

That one is: a domain.py imports the standard library and services.common.values, nothing else.
"""

import ast
import sys
from pathlib import Path
from typing import Final

from scripts.lib.tools import ROOT, run_tool

DOMAIN_MAY_IMPORT: Final = frozenset({"services.common.values"})


def broken_import_rules(root: Path = ROOT) -> str:
    """Return import-linter's report, if a contract is broken, and a line for each import that a domain may not have."""
    kept, report = run_tool("lint-imports", "--no-logo", "--cache-dir", ".cache/import-linter", cwd=root)
    findings = "" if kept else report
    for path in sorted(root.glob("services/**/domain.py")):
        findings += "".join(f"{path.relative_to(root)}:{finding}\n" for finding in foreign_imports(path.read_text()))
    return findings


def foreign_imports(source: str) -> list[str]:
    """Return line and name of each import in a domain's source text that is not allowed to it."""
    findings = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = imported_modules(node)
        else:
            continue
        findings += [f"{node.lineno}: a domain may not import {name}" for name in names if not is_allowed(name)]
    return findings


def imported_modules(node: ast.ImportFrom) -> list[str]:
    """Return what `from … import …` names; a submodule counts as itself when it is one that may be imported."""
    base = "." * node.level + (node.module or "")
    joined = [f"{base}.{alias.name}" for alias in node.names]
    return joined if all(name in DOMAIN_MAY_IMPORT for name in joined) else [base]


def is_allowed(module: str) -> bool:
    """Tell whether a domain may import the module of this absolute name."""
    return module in DOMAIN_MAY_IMPORT or module.partition(".")[0] in sys.stdlib_module_names
