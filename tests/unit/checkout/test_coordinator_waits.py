"""How long the coordinator waits and how often it asks, to the second: retries, budgets, deadlines, attention."""

import random
from itertools import pairwise

import pytest

from services.checkout import saga
from services.checkout.coordinator import Done, Limits, NotKnown, Refused
from services.checkout.domain import OrderState
from services.checkout.saga import Action
from tests.fakes.checkout import BEFORE_PIVOT_SECONDS, Late
from tests.fakes.clock import in_virtual_time
from tests.fakes.saga_run import SagaRun, Script, run_saga

RESERVE, RELEASE, COMMIT = Action.RESERVE_STOCK, Action.RELEASE_RESERVATION, Action.COMMIT_RESERVATION
AUTHORIZE, VOID, CAPTURE = Action.AUTHORIZE_PAYMENT, Action.VOID_PAYMENT, Action.CAPTURE_PAYMENT

LOST = NotKnown("UNAVAILABLE")
QUICK_WAITS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
PATIENT_WAITS = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
EXACTLY = 1e-6


def waits(run: SagaRun, action: Action) -> list[float]:
    """Return the seconds between the calls of an action."""
    return [later - earlier for earlier, later in pairwise(run.participants.times(action))]


@pytest.mark.parametrize(
    ("action", "expected", "script"),
    [
        (RESERVE, QUICK_WAITS, {}),
        (AUTHORIZE, QUICK_WAITS, {}),
        (CAPTURE, QUICK_WAITS, {}),
        (COMMIT, PATIENT_WAITS, {}),
        (VOID, PATIENT_WAITS, {RESERVE: [Refused("OUT_OF_STOCK")]}),
        (RELEASE, PATIENT_WAITS, {AUTHORIZE: [Refused("CARD_DECLINED")]}),
    ],
)
@in_virtual_time
async def test_what_is_not_known_is_asked_again_after_waits_that_grow_to_a_limit(
    action: Action, expected: list[float], script: Script
) -> None:
    """The longest waits that may be drawn double from the first to the limit of the step's policy."""
    run = await run_saga({**script, action: [*[LOST] * len(expected), Done()]})
    assert waits(run, action) == pytest.approx(expected, abs=EXACTLY)


@pytest.mark.parametrize("seed", range(5))
@in_virtual_time
async def test_each_wait_is_drawn_between_nothing_and_its_limit(seed: int) -> None:
    """Full jitter: callers that failed together do not come back together."""
    run = await run_saga(
        {RESERVE: [*[LOST] * len(QUICK_WAITS), Done()]},
        random.Random(seed),  # noqa: S311 - a test's waits guard nothing.
    )
    shares = [wait / limit for wait, limit in zip(waits(run, RESERVE), QUICK_WAITS, strict=True)]
    assert all(0 <= share <= 1 for share in shares)
    assert max(shares) - min(shares) > 0.1


@in_virtual_time
async def test_a_wait_is_never_shorter_than_the_participant_asked_for() -> None:
    """RetryInfo counts where it is longer than what was drawn."""
    busy, idle = NotKnown("OVERLOADED", 1.5), NotKnown("OVERLOADED", 0.01)
    run = await run_saga({RESERVE: [*[busy] * 5, idle, Done()]})
    assert waits(run, RESERVE) == pytest.approx([1.5, 1.5, 1.5, 1.5, 1.5, 1.6], abs=EXACTLY)


@in_virtual_time
async def test_every_call_has_the_budget_of_its_step() -> None:
    """The table says how long one call may take."""
    confirmed = await run_saga()
    rejected = await run_saga({RESERVE: [Refused("OUT_OF_STOCK")]})
    budgets = {call.action: call.budget_seconds for run in (confirmed, rejected) for call in run.participants.calls}
    assert budgets == {
        **{step.action: step.budget_seconds for step in saga.TABLE},
        VOID: saga.UNDO_BUDGET_SECONDS,
        RELEASE: saga.UNDO_BUDGET_SECONDS,
    }


@pytest.mark.parametrize("action", [RESERVE, AUTHORIZE, CAPTURE])
@pytest.mark.parametrize("answer", [LOST, Late(1000.0, Done())], ids=["refused at once", "silent"])
@in_virtual_time
async def test_no_step_before_the_outcome_goes_beyond_the_orders_time(action: Action, answer: NotKnown | Late) -> None:
    """Neither begins a call after it nor waits for one; what comes after it is the void, at once."""
    run = await run_saga({action: [answer]})
    calls = [call for call in run.participants.calls if call.action is action]
    assert all(call.begin_seconds + call.budget_seconds <= BEFORE_PIVOT_SECONDS + EXACTLY for call in calls)
    assert run.participants.times(VOID) == pytest.approx([BEFORE_PIVOT_SECONDS], abs=EXACTLY)
    assert "REJECTED ORDER_TIMED_OUT" in run.story


@in_virtual_time
async def test_an_order_whose_time_was_over_before_it_began_is_only_voided() -> None:
    """As when its coordinator was away for long: no step before the outcome is asked for any more."""
    run = await run_saga(before_pivot_seconds=0.0)
    assert run.asked == [VOID, RELEASE]
    assert run.story == ["UNDONE void_payment", "REJECTED ORDER_TIMED_OUT", "UNDONE release_reservation", "CLOSED"]


@in_virtual_time
async def test_what_must_be_done_is_tried_quickly_then_slowly_with_one_call_for_attention() -> None:
    """Twenty seconds quickly, then every hundred; a person is called once, at the change, and it goes on by itself."""
    script: Script = {COMMIT: [*[LOST] * 10, Done()]}
    run = await run_saga(script, limits=Limits(quick_seconds=20.0, slow_wait_seconds=100.0))
    assert waits(run, COMMIT) == pytest.approx([*PATIENT_WAITS[:7], 100.0, 100.0, 100.0], abs=EXACTLY)
    assert run.story[-4:] == [
        "CONFIRMED",
        "NEEDS_ATTENTION commit_reservation UNAVAILABLE",
        "DONE commit_reservation",
        "COMPLETED",
    ]


@in_virtual_time
async def test_an_undo_is_tried_slowly_too_when_it_has_failed_for_long() -> None:
    """The rejection was answered long ago; the stock is given back in the end."""
    script: Script = {RESERVE: [Refused("OUT_OF_STOCK")], RELEASE: [*[LOST] * 4, Done()]}
    run = await run_saga(script, limits=Limits(quick_seconds=1.0, slow_wait_seconds=60.0))
    assert waits(run, RELEASE) == pytest.approx([0.2, 0.4, 0.8, 60.0], abs=EXACTLY)
    assert run.story[-3:] == [
        "NEEDS_ATTENTION release_reservation UNAVAILABLE",
        "UNDONE release_reservation",
        "CLOSED",
    ]


@in_virtual_time
async def test_a_refusal_ends_the_asking_for_its_neighbours() -> None:
    """With the processor away, a customer hears at once that the goods are sold out."""
    run = await run_saga({RESERVE: [Refused("OUT_OF_STOCK")], AUTHORIZE: [LOST]})
    assert run.asked.count(AUTHORIZE) == 1
    assert "REJECTED OUT_OF_STOCK" in run.story


@in_virtual_time
async def test_a_void_that_stays_unknown_calls_a_person_and_decides_nothing_meanwhile() -> None:
    """Days may pass: without the payment's word there is no outcome."""
    script: Script = {RESERVE: [Refused("OUT_OF_STOCK")], VOID: [*[LOST] * 1000, Refused("ALREADY_CAPTURED")]}
    run = await run_saga(script)
    assert run.participants.times(VOID)[-1] > 24 * 3600
    assert run.story.count("NEEDS_ATTENTION void_payment UNAVAILABLE") == 1
    assert run.decided.state is OrderState.CONFIRMED
