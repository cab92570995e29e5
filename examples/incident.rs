//! The database of the incident, for `script/demo`.
//!
//! ```text
//! incident prepare          make an empty database the fleet of that night: 50 tenants at 0001
//! incident onboard SCHEMA   save step 1 of the onboarding for a tenant's owner, through the service
//! ```
//!
//! What the old release wrote is plain SQL here: it knew nothing of this crate, and set its own search_path.

use std::error::Error;

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    sql_query,
    sql_types::{Bool, Integer, Text, Uuid as SqlUuid},
};
use tenantry::{
    Config, SchemaName,
    directory::TenantDirectory,
    domain::{
        self, Registry,
        models::{NewTenant, NewUser, Tenant, User},
        onboarding::{self, BusinessInfo},
    },
    migrate::{Migrations, Run},
    pg::{self, scope},
};
use uuid::{Uuid, uuid};

const TENANTS: &str = "\
    acme_bakery alder_carpentry aurora_florist basalt_climbing birch_dental bluebird_travel brightside_yoga \
    cedar_books cobalt_cycles copper_kettle_cafe corner_pharmacy delta_plumbing driftwood_surf \
    eagle_eye_optics elm_street_cinema ember_pottery fairview_farm falcon_couriers fern_and_moss \
    garnet_jewelers gravity_gym harbor_seafood hazel_tutoring highland_wool iris_photography ivory_pianos \
    juniper_spa kestrel_drones kingfisher_canoes lantern_press larkspur_gardens lemon_tree_deli \
    maple_roofing meadow_vet_clinic moonlight_motel north_star_sailing oakwood_furniture olive_branch_legal \
    orchid_salon pebble_toys pine_valley_tours quarry_stoneworks quill_stationery raven_records \
    redwood_storage saffron_kitchen silver_lining_insurance thistle_brewery umber_tattoo willow_daycare";

/// The two businesses that no repair can place. The report names them, so they are the same in every run.
const DELETED: Uuid = uuid!("6f1b9a40-7c52-4d0e-9a53-1e8c2f7b6d04");
const NAMESAKE: Uuid = uuid!("c2d84e17-35f9-4b6a-8f21-90ab4ce7d5f3");

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["prepare"] => prepare(&mut connect()?),
        ["onboard", schema] => onboard(&mut connect()?, schema),
        _ => Err("usage: incident prepare | incident onboard SCHEMA".into()),
    }
}

fn connect() -> Result<PgConnection, tenantry::Error> {
    pg::connect(&Config::from_env()?)
}

fn prepare(conn: &mut PgConnection) -> Result<(), Box<dyn Error>> {
    if Registry.list(conn).is_ok() {
        return Err("this database has a registry of tenants already, and an empty one is wanted".into());
    }
    let at_0001 = domain::migrations()?.with_tenant_up_to("0001")?;
    Run::new(&at_0001).public(conn)?;
    let (mut tenants, mut profiles) = (0, 0);
    for schema in TENANTS.split_whitespace() {
        tenants += 1;
        let tenant = register(conn, &at_0001, schema)?;
        profiles += live(conn, &tenant, tenants)?;
    }
    println!("{tenants} tenants at 0001, with {profiles} profiles");
    Ok(())
}

fn onboard(conn: &mut PgConnection, schema: &str) -> Result<(), Box<dyn Error>> {
    let schema: SchemaName = schema.parse()?;
    let tenants = Tenant::all(conn)?;
    let tenant = tenants.iter().find(|tenant| tenant.schema_name == schema.as_str()).ok_or("no such tenant")?;
    let info = BusinessInfo::new(tenant.owner_id.ok_or("a tenant without an owner")?, &tenant.name);
    let saved = scope::transaction(conn, &schema, |tenant| onboarding::save_business_info(tenant, &info))?;
    println!("{schema}: saved {}, its details and its owner's profile", saved.business.name);
    Ok(())
}

fn register(conn: &mut PgConnection, migrations: &Migrations, schema: &str) -> Result<Tenant, Box<dyn Error>> {
    let owner = user(conn)?;
    let schema_name = Some(schema.parse()?);
    let request = NewTenant { owner_id: Some(owner.id), schema_name, ..NewTenant::new(Uuid::new_v4(), title(schema)) };
    Ok(onboarding::register_tenant(conn, migrations, &request)?)
}

/// `Acme Bakery` of `acme_bakery`.
fn title(schema: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    schema.split('_').map(word).collect::<Vec<_>>().join(" ")
}

fn user(conn: &mut PgConnection) -> QueryResult<User> {
    let id = Uuid::new_v4();
    NewUser { id, email: format!("{id}@example.com"), first_name: String::new(), last_name: String::new() }.insert(conn)
}

/// What the old release, and the people around it, did to a tenant. Returns how many profiles it has.
fn live(conn: &mut PgConnection, tenant: &Tenant, number: i32) -> QueryResult<i32> {
    let business = OldBusiness::of(tenant, number);
    match tenant.schema_name.as_str() {
        // These two sign up in the demo.
        "acme_bakery" => Ok(0),
        "birch_dental" => {
            add_updated_at_as_django_does(conn, tenant)?;
            Ok(0)
        }
        "cobalt_cycles" | "ember_pottery" | "harbor_seafood" | "lantern_press" | "orchid_salon" | "thistle_brewery" => {
            misplace(conn, tenant, &business)
        }
        "pebble_toys" => {
            let profiles = misplace(conn, tenant, &OldBusiness { id: DELETED, ..business })?;
            tidy_public_up(conn, DELETED)?;
            Ok(profiles)
        }
        "quill_stationery" => {
            let profiles = onboard_in_tenant(conn, tenant, &business)?;
            let owner = user(conn)?.id;
            let namesake = OldBusiness { id: NAMESAKE, name: "Quill Calligraphy".into(), owner, ..business };
            Ok(profiles + misplace(conn, tenant, &namesake)?)
        }
        "driftwood_surf" | "gravity_gym" | "ivory_pianos" | "maple_roofing" | "redwood_storage" => {
            let profiles = onboard_in_tenant(conn, tenant, &business)?;
            add_updated_at_by_hand(conn, tenant)?;
            Ok(profiles)
        }
        _ => onboard_in_tenant(conn, tenant, &business),
    }
}

/// A business as the old release saved it, and those who work there.
struct OldBusiness {
    id: Uuid,
    name: String,
    business_num: String,
    owner: Uuid,
    staff: i32,
    /// Of the year 2025.
    day: i32,
}

impl OldBusiness {
    fn of(tenant: &Tenant, number: i32) -> Self {
        Self {
            id: Uuid::new_v4(),
            name: tenant.name.clone(),
            // A prime shares no factor with a million, so that no number comes twice.
            business_num: format!("{:06}", number * 7_919 % 1_000_000),
            owner: tenant.owner_id.expect("a tenant is registered with its owner"),
            staff: number % 4,
            day: number,
        }
    }

    fn save(&self, conn: &mut PgConnection) -> QueryResult<usize> {
        sql_query(
            "WITH business AS (
                 INSERT INTO business_business (id, name, business_num, created_at, updated_at)
                 VALUES ($1, $2, $3, date '2025-01-01' + $4, date '2025-01-01' + $4) RETURNING id)
             INSERT INTO business_business_details (business_id, business_type, legal_structure)
             SELECT id, 'services', 'LLC' FROM business",
        )
        .bind::<SqlUuid, _>(self.id)
        .bind::<Text, _>(&self.name)
        .bind::<Text, _>(&self.business_num)
        .bind::<Integer, _>(self.day)
        .execute(conn)
    }

    /// Saves a profile for the owner and for each of the staff, and returns how many that are.
    fn save_profiles(&self, conn: &mut PgConnection, tenant: &Tenant) -> QueryResult<i32> {
        self.save_profile(conn, tenant, self.owner)?;
        for _ in 0..self.staff {
            let employee = user(conn)?;
            self.save_profile(conn, tenant, employee.id)?;
        }
        Ok(1 + self.staff)
    }

    fn save_profile(&self, conn: &mut PgConnection, tenant: &Tenant, user: Uuid) -> QueryResult<usize> {
        sql_query(
            "INSERT INTO users_userprofile
                 (user_id, business_id, tenant_id, is_business_owner, created_at, modified_at)
             VALUES ($1, $2, $3, $4, date '2025-01-01' + $5, date '2025-01-08' + $5)",
        )
        .bind::<SqlUuid, _>(user)
        .bind::<SqlUuid, _>(self.id)
        .bind::<SqlUuid, _>(tenant.id)
        .bind::<Bool, _>(user == self.owner)
        .bind::<Integer, _>(self.day)
        .execute(conn)
    }
}

/// As the old release entered a tenant: for the session, and with `public` behind it.
fn enter(conn: &mut PgConnection, schema: &str) -> QueryResult<()> {
    conn.batch_execute(&format!("SET search_path = {schema}, public"))
}

/// Step 1 where everything went into the tenant's schema.
fn onboard_in_tenant(conn: &mut PgConnection, tenant: &Tenant, business: &OldBusiness) -> QueryResult<i32> {
    enter(conn, &tenant.schema_name)?;
    business.save(conn)?;
    business.save_profiles(conn, tenant)
}

/// Step 1 as in the incident, the tenant entered too late, in a database whose foreign key was switched off so that
/// people could sign up, and put back without a look at what had been written meanwhile.
fn misplace(conn: &mut PgConnection, tenant: &Tenant, business: &OldBusiness) -> QueryResult<i32> {
    enter(conn, &tenant.schema_name)?;
    conn.batch_execute("ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk")?;
    enter(conn, "public")?;
    business.save(conn)?;
    enter(conn, &tenant.schema_name)?;
    let profiles = business.save_profiles(conn, tenant)?;
    conn.batch_execute(
        "ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id)
             REFERENCES business_business (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",
    )?;
    Ok(profiles)
}

/// Somebody saw a business in `public`, where none belongs, and removed it.
fn tidy_public_up(conn: &mut PgConnection, business: Uuid) -> QueryResult<usize> {
    sql_query("DELETE FROM public.business_business WHERE id = $1").bind::<SqlUuid, _>(business).execute(conn)
}

/// The column that the incident lacked, nullable and with nulls.
fn add_updated_at_by_hand(conn: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    enter(conn, &tenant.schema_name)?;
    conn.batch_execute("ALTER TABLE users_userprofile ADD COLUMN updated_at timestamptz")
}

/// The same column by Django's `AddField` with `preserve_default=False`: NOT NULL, and no default is left.
fn add_updated_at_as_django_does(conn: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    enter(conn, &tenant.schema_name)?;
    conn.batch_execute(
        "ALTER TABLE users_userprofile ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
         ALTER TABLE users_userprofile ALTER COLUMN updated_at DROP DEFAULT",
    )
}
