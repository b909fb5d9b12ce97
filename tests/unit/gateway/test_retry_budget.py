"""A service that fails gets little more to do than it has."""

from services.gateway.backends import RetryBudget


def test_some_may_be_made_again_at_once_and_then_one_of_five() -> None:
    budget = RetryBudget()

    at_once = sum(budget.spend() for _ in range(100))
    later = 0
    for _ in range(1000):
        budget.earn()
        later += budget.spend()

    assert at_once == 10
    assert 199 <= later <= 200


def test_what_is_not_spent_does_not_add_up() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()

    assert sum(budget.spend() for _ in range(100)) == 10
