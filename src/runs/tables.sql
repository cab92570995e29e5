-- Not a migration of Diesel's: these tables are the program's own memory, in no set of the monolith's, and are made
-- where a run is first remembered.
CREATE SCHEMA IF NOT EXISTS tenantry;

CREATE TABLE IF NOT EXISTS tenantry.run (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT run_pkey PRIMARY KEY,
    options jsonb NOT NULL,
    program text NOT NULL,
    role text NOT NULL DEFAULT current_user,
    client text NOT NULL DEFAULT coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'this machine'),
    migrations jsonb NOT NULL,
    schemas text[],
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at timestamptz,
    outcomes jsonb,
    error text
);

CREATE TABLE IF NOT EXISTS tenantry.run_line (
    run bigint NOT NULL,
    schema text NOT NULL,
    outcome text NOT NULL,
    attempts bigint NOT NULL,
    duration_ms bigint NOT NULL,
    error text,
    CONSTRAINT run_line_pkey PRIMARY KEY (run, schema)
);

-- Written in the transaction of the migration itself, so that it tells exactly what was done. Without a foreign key to
-- the run, whose row all workers would lock.
CREATE TABLE IF NOT EXISTS tenantry.run_step (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT run_step_pkey PRIMARY KEY,
    run bigint NOT NULL,
    schema text NOT NULL,
    version text NOT NULL,
    up boolean NOT NULL,
    checksum text NOT NULL
);

CREATE INDEX IF NOT EXISTS run_step_run_idx ON tenantry.run_step (run);
CREATE INDEX IF NOT EXISTS run_step_version_checksum_idx ON tenantry.run_step (version, checksum);

COMMENT ON SCHEMA tenantry IS 'What runs of tenantry over the fleet did: its own memory, safe to drop';
COMMENT ON COLUMN tenantry.run.schemas IS 'The tenants that were chosen; null for all';
COMMENT ON COLUMN tenantry.run.ended_at IS 'Null while it is under way, and for ever when it was killed';
COMMENT ON TABLE tenantry.run_line IS 'The schemas to which something happened, when the run has ended';
COMMENT ON TABLE tenantry.run_step IS 'The migrations that were applied or taken back';
