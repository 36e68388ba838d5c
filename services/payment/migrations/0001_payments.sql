-- The money of each order. The caller's id is the permanent key of the step; `number` is the order of lists.
-- A payment that was voided before it was authorised has no amount.
CREATE TABLE payments (
    payment_id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    order_id uuid NOT NULL UNIQUE,
    state text NOT NULL
    CHECK (state IN ('AUTHORIZING', 'AUTHORIZED', 'CAPTURING', 'CAPTURED', 'DECLINED', 'VOIDED')),
    currency text,
    amount_minor bigint CHECK (amount_minor BETWEEN 0 AND 999999999999),
    captured_minor bigint NOT NULL DEFAULT 0,
    decline_reason text
    CHECK (
        decline_reason IN ('CARD_DECLINED', 'INSUFFICIENT_FUNDS', 'PAYMENT_METHOD_INVALID', 'AUTHORIZATION_LAPSED')
    ),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    -- The trace of what made it, in which it is also resolved (W3C headers).
    trace_context jsonb NOT NULL,
    -- The rest is between the processor and us. The token is erased when the processor has answered. What is stuck is
    -- open, but attempted no more, as the processor contradicts us: a person has to look.
    hold_open boolean NOT NULL,
    begun_by text,
    token text,
    authorize_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    contradictions integer NOT NULL DEFAULT 0,
    stuck boolean NOT NULL DEFAULT false,
    next_attempt_time timestamptz,
    CONSTRAINT an_amount_has_a_currency CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CONSTRAINT only_what_was_voided_has_no_amount CHECK (amount_minor IS NOT NULL OR state = 'VOIDED'),
    CONSTRAINT nothing_or_all_is_captured
    CHECK (captured_minor = CASE state WHEN 'CAPTURED' THEN amount_minor ELSE 0 END),
    CONSTRAINT a_decline_has_a_reason CHECK ((state = 'DECLINED') = (decline_reason IS NOT NULL)),
    CONSTRAINT only_what_is_voided_is_released CHECK (NOT hold_open OR (state = 'VOIDED' AND amount_minor > 0)),
    CONSTRAINT what_is_undecided_was_begun
    CHECK ((state IN ('AUTHORIZING', 'CAPTURING')) = (begun_by IS NOT NULL)),
    CONSTRAINT a_token_is_kept_to_authorize CHECK ((state = 'AUTHORIZING') = (token IS NOT NULL)),
    CONSTRAINT only_what_is_open_is_stuck CHECK (NOT stuck OR state IN ('AUTHORIZING', 'CAPTURING') OR hold_open),
    CONSTRAINT what_is_open_is_attempted
    CHECK (
        ((state IN ('AUTHORIZING', 'CAPTURING') OR hold_open) AND NOT stuck) = (next_attempt_time IS NOT NULL)
    )
);
CREATE INDEX payments_to_attempt ON payments (next_attempt_time) WHERE next_attempt_time IS NOT NULL;
