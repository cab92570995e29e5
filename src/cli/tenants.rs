//! Which tenants a command works on.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

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
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            let before = globs.len();
            globs.extend(names.filter(|name| !name.is_empty()).map(Glob::new));
            anyhow::ensure!(globs.len() > before, "{} lists no tenants", path.display());
        }
        Ok(globs)
    }
}
