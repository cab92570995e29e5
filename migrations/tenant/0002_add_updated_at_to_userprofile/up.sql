-- Some databases got the column by hand, nullable and with nulls, so each step stands on its own.
-- A row written earlier in this transaction has a deferred check waiting, and no table with one can be altered.
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE users_userprofile ADD COLUMN IF NOT EXISTS updated_at timestamptz;
ALTER TABLE users_userprofile ALTER COLUMN updated_at SET DEFAULT now();
UPDATE users_userprofile SET updated_at = coalesce(modified_at, created_at, now()) WHERE updated_at IS NULL;
-- tenantry:allow adding-not-nullable-field: a tenant has few profiles, and the UPDATE has just read them all.
ALTER TABLE users_userprofile ALTER COLUMN updated_at SET NOT NULL;
SET CONSTRAINTS ALL DEFERRED;
COMMENT ON COLUMN users_userprofile.updated_at IS 'When the row was last written; always set together with modified_at';
