//! Which tenants a command works on.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    Fleet,
    directory::{Glob, Only, SchemaPattern, Selected, TenantDirectory},
};

#[derive(clap::Args)]
#[command(next_help_heading = "Which tenants")]
pub(super) struct Tenants {
    /// Take the schemas that match this pattern (* and ? are wild) for the tenants, instead of the registry's
    #[arg(long, value_name = "PATTERN", global = true)]
    schemas: Option<String>,
    /// Only these tenants, by their schemas (* and ? are wild), in this order; may be given several times
    #[arg(long, value_name = "SCHEMA", global = true)]
    tenant: Vec<Glob>,
    /// Only the tenants that this file lists: a schema or a pattern on each line, # begins a comment
    #[arg(long, value_name = "FILE", global = true)]
    tenants_from: Option<PathBuf>,
    /// But not these tenants; may be given several times
    #[arg(long, value_name = "SCHEMA", global = true)]
    except: Vec<Glob>,
    /// Only active tenants, or only suspended ones
    #[arg(long, value_name = "STATE", global = true, default_value = "all", hide_default_value = true)]
    state: Only,
}

impl Tenants {
    /// The fleet with the tenants that were asked for, and the directory of all of them.
    pub(super) fn with<T>(
        self,
        fleet: Fleet<'_>,
        work: impl FnOnce(Fleet<'_>, &dyn TenantDirectory) -> Result<T>,
    ) -> Result<T> {
        let globs = self.globs()?;
        let pattern = self.schemas.as_deref().map(SchemaPattern::new);
        let directory = pattern.as_ref().map_or(fleet.directory, |pattern| pattern);
        let selected = Selected { directory, globs, except: self.except, only: self.state };
        work(Fleet { directory: &selected, ..fleet }, directory)
    }

    /// Whether any of these options was given.
    pub(super) fn are_chosen(&self) -> bool {
        self.schemas.is_some()
            || self.tenants_from.is_some()
            || self.state != Only::All
            || !(self.tenant.is_empty() && self.except.is_empty())
    }

    fn globs(&self) -> Result<Vec<Glob>> {
        let mut globs = self.tenant.clone();
        if let Some(path) = &self.tenants_from {
            globs.extend(listed(path).with_context(|| format!("cannot read {}", path.display()))??);
        }
        Ok(globs)
    }
}

/// The largest file that is read, in bytes: a million of the longest names.
const MOST: u64 = 64 << 20;

/// The longest line that is taken for a name or a pattern, in bytes.
const LONGEST: usize = 255;

/// The names and patterns in a file, each once, or what makes it no list of tenants.
fn listed(path: &Path) -> io::Result<Result<Vec<Glob>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    Ok(parsed(&bytes).map_err(|reason| anyhow!("{} {reason}", path.display())))
}

fn parsed(bytes: &[u8]) -> Result<Vec<Glob>, String> {
    if bytes.len() as u64 > MOST {
        return Err(format!("is no list of tenants: it has more than {} MiB", MOST >> 20));
    }
    if bytes.contains(&0) {
        return Err("is no list of tenants: it has a NUL byte".into());
    }
    let text = str::from_utf8(bytes).map_err(|_| "is no list of tenants: it is not in UTF-8".to_owned())?;
    let (mut globs, mut seen) = (Vec::new(), HashSet::new());
    for (at, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.len() > LONGEST {
            return Err(format!("is no list of tenants: line {} is longer than any name", at + 1));
        }
        if !name.is_empty() && seen.insert(name) {
            globs.push(Glob::new(name));
        }
    }
    if globs.is_empty() { Err("lists no tenants".into()) } else { Ok(globs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_begin_with_a_mark_and_repeat_itself() {
        let names =
            |bytes: &[u8]| parsed(bytes).map(|globs| globs.iter().map(|glob| glob.as_str().to_owned()).collect());
        let expected: Result<Vec<String>, String> = Ok(vec!["acme".into(), "glo*".into()]);
        assert_eq!(names(b"\xef\xbb\xbfacme\r\n# x\n glo* # y\nacme\n"), expected);
    }

    #[test]
    fn what_is_no_list_is_refused_in_a_few_words() {
        let long = vec![b'a'; 10 << 20];
        for bytes in [&b"acme\n\0"[..], b"\xff\xfea\0", b"\xff", &long, &vec![b'\n'; MOST as usize + 1], b"# none\n"] {
            assert!(parsed(bytes).unwrap_err().len() < 80);
        }
    }
}
