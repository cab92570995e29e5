//! PgBouncer between a test and its database.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use tenantry::{Config, testing::TestDatabase};

/// How many connections to the server it has.
const SERVERS: usize = 4;

/// A PgBouncer that is stopped when this drops.
pub struct PgBouncer {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl PgBouncer {
    /// Starts one in front of the database's server: `transaction` or `session`, with more lines for its settings.
    pub fn start(db: &TestDatabase, mode: &str, settings: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let ini = folder.join("pgbouncer.ini");
            let text = format!(
                "[databases]\n* = {}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = {mode}\ndefault_pool_size = {SERVERS}\nmax_client_conn = 100\n{}\n",
                server(db),
                settings.join("\n")
            );
            fs::write(&ini, text).unwrap();
            let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
            let mut command = Command::new("pgbouncer");
            command.arg("--quiet").env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null());
            if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
                // It refuses to run as root.
                command.args(["--user", "nobody"]);
            }
            let mut child = command
                .arg(&ini)
                .spawn()
                .unwrap_or_else(|error| panic!("pgbouncer cannot be started: {error}; script/bootstrap installs it"));
            let started = Instant::now();
            // It ends where another program has taken the port.
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, folder, port };
                }
                assert!(started.elapsed() < Duration::from_secs(20), "pgbouncer does not listen");
                thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("pgbouncer ends as soon as it is started");
    }

    /// Where a client finds the database.
    pub fn url(&self, db: &TestDatabase) -> String {
        format!("postgres://anyone@127.0.0.1:{}/{}", self.port, db.text("SELECT current_database()"))
    }

    /// The settings that lead through it.
    pub fn config(&self, db: &TestDatabase) -> Config {
        Config::new(self.url(db).parse().unwrap())
    }

    /// A client that knows nothing of poolers, and sets nothing.
    pub fn connect(&self, db: &TestDatabase) -> PgConnection {
        PgConnection::establish(&self.url(db)).unwrap()
    }

    /// Has it open all of its connections to the server.
    pub fn open_all(&self, db: &TestDatabase) {
        self.lend_all(db).iter_mut().for_each(|client| client.batch_execute("COMMIT").unwrap());
    }

    /// Clients that have all of its connections to the server, one each, in a transaction.
    pub fn lend_all(&self, db: &TestDatabase) -> Vec<PgConnection> {
        let mut clients: Vec<PgConnection> = (0..SERVERS).map(|_| self.connect(db)).collect();
        clients.iter_mut().for_each(|client| client.batch_execute("BEGIN").unwrap());
        clients
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// How PgBouncer connects to the server, with the password.
fn server(db: &TestDatabase) -> String {
    let parts = || {
        let (role, rest) = db.url().split_once("://")?.1.split_once('@')?;
        let (user, password) = role.split_once(':')?;
        let (host, port) = rest.split_once('/')?.0.rsplit_once(':')?;
        Some(format!("host={host} port={port} user={user} password={password}"))
    };
    parts().expect("DATABASE_URL as postgres://user:password@host:port/database")
}
