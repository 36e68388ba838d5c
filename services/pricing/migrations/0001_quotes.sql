-- Quotes. A row never changes: it is the promise. The address identifies a person and stands in this table only.
CREATE TABLE quotes (
    quote_id uuid PRIMARY KEY,
    -- Recognises the making request when it comes again after its key has expired.
    fingerprint bytea NOT NULL,
    currency text NOT NULL,
    total_minor bigint NOT NULL,
    -- In the order asked for: product_id, sku, title, unit_price_minor and quantity of each.
    lines jsonb NOT NULL,
    shipping_address jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    CONSTRAINT total_within_limits CHECK (total_minor BETWEEN 0 AND 999999999999),
    CONSTRAINT some_lines CHECK (jsonb_array_length(lines) >= 1),
    CONSTRAINT made_before_it_expires CHECK (create_time < expire_time)
);
