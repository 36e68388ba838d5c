"""An order whose first COMMIT lost its answer: it may stand or not, and its saga begins exactly once."""

from collections.abc import Awaitable, Callable

import pytest
from libretto.checkout.v1.order_pb2 import OrderState

from services.common.database import Connection, Database, OutcomeUnknownError
from tests.integration.checkout.shopping import orders_of_quote, place_request, quoted, stocked
from tests.shop import Shop


@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_answer_to_the_first_commit_does_not_part_an_order_from_its_saga(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """Whether the transaction stood or not, the same order is kept once, and it is paid."""
    transaction = Database.transaction
    lost: list[str] = []

    async def lose_one(database: Database, work: Callable[[Connection], Awaitable[object]]) -> object:
        if lost or "OrderStore.place" not in getattr(work, "__qualname__", ""):
            return await transaction(database, work)
        lost.append("the answer")
        if committed:
            await transaction(database, work)
        raise OutcomeUnknownError("The answer to COMMIT did not arrive.")

    monkeypatch.setattr(Database, "transaction", lose_one)
    quote = await quoted(shop, await stocked(shop, 1))

    response = await shop.checkout.PlaceOrder(place_request(quote), timeout=10)

    assert lost == ["the answer"]
    assert response.order.state == OrderState.ORDER_STATE_CONFIRMED
    assert len(await orders_of_quote(shop, quote)) == 1
