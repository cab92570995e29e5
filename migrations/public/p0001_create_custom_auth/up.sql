CREATE TABLE custom_auth_user (
    id uuid CONSTRAINT custom_auth_user_pkey PRIMARY KEY,
    email varchar(254) NOT NULL CONSTRAINT custom_auth_user_email_key UNIQUE,
    first_name varchar(100) NOT NULL DEFAULT '',
    last_name varchar(100) NOT NULL DEFAULT '',
    is_active boolean NOT NULL DEFAULT true,
    is_onboarded boolean NOT NULL DEFAULT false,
    date_joined timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE custom_auth_user IS 'Everybody who can sign in, of whichever tenant';
COMMENT ON COLUMN custom_auth_user.is_onboarded IS 'Set when the business information was saved';

CREATE TABLE custom_auth_tenant (
    id uuid CONSTRAINT custom_auth_tenant_pkey PRIMARY KEY,
    schema_name varchar(63) NOT NULL CONSTRAINT custom_auth_tenant_schema_name_key UNIQUE,
    name varchar(100) NOT NULL,
    owner_id uuid CONSTRAINT custom_auth_tenant_owner_id_key UNIQUE
        CONSTRAINT custom_auth_tenant_owner_id_fk REFERENCES custom_auth_user (id) ON DELETE SET NULL,
    created_on timestamptz NOT NULL DEFAULT now(),
    is_active boolean NOT NULL DEFAULT true,
    setup_status varchar(20) NOT NULL DEFAULT 'not_started'
        CONSTRAINT custom_auth_tenant_setup_status_check
        CHECK (setup_status IN ('not_started', 'pending', 'in_progress', 'complete', 'error')),
    setup_error_message text,
    last_setup_attempt timestamptz
);

COMMENT ON TABLE custom_auth_tenant IS 'The registry: every tenant, and the schema that holds its rows';
COMMENT ON COLUMN custom_auth_tenant.schema_name IS 'The schema of the tenant, in the case in which it was created';
COMMENT ON COLUMN custom_auth_tenant.is_active IS 'False while the tenant is suspended; its schema is migrated all the same';
COMMENT ON COLUMN custom_auth_tenant.setup_status IS 'How far the making of the schema has come';
