"""Every module that mutation testing should reach has test files to run."""

from conftest import ROOT
from mutant_map import COMPLETE, TESTS


def test_no_module_and_no_test_file_is_missing():
    modules = {
        str(path.relative_to(ROOT))
        for package in COMPLETE
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules <= set(TESTS)
    assert all((ROOT / module).is_file() for module in TESTS)
    names = {name for files in TESTS.values() for name in files}
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in names)
