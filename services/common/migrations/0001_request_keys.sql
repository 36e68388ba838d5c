-- The keys of mutations, each with the verdict that it got. Written in the transaction of the effect.
-- A row without a verdict belongs to a call whose outcome is still being decided.
CREATE TABLE request_keys (
    method text NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea,
    refusal bytea,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (method, request_id),
    CONSTRAINT one_verdict CHECK (answer IS NULL OR refusal IS NULL)
);
