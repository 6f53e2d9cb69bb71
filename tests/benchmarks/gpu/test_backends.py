import pytest

from benchmarks.gpu.backends import count_tests


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("=== 3 passed, 1 skipped in 2.0s ===", {"passed": 3, "skipped": 1}),
        ("1 failed, 2 passed, 1 error in 0.1s", {"failed": 1, "passed": 2, "error": 1}),
        ("no tests ran in 0.01s", {}),
    ],
)
def test_the_last_line_of_pytest_is_understood(line: str, counts: dict) -> None:
    assert count_tests(line) == counts
