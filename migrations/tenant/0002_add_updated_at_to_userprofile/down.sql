ALTER TABLE users_userprofile DROP COLUMN updated_at;
