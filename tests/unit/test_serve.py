"""What scripts/serve decides without a shop."""

from scripts.lib.serve import Restarts


def test_a_program_that_dies_again_waits_longer_each_time_and_is_given_up_at_last() -> None:
    """Five deaths within a minute are borne; the others' deaths do not count."""
    restarts = Restarts()
    assert [restarts.wait_seconds("payment", float(second)) for second in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert restarts.wait_seconds("catalog", 6.0) == 0.5


def test_deaths_of_long_ago_are_forgotten() -> None:
    """A program that dies once a minute is started again at once, always."""
    restarts = Restarts()
    assert [restarts.wait_seconds("payment", 61.0 * minute) for minute in range(10)] == [0.5] * 10
