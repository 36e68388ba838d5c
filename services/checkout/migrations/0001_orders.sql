-- Orders, as their sagas need them. What identifies a person stands in this table only, and the payment method's token
-- goes when the outcome is decided.
CREATE TABLE orders (
    order_id uuid PRIMARY KEY,
    request_id text NOT NULL UNIQUE,
    quote_id uuid NOT NULL,
    state text NOT NULL,
    customer_id text NOT NULL,
    customer_email text NOT NULL,
    customer_locale text NOT NULL,
    shipping_address jsonb NOT NULL,
    lines jsonb NOT NULL,
    total_currency text NOT NULL,
    total_minor bigint NOT NULL,
    coordination text NOT NULL,
    saga_version integer NOT NULL,
    trace_context jsonb NOT NULL,
    decide_by timestamptz NOT NULL,
    payment_method_token text,
    rejection jsonb,
    attention jsonb,
    epoch bigint NOT NULL,
    last_sequence bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT known_state CHECK (state IN ('PROCESSING', 'CONFIRMED', 'COMPLETED', 'REJECTED')),
    CONSTRAINT rejected_with_reason CHECK ((state = 'REJECTED') = (rejection IS NOT NULL)),
    CONSTRAINT token_only_while_processing CHECK (state = 'PROCESSING' OR payment_method_token IS NULL),
    CONSTRAINT total_not_negative CHECK (total_minor >= 0)
);

-- A quote has at most one order that is not rejected.
CREATE UNIQUE INDEX orders_live_quote ON orders (quote_id) WHERE state <> 'REJECTED';
CREATE INDEX orders_newest ON orders (create_time, order_id);
CREATE INDEX orders_of_customer ON orders (customer_id, create_time, order_id);

-- The story of each order, entry by entry: ids, reasons and numbers, nothing personal.
CREATE TABLE journal (
    order_id uuid NOT NULL REFERENCES orders,
    sequence bigint NOT NULL,
    epoch bigint NOT NULL,
    kind text NOT NULL,
    action text,
    details jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (order_id, sequence)
);

-- An order has one outcome.
CREATE UNIQUE INDEX journal_outcome ON journal (order_id) WHERE kind IN ('CONFIRMED', 'REJECTED');
