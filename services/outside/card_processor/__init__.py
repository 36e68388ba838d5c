"""A simulated card processor: authorise, capture and void over HTTP/JSON, with a ledger of its own.

Ids are the caller's, so each call may be repeated. A test token decides how the processor behaves:

==========================  =========================================================================
``tok_succeeds``            authorised, captured, voided as asked
``tok_declined``            402 ``card_declined``
``tok_insufficient_funds``  402 ``insufficient_funds``
``tok_slow``                the authorisation takes effect, and is answered, after SLOW_SECONDS
``tok_slow_capture``        the capture takes effect, and is answered, after SLOW_SECONDS
``tok_lost_reply``          the authorisation takes effect, then the connection drops, without an answer
``tok_lost_capture``        the capture takes effect, then the connection drops, without an answer
``tok_unavailable``         503 ``unavailable``, nothing is recorded
any other                   402 ``invalid_token``
==========================  =========================================================================

A reply is lost once, with the effect: asking again shows what happened. Of a token only its kind is kept.
"""
