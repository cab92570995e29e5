//! What a repair should do, told with sets, and as simply as it can be told.

use std::collections::BTreeSet;

use super::world::{Key, Reference, Row, World};

/// A row of `public`, by its place among the world's rows.
type Id = usize;

/// What should have happened to one tenant.
#[derive(Debug, Default)]
pub struct Expected {
    /// The rows of `public` that it has now.
    pub copied: BTreeSet<Id>,
    /// Those of them that are there under another number.
    pub renumbered: BTreeSet<Id>,
    /// The rows that are its own or somebody's and could not be had.
    pub left: BTreeSet<Id>,
    /// What its rows still refer to in vain: table, columns and parent, and the values.
    pub orphans: BTreeSet<(usize, Vec<String>, usize, Vec<String>)>,
}

pub fn expected(world: &World) -> Vec<Expected> {
    let tenants: Vec<Tenant<'_>> = (1..4).map(|schema| Tenant { world, schema }).collect();
    let claims: Vec<BTreeSet<Id>> = tenants.iter().map(|tenant| tenant.belonging(&BTreeSet::new())).collect();
    let claimants = |id: &Id| {
        let counts = |(tenant, claimed): &(&Tenant<'_>, &BTreeSet<Id>)| claimed.contains(id) || tenant.holds(*id);
        tenants.iter().zip(&claims).filter(counts).count()
    };
    let contested: BTreeSet<Id> = claims.iter().flatten().filter(|id| claimants(id) > 1).copied().collect();
    tenants.iter().map(|tenant| tenant.repaired(&contested)).collect()
}

/// What the tenant has under the keys of a row of `public`.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Verdict {
    Free,
    Renumbered,
    There,
    Different { number: bool },
}

struct Tenant<'w> {
    world: &'w World,
    schema: usize,
}

impl Tenant<'_> {
    fn repaired(&self, contested: &BTreeSet<Id>) -> Expected {
        let mut expected = Expected::default();
        // What cannot be had takes away what needs it.
        let mut excluded = BTreeSet::new();
        loop {
            let barred = contested | &excluded;
            let own = self.belonging(&barred);
            let is_out = |id: &Id| excluded.contains(id) || own.contains(id) && contested.contains(id);
            let takes = |id: &Id| self.takes(*id) && !is_out(id);
            let mut copied: BTreeSet<Id> = own.iter().copied().filter(takes).collect();
            self.grow(&mut copied, |one| self.needs(one).filter(takes).collect());
            let bad: BTreeSet<Id> = copied.iter().copied().filter(|id| !self.holds_together(*id, &copied)).collect();
            expected.left.extend(own.iter().filter(|id| is_out(id)).chain(&bad));
            if bad.is_empty() {
                expected.renumbered =
                    copied.iter().copied().filter(|id| self.verdict(*id) == Verdict::Renumbered).collect();
                expected.orphans = self.orphans(|row| self.has(row) || copied.iter().any(|id| self.row(*id) == row));
                expected.copied = copied;
                return expected;
            }
            excluded.extend(bad);
        }
    }

    /// The rows of `public` to which rows of the tenant refer in vain, those that refer to them, and so on; not
    /// beyond those that are barred, which are among them.
    fn belonging(&self, barred: &BTreeSet<Id>) -> BTreeSet<Id> {
        let orphans = self.orphans(|row| self.has(row));
        let is_missed = |row: &Row| {
            orphans.iter().any(|(child, columns, parent, key)| {
                let reference =
                    self.references(*child).find(|r| (&r.columns, r.parent) == (columns, *parent)).expect("its own");
                row.table == *parent && self.world.values(row, &self.world.target(reference)).as_ref() == Some(key)
            })
        };
        let mut own: BTreeSet<Id> = self.public().filter(|id| is_missed(self.row(*id))).collect();
        self.grow(&mut own, |one| match barred.contains(&one) || !self.takes(one) {
            true => vec![],
            false => self.public().filter(|id| self.refers(self.row(*id), self.row(one))).collect(),
        });
        own
    }

    /// The rows of `public` to which a row refers.
    fn needs(&self, one: Id) -> impl Iterator<Item = Id> {
        self.public().filter(move |id| self.refers(self.row(one), self.row(*id)))
    }

    /// Whether all that a row refers to will be there, and is what it means.
    fn holds_together(&self, one: Id, copied: &BTreeSet<Id>) -> bool {
        let row = self.row(one);
        self.references(row.table).all(|reference| {
            let Some(key) = self.world.values(row, &reference.columns) else { return true };
            let is_meant = |other: &Row| {
                other.table == reference.parent
                    && self.world.values(other, &self.world.target(reference)).as_ref() == Some(&key)
            };
            let mistaken = |id: Id| self.verdict(id) == Verdict::Different { number: true };
            let meant: Vec<Id> = self.public().filter(|id| is_meant(self.row(*id))).collect();
            let is_there = self.rows(self.schema).any(is_meant);
            !meant.iter().any(|id| mistaken(*id)) && (is_there || meant.iter().any(|id| copied.contains(id)))
        })
    }

    fn takes(&self, id: Id) -> bool {
        matches!(self.verdict(id), Verdict::Free | Verdict::Renumbered)
    }

    fn verdict(&self, id: Id) -> Verdict {
        let row = self.row(id);
        let table = &self.world.tables[row.table];
        let there = |columns: &[String]| {
            let key = self.world.values(row, columns);
            self.rows(self.schema).find(|other| other.table == row.table && self.world.values(other, columns) == key)
        };
        let same = |other: &Row| other.values == row.values;
        let mut verdict = Verdict::Free;
        if table.key == Key::None {
            // As many as the tenant has are there.
            let have = self.rows(self.schema).filter(|other| other.table == row.table && same(other)).count();
            let before = self.public().filter(|other| *other < id && *self.row(*other) == *row).count();
            if before < have {
                return Verdict::There;
            }
        } else if let Some(other) = there(&self.world.key(row.table)) {
            let number = matches!(table.key, Key::Number { .. });
            let referred_to = (0..self.world.tables.len())
                .flat_map(|child| self.references(child))
                .any(|reference| reference.parent == row.table && !reference.to_code);
            verdict = match same(other) {
                true => Verdict::There,
                false if number && table.code && !referred_to => Verdict::Renumbered,
                false => Verdict::Different { number },
            };
        }
        match verdict {
            Verdict::Free | Verdict::Renumbered if table.code => match there(&["code".into()]) {
                Some(other) if same(other) => Verdict::There,
                Some(_) => Verdict::Different { number: false },
                None => verdict,
            },
            verdict => verdict,
        }
    }

    /// Whether the tenant has this very row: a number alone does not say so.
    fn holds(&self, id: Id) -> bool {
        let (row, key) = (self.row(id), self.world.key(self.row(id).table));
        let is_uuid = self.world.columns(row.table).iter().any(|(name, kind)| key.contains(name) && *kind == "uuid");
        let same = |other: &Row| {
            other.table == row.table
                && self.world.values(other, &key) == self.world.values(row, &key)
                && (is_uuid || other.values == row.values)
        };
        !key.is_empty() && self.rows(self.schema).any(same)
    }

    fn orphans(&self, has: impl Fn(&Row) -> bool) -> BTreeSet<(usize, Vec<String>, usize, Vec<String>)> {
        let mut orphans = BTreeSet::new();
        for row in self.rows(self.schema) {
            for reference in self.references(row.table) {
                let Some(key) = self.world.values(row, &reference.columns) else { continue };
                let is_meant = |other: &&Row| {
                    other.table == reference.parent
                        && self.world.values(other, &self.world.target(reference)).as_ref() == Some(&key)
                };
                if !self.world.rows.iter().filter(is_meant).any(&has) {
                    orphans.insert((row.table, reference.columns.clone(), reference.parent, key));
                }
            }
        }
        orphans
    }

    fn refers(&self, child: &Row, parent: &Row) -> bool {
        self.references(child.table).any(|reference| {
            let key = self.world.values(child, &reference.columns);
            reference.parent == parent.table
                && key.is_some()
                && key == self.world.values(parent, &self.world.target(reference))
        })
    }

    fn references(&self, table: usize) -> impl Iterator<Item = &Reference> {
        self.world.references(table, self.schema)
    }

    /// Adds to a set what follows from its members, until nothing follows.
    fn grow(&self, set: &mut BTreeSet<Id>, follow: impl Fn(Id) -> Vec<Id>) {
        let mut open: Vec<Id> = set.iter().copied().collect();
        while let Some(one) = open.pop() {
            open.extend(follow(one).into_iter().filter(|id| set.insert(*id)));
        }
    }

    fn has(&self, row: &Row) -> bool {
        row.schema == self.schema
    }

    fn rows(&self, schema: usize) -> impl Iterator<Item = &Row> {
        self.world.rows.iter().filter(move |row| row.schema == schema)
    }

    fn public(&self) -> impl Iterator<Item = Id> {
        self.world.rows.iter().enumerate().filter(|(_, row)| row.schema == 0).map(|(id, _)| id)
    }

    fn row(&self, id: Id) -> &Row {
        &self.world.rows[id]
    }
}
