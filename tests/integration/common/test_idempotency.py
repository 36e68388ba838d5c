"""One verdict for each key: the effect once, the answer byte for byte again, and nothing of what failed."""

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common.database import Connection
from services.common.errors import RemoteError, StatusError
from services.common.idempotency import Answered, Keyed, Refused, Undecided, Verdict, replayed, settle, verdict_of
from services.common.values import OutcomePendingError
from tests.integration.common.ledger import METHOD, Ledger, Note, NoteTooRudeError, keyed, write


def reason_of(verdict: Verdict) -> str:
    """Return the reason of a refusal."""
    with pytest.raises(StatusError) as caught:
        verdict.parse(StringValue)
    return RemoteError(caught.value.status).reason


async def settled(ledger: Ledger, verdicts: dict[str, Verdict]) -> None:
    """Store verdicts in a transaction of their own."""

    async def work(connection: Connection) -> None:
        await settle(connection, METHOD, verdicts)

    await ledger.database.transaction(work)


async def known(ledger: Ledger, request: Keyed[Note]) -> Verdict | None:
    """Ask what is known of a key."""
    async with ledger.database.connection() as connection:
        return await replayed(connection, METHOD, request)


async def test_a_new_key_has_its_effect_once_and_its_answer_again_and_again(ledger: Ledger) -> None:
    """Byte for byte, without the effect being asked again."""
    (first,) = await ledger.apply(keyed("a", "hello"))
    assert first.parse(StringValue).value.startswith("entry ")
    assert await ledger.apply(keyed("a", "hello")) == [first]
    assert await ledger.apply(keyed("a", "hello")) == [first]
    assert ledger.batches == [["hello"]]
    assert await ledger.entries() == ["hello"]


async def test_a_key_that_comes_with_another_request_is_refused(ledger: Ledger) -> None:
    """It does nothing, and leaves what is stored as it is."""
    (first,) = await ledger.apply(keyed("a", "hello"))
    (second,) = await ledger.apply(keyed("a", "another"))
    assert reason_of(second) == "REQUEST_ID_REUSED"
    assert ledger.batches == [["hello"]]
    assert await ledger.apply(keyed("a", "hello")) == [first]


async def test_a_key_belongs_to_one_method(ledger: Ledger) -> None:
    """Another method with the same key is another request."""
    await ledger.apply(keyed("a", "hello"))
    (verdict,) = await ledger.apply(keyed("a", "good bye"), method="EnterFarewell")
    assert isinstance(verdict, Answered)
    assert await ledger.keys() == [("EnterFarewell", "a"), (METHOD, "a")]
    assert await ledger.entries() == ["hello", "good bye"]


async def test_a_refusal_is_stored_and_answered_again_byte_for_byte(ledger: Ledger) -> None:
    """Also when the same command would succeed by now."""
    (first,) = await ledger.apply(keyed("a", "rude"))
    assert reason_of(first) == "NOTE_TOO_RUDE"
    assert await ledger.apply(keyed("a", "rude")) == [first]
    assert ledger.batches == [["rude"]]
    assert await ledger.entries() == []
    assert reason_of((await ledger.apply(keyed("a", "polite")))[0]) == "REQUEST_ID_REUSED"


async def test_an_undecided_key_stays_open_until_it_is_settled(ledger: Ledger) -> None:
    """It says so to whoever asks, and its effect is not begun again."""
    for _ in range(2):
        (verdict,) = await ledger.apply(keyed("a", "slow"))
        assert verdict == Undecided()
        with pytest.raises(OutcomePendingError):
            verdict.parse(StringValue)
    assert ledger.batches == [["slow"]]
    assert reason_of((await ledger.apply(keyed("a", "other")))[0]) == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("first", "second"),
    [(7, 8), (7, NoteTooRudeError("Too late.")), (NoteTooRudeError("Rude."), 8), (NoteTooRudeError("Rude."), 7)],
    ids=["answer", "answer then refusal", "refusal then answer", "refusal"],
)
async def test_the_first_verdict_that_is_settled_stays(
    ledger: Ledger, first: int | NoteTooRudeError, second: int | NoteTooRudeError
) -> None:
    """A second one, from whoever else resolved it, changes nothing."""
    await ledger.apply(keyed("a", "slow"))
    await settled(ledger, {"a": verdict_of(first, write)})
    await settled(ledger, {"a": verdict_of(second, write)})
    assert await ledger.apply(keyed("a", "slow")) == [verdict_of(first, write)]


async def test_settling_leaves_other_keys_alone(ledger: Ledger) -> None:
    """Those that are still undecided, those with a verdict, and those that nobody ever sent."""
    (done,) = await ledger.apply(keyed("done", "hello"))
    await ledger.apply(keyed("a", "slow"), keyed("b", "slow"), keyed("c", "slow"))
    await settled(ledger, {"a": verdict_of(7, write), "b": Undecided(), "nobody": verdict_of(9, write)})
    await settled(ledger, {})
    verdicts = await ledger.apply(keyed("a", "slow"), keyed("b", "slow"), keyed("c", "slow"), keyed("done", "hello"))
    assert verdicts == [verdict_of(7, write), Undecided(), Undecided(), done]
    assert [key for _, key in await ledger.keys()] == ["a", "b", "c", "done"]


async def test_an_effect_that_fails_leaves_nothing(ledger: Ledger) -> None:
    """Neither entry nor key: the same request may be tried again, and its neighbours in the batch too."""
    with pytest.raises(ZeroDivisionError):
        await ledger.apply(keyed("a", "hello"), keyed("b", "broken"))
    assert await ledger.entries() == []
    assert await ledger.keys() == []
    (verdict,) = await ledger.apply(keyed("b", "mended"))
    assert isinstance(verdict, Answered)
    assert await ledger.entries() == ["mended"]


async def test_a_batch_has_a_verdict_for_each_request_in_order(ledger: Ledger) -> None:
    """New ones, replayed ones, refused ones, undecided ones and reused keys beside each other."""
    (old,) = await ledger.apply(keyed("m", "old"))
    ledger.batches.clear()
    verdicts = await ledger.apply(
        keyed("z", "last"),
        keyed("m", "old"),
        keyed("c", "rude"),
        keyed("b", "slow"),
        keyed("m", "new"),
        keyed("a", "x"),
    )
    assert [type(verdict) for verdict in verdicts] == [Answered, Answered, Refused, Undecided, Refused, Answered]
    assert verdicts[1] == old
    assert reason_of(verdicts[2]) == "NOTE_TOO_RUDE"
    assert reason_of(verdicts[4]) == "REQUEST_ID_REUSED"
    assert [sorted(batch) for batch in ledger.batches] == [["last", "rude", "slow", "x"]]
    entered = dict(zip(("old", *(note for note in ledger.batches[0] if note in {"x", "last"})), (1, 2, 3), strict=True))
    assert await ledger.entries() == sorted(entered, key=lambda note: entered[note])


async def test_one_key_twice_in_a_batch_has_one_effect(ledger: Ledger) -> None:
    """Equal requests get equal answers; of different ones the first wins."""
    same, again, other = await ledger.apply(keyed("a", "hello"), keyed("a", "hello"), keyed("a", "another"))
    assert same == again
    assert isinstance(same, Answered)
    assert reason_of(other) == "REQUEST_ID_REUSED"
    assert await ledger.entries() == ["hello"]
    assert await ledger.apply(keyed("a", "hello")) == [same]


async def test_an_empty_batch_does_nothing(ledger: Ledger) -> None:
    """It has no verdicts, and the effect is not asked."""
    assert await ledger.apply() == []
    assert ledger.batches == []


async def test_what_is_known_of_a_key_is_told_without_an_effect(ledger: Ledger) -> None:
    """Nothing of a new one; the verdict, or that there is none yet; and that it was used otherwise."""
    assert await known(ledger, keyed("a", "hello")) is None
    (answered,) = await ledger.apply(keyed("a", "hello"))
    (refused,) = await ledger.apply(keyed("b", "rude"))
    await ledger.apply(keyed("c", "slow"))
    assert await known(ledger, keyed("a", "hello")) == answered
    assert await known(ledger, keyed("b", "rude")) == refused
    assert await known(ledger, keyed("c", "slow")) == Undecided()
    other = await known(ledger, keyed("a", "another"))
    assert other is not None
    assert reason_of(other) == "REQUEST_ID_REUSED"


async def test_neither_commands_nor_texts_are_kept_with_a_key(ledger: Ledger) -> None:
    """A fingerprint is a keyed hash: what a request said cannot be read from it."""
    await ledger.apply(keyed("a", "slow note for Ada Lovelace"))
    async with ledger.database.connection() as connection:
        kept = await connection.fetchval("SELECT k::text FROM request_keys AS k")
        length = await connection.fetchval("SELECT octet_length(fingerprint) FROM request_keys")
    assert "Ada" not in kept
    assert length == 32
