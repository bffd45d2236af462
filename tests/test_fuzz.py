"""How much the default suite fuzzes."""

from __future__ import annotations

from fuzz import TESTS, fuzz_cases


def test_the_default_suite_draws_at_least_two_thousand_cases():
    """Configurations in process, and the readers of IDX, CIFAR, MATLAB, ARFF, CSV, npz and other label files."""
    cases = fuzz_cases()
    total = sum(cases.values())
    assert total >= 2_000
    assert f"counts the cases that are drawn at random: {total:,} " in (TESTS.parent / "README.md").read_text()
    for file, least in (("test_config.py", 500), ("test_readers.py", 1_000), ("data/test_readers.py", 500)):
        assert (TESTS / file).is_file()
        assert sum(number for test, number in cases.items() if test.startswith(f"{file}::")) >= least
