"""How much the default suite fuzzes."""

from __future__ import annotations

from fuzz import TESTS, fuzz_cases


def test_the_default_suite_draws_at_least_three_thousand_cases():
    """Configurations in process, and the readers of IDX, CIFAR, MATLAB, ARFF, CSV, npz and other label files."""
    cases = fuzz_cases()
    total = sum(cases.values())
    assert total >= 3_000
    assert "counts the cases that are drawn at random: more than 3,000 " in (TESTS.parent / "README.md").read_text()
    for file, least in (
        ("experiment/test_settings.py", 500),
        ("labels/test_files.py", 1_000),
        ("data/test_readers.py", 500),
    ):
        assert (TESTS / file).is_file()
        assert sum(number for test, number in cases.items() if test.startswith(f"{file}::")) >= least
