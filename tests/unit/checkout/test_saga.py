"""The saga's table, stated once more as a reader would tell it, and what must hold of any such table."""

from services.checkout import saga
from services.checkout.saga import TABLE, Action, Kind, PermanentFailure, Step

COMPENSATABLE, PIVOT, RETRIABLE = Kind.COMPENSATABLE, Kind.PIVOT, Kind.RETRIABLE
ABORT, ATTENTION = PermanentFailure.ABORT, PermanentFailure.NEED_ATTENTION

EXPECTED = [
    (1, Action.RESERVE_STOCK, Action.RELEASE_RESERVATION, COMPENSATABLE, ABORT),
    (1, Action.AUTHORIZE_PAYMENT, Action.VOID_PAYMENT, COMPENSATABLE, ABORT),
    (2, Action.CAPTURE_PAYMENT, None, PIVOT, ABORT),
    (3, Action.COMMIT_RESERVATION, None, RETRIABLE, ATTENTION),
]


def with_kind(kind: Kind) -> list[Step]:
    """Return the steps of a kind."""
    return [step for step in TABLE if step.kind is kind]


def test_the_table_tells_the_whole_process() -> None:
    """Stage, action, the undo beside it, what sort of step it is, and what becomes of the order when it is refused."""
    assert [(s.stage, s.action, s.undo, s.kind, s.permanent_failure) for s in TABLE] == EXPECTED


def test_one_step_is_the_pivot_and_stands_alone_in_its_stage() -> None:
    """What can be undone comes before it, what is tried until it is done comes after it."""
    (pivot,) = with_kind(PIVOT)
    assert [step for step in TABLE if step.stage == pivot.stage] == [pivot]
    assert all(step.stage < pivot.stage for step in with_kind(COMPENSATABLE))
    assert all(step.stage > pivot.stage for step in with_kind(RETRIABLE))


def test_exactly_the_steps_that_can_be_undone_have_an_undo() -> None:
    """No action stands twice in the table, neither as an action nor as an undo, and together they are all there is."""
    assert [step for step in TABLE if step.undo] == with_kind(COMPENSATABLE)
    named = [action for step in TABLE for action in (step.action, step.undo) if action]
    assert sorted(named) == sorted(Action)


def test_the_deciding_undo_is_that_of_a_step_before_the_pivot() -> None:
    """It is the payment's, whose row decides between capture and void."""
    assert saga.DECIDING_UNDO in {step.undo for step in with_kind(COMPENSATABLE)}


def test_a_step_up_to_the_pivot_aborts_and_a_later_one_calls_a_person() -> None:
    """Past the pivot the order is paid: nothing is undone because a step is refused."""
    assert {step.permanent_failure for step in TABLE if step.kind is not RETRIABLE} == {ABORT}
    assert {step.permanent_failure for step in with_kind(RETRIABLE)} == {ATTENTION}


def test_every_step_has_a_budget_and_waits_that_grow_to_a_limit() -> None:
    """No call without a deadline, no retry without a wait."""
    assert all(step.budget_seconds > 0 for step in TABLE)
    assert saga.UNDO_BUDGET_SECONDS > 0
    policies = [*(step.retry for step in TABLE), saga.UNDO_RETRY]
    assert all(0 < policy.first_wait_seconds < policy.longest_wait_seconds for policy in policies)


def test_the_stages_are_the_table_cut_after_the_pivot() -> None:
    """In order, each step once."""
    before, after = (saga.stages(TABLE, after_pivot=late) for late in (False, True))
    assert [step for stage in (*before, *after) for step in stage] == list(TABLE)
    assert [[step.action for step in stage] for stage in before] == [
        [Action.RESERVE_STOCK, Action.AUTHORIZE_PAYMENT],
        [Action.CAPTURE_PAYMENT],
    ]
    assert [[step.action for step in stage] for stage in after] == [[Action.COMMIT_RESERVATION]]
