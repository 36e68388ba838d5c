-- How many pieces of each SKU there are, and where they stand. SKUs compare bytewise, so that rows are locked in the
-- same order in every database.
CREATE TABLE stock (
    sku text COLLATE "C" PRIMARY KEY,
    available bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sold bigint NOT NULL DEFAULT 0 CHECK (sold >= 0),
    received bigint NOT NULL DEFAULT 0 CHECK (received <= 999999999999),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT every_piece_stands_somewhere CHECK (available + reserved + sold = received)
);

-- What is held for orders. The caller's id is the permanent key of the step; `number` is the order of lists.
-- A reservation that was released before it was made has no lines and no expire_time.
CREATE TABLE reservations (
    reservation_id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    order_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'COMMITTED', 'RELEASED', 'EXPIRED')),
    expire_time timestamptz,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT what_was_made_expires CHECK (expire_time IS NOT NULL OR state = 'RELEASED')
);
CREATE INDEX reservations_by_order ON reservations (order_id, number);
CREATE INDEX reservations_to_expire ON reservations (expire_time) WHERE state = 'ACTIVE';

-- What a reservation holds: written with it, and never changed.
CREATE TABLE reservation_lines (
    reservation_id uuid NOT NULL REFERENCES reservations,
    sku text COLLATE "C" NOT NULL REFERENCES stock,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
);

-- Every change of a level, only ever appended to: the movements of a SKU add up to its row in `stock`.
CREATE TABLE stock_movements (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    movement_id uuid NOT NULL UNIQUE,
    sku text COLLATE "C" NOT NULL REFERENCES stock,
    kind text NOT NULL CHECK (kind IN ('ADJUSTED', 'RESERVED', 'COMMITTED', 'RELEASED', 'EXPIRED')),
    available_change bigint NOT NULL,
    reserved_change bigint NOT NULL,
    sold_change bigint NOT NULL,
    reservation_id uuid REFERENCES reservations,
    order_id uuid,
    create_time timestamptz NOT NULL,
    CONSTRAINT only_adjustments_have_no_order CHECK
    ((kind = 'ADJUSTED') = (reservation_id IS NULL) AND (kind = 'ADJUSTED') = (order_id IS NULL))
);
CREATE INDEX stock_movements_by_sku ON stock_movements (sku, number);
CREATE INDEX stock_movements_by_order ON stock_movements (order_id, number) WHERE order_id IS NOT NULL;
