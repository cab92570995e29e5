//! A PostgreSQL of a test's own.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tenantry::testing::TestDatabase;

/// A server that may be stopped, or that has other settings than most. It is gone when this drops.
pub struct Server {
    script: Child,
    url: String,
    data: PathBuf,
}

impl Server {
    /// A server with these settings, and `fsync` on.
    pub fn start(settings: &[&str]) -> Self {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("script/with-postgres"))
            .arg("--durable")
            .args(settings.iter().flat_map(|setting| ["--option", setting]))
            .args(["sh", "-c", "echo $DATABASE_URL; exec cat"])
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(!url.is_empty(), "script/with-postgres started no server");
        let db = TestDatabase::on(&url);
        let data = db.text("SELECT current_setting('data_directory')").into();
        Self { script, url, data }
    }

    pub fn database(&self) -> TestDatabase {
        TestDatabase::on(&self.url)
    }

    /// As `pg_ctl stop -m immediate` does: all of its processes end at once, and nothing is written.
    pub fn stop_immediately(&self) {
        self.pg_ctl(&["stop", "-m", "immediate"]);
    }

    pub fn start_again(&self) {
        self.pg_ctl(&["start", "-l", "/dev/null"]);
    }

    /// As the user to whom the server belongs.
    fn pg_ctl(&self, args: &[&str]) {
        let bin = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("script/postgres-bin")).output().unwrap();
        let program = Path::new(String::from_utf8(bin.stdout).unwrap().trim()).join("pg_ctl");
        let folder = std::fs::metadata(&self.data).unwrap();
        let mut command = match std::fs::metadata("/proc/self").map(|own| own.uid()) {
            Ok(uid) if uid != folder.uid() => {
                let mut command = Command::new("setpriv");
                let (user, group) = (folder.uid().to_string(), folder.gid().to_string());
                command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]).arg(program);
                command
            }
            _ => Command::new(program),
        };
        let output = command
            .args(args)
            .arg("-D")
            .arg(&self.data)
            .env("LC_ALL", "C")
            .current_dir(self.data.parent().unwrap())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "pg_ctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends the command, and then the script stops the server.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
