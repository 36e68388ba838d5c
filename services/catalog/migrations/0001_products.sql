-- Texts as they are cut into words, of products and of queries alike: what joins words in a SKU or a name parts them
-- here, so that the parser sees no hyphenated words, hosts, paths or signs.
CREATE FUNCTION searchable_text(original text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN translate(original, '-+_/.@<>&''', '          ');

-- Products, and what was asked for when each was created. None is ever deleted: old quotes and orders name it.
CREATE TABLE products (
    product_id uuid PRIMARY KEY,
    -- Recognises the creating request when it comes again after its key has expired.
    fingerprint bytea NOT NULL,
    sku text NOT NULL UNIQUE,
    -- Pages follow one order on every server, whatever its locale.
    title text COLLATE "C" NOT NULL,
    description text NOT NULL,
    category text NOT NULL,
    price_currency text NOT NULL,
    price_minor bigint NOT NULL,
    state text NOT NULL DEFAULT 'ACTIVE',
    version bigint NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT statement_timestamp(),
    update_time timestamptz NOT NULL DEFAULT statement_timestamp(),
    words tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', searchable_text(title)), 'A')
        || setweight(to_tsvector('simple', searchable_text(sku)), 'A')
        || setweight(to_tsvector('simple', searchable_text(category)), 'B')
        || setweight(to_tsvector('simple', searchable_text(description)), 'C')
    ) STORED,
    CONSTRAINT known_state CHECK (state IN ('ACTIVE', 'ARCHIVED')),
    CONSTRAINT titled CHECK (title <> ''),
    CONSTRAINT price_within_limits CHECK (price_minor BETWEEN 0 AND 999999999999),
    CONSTRAINT versions_from_one CHECK (version >= 1)
);

CREATE INDEX products_by_title ON products (title, product_id) WHERE state = 'ACTIVE';
CREATE INDEX products_by_category ON products (category, title, product_id) WHERE state = 'ACTIVE';
CREATE INDEX products_by_words ON products USING gin (words) WHERE state = 'ACTIVE';
