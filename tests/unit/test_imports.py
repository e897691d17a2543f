"""Which package may import which."""

from __future__ import annotations

from tests.imports import floors, imports, modules, room

# A package imports only from lines above its own. Packages of one line stand side by side: none imports another.
LINES = (
    {"util"},
    {"data"},
    {"proposal", "closure", "engine"},
    {"decomposition"},
    {"records"},
    {"registry"},
    {"cells"},
    {"pipeline"},
    {"execution"},
    {"forecast", "board"},
    {"notebook"},
    {"tracking", "calibration"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
LINE = {f"harness.{package}": line for line, packages in enumerate(LINES) for package in packages}
PLUGINS = {"harness", "harness.util", "harness.data"}
SUBJECTS = {*PLUGINS, "harness.engine", "harness.closure", "harness.decomposition"}


def allowed(importer: str, imported: str) -> bool:
    """Whether a package may import another. ``harness``: all up to execution, the notebook and the checks."""
    if importer == "harness":
        return LINE[imported] <= LINE["harness.execution"] or imported in ("harness.notebook", "harness.testing")
    if imported == "harness":
        return importer == "harness.cli" or importer.startswith("harness_plugins")
    if importer in LINE:
        return imported in LINE and LINE[imported] < LINE[importer]
    return imported in (SUBJECTS if importer == "harness_plugins.subjects" else PLUGINS)


def test_every_package_is_in_the_table_of_allowed_imports() -> None:
    assert {room(module) for module in modules() if module.startswith("harness.")} == set(LINE)


def test_every_import_is_allowed() -> None:
    wrong = [f"{a} imports {b}" for a, b in imports() if room(a) != room(b) and not allowed(room(a), room(b))]
    assert not wrong, "\n".join(wrong)


def test_subjects_import_only_verdicts_from_closure() -> None:
    seen = {b for a, b in imports() if a.startswith("harness_plugins") and b.startswith("harness.closure")}
    assert seen <= {"harness.closure.verdict"}


def test_the_packages_have_at_most_ten_layers() -> None:
    assert max(floors().values()) <= 10
