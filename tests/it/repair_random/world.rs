//! Tables with foreign keys between them, and rows of them in `public` and in three tenants.

/// Where rows can be; the first is `public`.
pub const SCHEMAS: [&str; 4] = ["public", "acme", "globex", "hooli"];

#[derive(Debug, Clone)]
pub struct World {
    pub tables: Vec<Table>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: &'static str,
    pub key: Key,
    /// Whether it has a unique column beside its key.
    pub code: bool,
    pub partitioned: bool,
    pub references: Vec<Reference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    None,
    Number {
        always: bool,
    },
    Uuid,
    Text,
    Pair,
    /// The columns of its first reference.
    Borrowed,
}

#[derive(Debug, Clone)]
pub struct Reference {
    pub columns: Vec<String>,
    pub parent: usize,
    /// Whether it leads to the unique column and not to the key.
    pub to_code: bool,
    pub required: bool,
    pub deferrable: bool,
    pub on_delete: &'static str,
    /// How each of the schemas has it.
    pub states: [State; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Valid,
    NotValid,
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub schema: usize,
    pub table: usize,
    /// One for each of the table's columns that are written, in their order.
    pub values: Vec<Option<String>>,
}

impl World {
    /// The columns of a table's primary key.
    pub fn key(&self, table: usize) -> Vec<String> {
        match self.tables[table].key {
            Key::None => vec![],
            Key::Number { .. } | Key::Uuid => vec!["id".into()],
            Key::Text => vec!["The key".into()],
            Key::Pair => vec!["region".into(), "No".into()],
            Key::Borrowed => self.tables[table].references[0].columns.clone(),
        }
    }

    fn key_types(&self, table: usize) -> Vec<&'static str> {
        match self.tables[table].key {
            Key::None => vec![],
            Key::Number { .. } => vec!["bigint"],
            Key::Uuid => vec!["uuid"],
            Key::Text => vec!["text"],
            Key::Pair => vec!["text", "int"],
            Key::Borrowed => self.types_of(&self.tables[table].references[0]),
        }
    }

    /// The columns that a reference leads to.
    pub fn target(&self, reference: &Reference) -> Vec<String> {
        if reference.to_code { vec!["code".into()] } else { self.key(reference.parent) }
    }

    fn types_of(&self, reference: &Reference) -> Vec<&'static str> {
        if reference.to_code { vec!["text"] } else { self.key_types(reference.parent) }
    }

    /// The columns that are written, with their types.
    pub fn columns(&self, table: usize) -> Vec<(String, &'static str)> {
        let Table { key, code, references, .. } = &self.tables[table];
        let mut columns: Vec<_> = self.key(table).into_iter().zip(self.key_types(table)).collect();
        if *code {
            columns.push(("code".into(), "text"));
        }
        columns.extend([("note".into(), "text"), ("at".into(), "timestamptz")]);
        for reference in &references[usize::from(*key == Key::Borrowed)..] {
            columns.extend(reference.columns.iter().cloned().zip(self.types_of(reference)));
        }
        columns
    }

    /// A row's values in these columns; none where one of them is null.
    pub fn values(&self, row: &Row, columns: &[String]) -> Option<Vec<String>> {
        let all = self.columns(row.table);
        let value = |name: &String| row.values[all.iter().position(|(known, _)| known == name)?].clone();
        columns.iter().map(value).collect()
    }

    /// The references of a table, as far as one schema or `public` has them.
    pub fn references(&self, table: usize, schema: usize) -> impl Iterator<Item = &Reference> {
        let is_there = move |r: &&Reference| r.states[0] != State::Missing || r.states[schema] != State::Missing;
        self.tables[table].references.iter().filter(is_there)
    }

    /// The statements that make the tables and plant the rows, whatever the foreign keys say.
    pub fn sql(&self) -> String {
        let mut sql = String::from("SET session_replication_role = replica;\n");
        for (schema, name) in SCHEMAS.iter().enumerate() {
            sql += &format!("SET search_path = {name};\n");
            (0..self.tables.len()).for_each(|table| sql += &self.create(table));
            for (table, Table { name, references, .. }) in self.tables.iter().enumerate() {
                for (at, reference) in references.iter().enumerate() {
                    let not_valid = match reference.states[schema] {
                        State::Valid => "",
                        State::NotValid => " NOT VALID",
                        State::Missing => continue,
                    };
                    let constraint = format!("{table} to {at}");
                    sql += &format!("{}{not_valid};\n", self.foreign_key(name, &constraint, reference));
                }
            }
            self.rows.iter().filter(|row| row.schema == schema).for_each(|row| sql += &self.insert(row));
            for (table, Table { name, key, .. }) in self.tables.iter().enumerate() {
                if let Key::Number { .. } = key
                    && self.rows.iter().any(|row| (row.schema, row.table) == (schema, table))
                {
                    let name = identifier(name);
                    sql += &format!(
                        "SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {name};\n",
                        literal(&name)
                    );
                }
            }
        }
        sql + "RESET session_replication_role; RESET search_path;"
    }

    fn create(&self, table: usize) -> String {
        let Table { name, key, code, partitioned, references } = &self.tables[table];
        let required = |name: &String| references.iter().any(|r| r.required && r.columns.contains(name));
        let column = |(name, kind): (String, &str)| {
            let more = match key {
                Key::Number { always: true } if name == "id" => " GENERATED ALWAYS AS IDENTITY",
                Key::Number { always: false } if name == "id" => " GENERATED BY DEFAULT AS IDENTITY",
                _ if required(&name) => " NOT NULL",
                _ => "",
            };
            format!("{} {kind}{more}", identifier(&name))
        };
        let mut parts: Vec<String> = self.columns(table).into_iter().map(column).collect();
        parts.insert(parts.len() / 2, "loud text GENERATED ALWAYS AS (upper(note)) STORED".into());
        if *key != Key::None {
            parts.push(format!("PRIMARY KEY ({})", list(&self.key(table))));
        }
        if *code {
            parts.push("UNIQUE (code)".into());
        }
        let name = identifier(name);
        match partitioned {
            false => format!("CREATE TABLE {name} ({});\n", parts.join(", ")),
            true => {
                let part = |at: usize| {
                    let part = identifier(&format!("part {at} of {table}"));
                    format!("CREATE TABLE {part} PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER {at});\n")
                };
                let key = list(&self.key(table));
                format!("CREATE TABLE {name} ({}) PARTITION BY HASH ({key});\n", parts.join(", ")) + &part(0) + &part(1)
            }
        }
    }

    /// The statement that adds a foreign key to a table of the path's schema.
    pub fn foreign_key(&self, child: &str, name: &str, reference: &Reference) -> String {
        format!(
            "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {}{}",
            identifier(child),
            identifier(name),
            list(&reference.columns),
            identifier(self.tables[reference.parent].name),
            list(&self.target(reference)),
            reference.on_delete,
            if reference.deferrable { " DEFERRABLE INITIALLY DEFERRED" } else { "" },
        )
    }

    fn insert(&self, row: &Row) -> String {
        let Table { name, key, .. } = &self.tables[row.table];
        let names: Vec<String> = self.columns(row.table).into_iter().map(|(name, _)| name).collect();
        let overriding = if matches!(key, Key::Number { .. }) { "OVERRIDING SYSTEM VALUE " } else { "" };
        let values: Vec<String> =
            row.values.iter().map(|value| value.as_ref().map_or("NULL".into(), |text| literal(text))).collect();
        format!("INSERT INTO {} ({}) {overriding}VALUES ({});\n", identifier(name), list(&names), values.join(", "))
    }
}

pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ")
}
