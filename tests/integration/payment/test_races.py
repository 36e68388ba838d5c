"""Capture against void: whoever commits first wins, and both callers learn the truth."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import grpc
import pytest_asyncio
from libretto.payment.v1 import payment_service_pb2_grpc
from libretto.payment.v1.payment_pb2 import Payment

from tests.integration.payment.till import Request, Till, authorize_request, capture_request, void_request
from tests.rpc import read_refusal

RACES = 200
AT_ONCE = 8
ASKS_LIMIT = 100
SEED = 20_261_124


@pytest_asyncio.fixture(loop_scope="session")
async def two_tills(till: Till) -> AsyncIterator[Sequence[Till]]:
    """The same service on two connections."""
    own = [("grpc.use_local_subchannel_pool", 1)]  # Else channels to one address share a connection.
    channels = [grpc.aio.insecure_channel(till.address, own) for _ in range(2)]
    yield [replace(till, stub=payment_service_pb2_grpc.PaymentServiceStub(channel)) for channel in channels]
    for channel in channels:
        await channel.close()


async def truth(till: Till, request: Request) -> str:
    """Ask, and again while the outcome is pending: returns OK or the reason of the refusal."""
    for _ in range(ASKS_LIMIT):
        try:
            await till.answer(request)
        except grpc.aio.AioRpcError as error:
            reason = read_refusal(error).reason
            if reason != "OUTCOME_PENDING":
                return reason
        else:
            return "OK"
    raise AssertionError("the outcome is still pending")


async def race(tills: Sequence[Till], payment: Payment, coin: random.Random) -> str:
    """Release a capture and a void from a barrier, in an order by the coin; returns the state that both agree on."""
    barrier = asyncio.Barrier(2)

    async def run(till: Till, request: Request) -> str:
        await barrier.wait()
        return await truth(till, request)

    racers: list[tuple[Till, Request]] = [(tills[0], capture_request(payment)), (tills[1], void_request(payment))]
    order = coin.sample([0, 1], 2)
    truths = dict(zip(order, await asyncio.gather(*(run(*racers[index]) for index in order)), strict=True))
    return {("OK", "ALREADY_CAPTURED"): "CAPTURED", ("ALREADY_UNDONE", "OK"): "VOIDED"}[truths[0], truths[1]]


async def test_capture_against_void_has_one_winner_and_both_learn_the_truth(
    till: Till, two_tills: Sequence[Till]
) -> None:
    """200 races: each side wins at least 20, and the ledger of the processor agrees with every single one."""
    coin = random.Random(SEED)  # noqa: S311 - a fair coin that falls the same every time.
    wins: Counter[str] = Counter()
    for _ in range(RACES // AT_ONCE):
        payments = await asyncio.gather(*(till.authorized() for _ in range(AT_ONCE)))
        states = await asyncio.gather(*(race(two_tills, payment, coin) for payment in payments))
        wins.update(states)
        for payment, state in zip(payments, states, strict=True):
            await till.settled(payment)
            assert await till.state(payment) == state
            assert await till.effects(payment) == ["authorized", state.lower()]

    assert wins.total() == RACES
    assert min(wins["CAPTURED"], wins["VOIDED"]) >= 20, wins


async def test_authorise_against_void_leaves_nothing_held(two_tills: Sequence[Till]) -> None:
    """Whether the void came before, during or after the authorisation, nothing is held in the end."""
    coin = random.Random(SEED)  # noqa: S311 - as above.
    for _ in range(20):
        request = authorize_request(coin.choice(["tok_succeeds", "tok_lost_reply"]))
        calls = [truth(two_tills[0], request), truth(two_tills[1], void_request(request))]
        coin.shuffle(calls)
        await asyncio.gather(*calls)

        assert await two_tills[0].state(request) == "VOIDED"
        await two_tills[0].settled(request)
        assert (await two_tills[0].effects(request))[-1:] in ([], ["voided"])


async def test_two_payments_for_one_order_have_one_winner(two_tills: Sequence[Till]) -> None:
    """Of payments that are authorised for an order at once, one is made."""
    for _ in range(20):
        requests = [authorize_request()]
        requests.append(authorize_request(order_id=requests[0].order_id))

        ended = await asyncio.gather(*map(truth, two_tills, requests))

        assert sorted(ended) == ["OK", "ORDER_HAS_PAYMENT"]
        assert sorted([len(await two_tills[0].effects(request)) for request in requests]) == [0, 1]


async def test_fifty_captures_with_keys_of_their_own_take_the_amount_once(two_tills: Sequence[Till]) -> None:
    """All are answered with the captured payment."""
    payment = await two_tills[0].authorized()

    ended = await asyncio.gather(*(truth(two_tills[index % 2], capture_request(payment)) for index in range(50)))

    assert set(ended) == {"OK"}
    assert await two_tills[0].effects(payment) == ["authorized", "captured"]
