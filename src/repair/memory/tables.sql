-- Not a migration of Diesel's: these tables are the program's own memory, in no set of the monolith's, and are made
-- where a repair is first remembered.
CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE IF NOT EXISTS tenantry.repair (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT repair_pkey PRIMARY KEY,
    program text NOT NULL,
    role text NOT NULL DEFAULT current_user,
    client text NOT NULL DEFAULT coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'this machine'),
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- Written in the transaction of the repair itself, so that it tells exactly what was done.
CREATE TABLE IF NOT EXISTS tenantry.repair_change (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT repair_change_pkey PRIMARY KEY,
    repair bigint NOT NULL,
    schema text NOT NULL,
    "table" text NOT NULL,
    what text NOT NULL CONSTRAINT repair_change_what_check
        CHECK (what IN ('referred', 'needed', 'inserted', 'updated', 'deleted', 'sequence', 'constraint')),
    key jsonb NOT NULL,
    before jsonb,
    after jsonb,
    undone_at timestamptz
);

CREATE INDEX IF NOT EXISTS repair_change_repair_schema_idx ON tenantry.repair_change (repair, schema);
CREATE INDEX IF NOT EXISTS repair_change_schema_table_idx ON tenantry.repair_change (schema, "table")
    WHERE what = 'inserted';

COMMENT ON TABLE tenantry.repair IS 'The repairs that did something';
COMMENT ON TABLE tenantry.repair_change IS 'What they did; rows are told by the texts of their columns';
COMMENT ON COLUMN tenantry.repair_change.schema IS 'The tenant that was repaired';
COMMENT ON COLUMN tenantry.repair_change."table" IS 'A table of that tenant; of public, where an original was deleted';
COMMENT ON COLUMN tenantry.repair_change.what IS
    'inserted, updated, deleted: a row; referred: a row of the tenant that referred in vain to one that was inserted; '
    'needed: a row that was inserted since another needs it, and not as the tenant''s own';
COMMENT ON COLUMN tenantry.repair_change.key IS 'The primary key, or all of a row that has none';
