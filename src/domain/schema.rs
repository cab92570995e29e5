// @generated automatically by Diesel CLI.

diesel::table! {
    /// The businesses of one tenant
    business_business (id) {
        id -> Uuid,
        #[max_length = 255]
        name -> Varchar,
        /// Six random digits, unique within the tenant
        #[max_length = 6]
        business_num -> Nullable<Varchar>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// What is known of a business beyond its name
    business_business_details (business_id) {
        business_id -> Uuid,
        #[max_length = 50]
        business_type -> Nullable<Varchar>,
        business_subtype_selections -> Jsonb,
        #[max_length = 50]
        legal_structure -> Varchar,
        /// ISO 3166 alpha-2
        #[max_length = 2]
        country -> Varchar,
        date_founded -> Nullable<Date>,
    }
}

diesel::table! {
    /// The registry: every tenant, and the schema that holds its rows
    public.custom_auth_tenant (id) {
        id -> Uuid,
        /// The schema of the tenant, in the case in which it was created
        #[max_length = 63]
        schema_name -> Varchar,
        #[max_length = 100]
        name -> Varchar,
        owner_id -> Nullable<Uuid>,
        created_on -> Timestamptz,
        /// False while the tenant is suspended; its schema is migrated all the same
        is_active -> Bool,
        /// How far the making of the schema has come
        #[max_length = 20]
        setup_status -> Varchar,
        setup_error_message -> Nullable<Text>,
        last_setup_attempt -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Everybody who can sign in, of whichever tenant
    public.custom_auth_user (id) {
        id -> Uuid,
        #[max_length = 254]
        email -> Varchar,
        #[max_length = 100]
        first_name -> Varchar,
        #[max_length = 100]
        last_name -> Varchar,
        is_active -> Bool,
        /// Set when the business information was saved
        is_onboarded -> Bool,
        date_joined -> Timestamptz,
    }
}

diesel::table! {
    /// A user of this tenant
    users_userprofile (id) {
        id -> Int8,
        /// public.custom_auth_user.id, checked by the service
        user_id -> Uuid,
        business_id -> Nullable<Uuid>,
        /// public.custom_auth_tenant.id of the tenant that owns this schema
        tenant_id -> Nullable<Uuid>,
        #[max_length = 200]
        occupation -> Nullable<Varchar>,
        #[max_length = 200]
        street -> Nullable<Varchar>,
        #[max_length = 200]
        city -> Nullable<Varchar>,
        #[max_length = 200]
        state -> Nullable<Varchar>,
        #[max_length = 200]
        postcode -> Nullable<Varchar>,
        #[max_length = 2]
        country -> Varchar,
        #[max_length = 200]
        phone_number -> Nullable<Varchar>,
        is_business_owner -> Bool,
        #[max_length = 255]
        shopify_access_token -> Nullable<Varchar>,
        /// The schema that this row was written for
        #[max_length = 63]
        schema_name -> Nullable<Varchar>,
        metadata -> Jsonb,
        created_at -> Timestamptz,
        modified_at -> Timestamptz,
        /// When the row was last written; always set together with modified_at
        updated_at -> Timestamptz,
    }
}

diesel::joinable!(business_business_details -> business_business (business_id));
diesel::joinable!(custom_auth_tenant -> custom_auth_user (owner_id));
diesel::joinable!(users_userprofile -> business_business (business_id));

diesel::allow_tables_to_appear_in_same_query!(
    business_business,
    business_business_details,
    custom_auth_tenant,
    custom_auth_user,
    users_userprofile,
);
