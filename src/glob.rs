//! Patterns of names.

use std::convert::Infallible;

use serde::Serialize;

/// A pattern in which `*` stands for any characters and `?` for one.
///
/// ```
/// use tenantry::directory::Glob;
///
/// assert!(Glob::new("tenant_*").matches("tenant_7"));
/// assert!(!Glob::new("tenant_?").matches("tenant_42"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// The pattern that is written like this.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name, in which nothing is wild.
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether the whole of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        // Where to go on when what follows the last star does not match: one character later.
        let (mut at, mut star, mut seen) = (0, None, 0);
        while seen < name.len() {
            if pattern.get(at) == Some(&'*') {
                star = Some((at + 1, seen));
                at += 1;
            } else if pattern.get(at).is_some_and(|wanted| *wanted == '?' || *wanted == name[seen]) {
                at += 1;
                seen += 1;
            } else if let Some((after, from)) = star {
                star = Some((after, from + 1));
                (at, seen) = (after, from + 1);
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }

    /// The same pattern for LIKE.
    pub(crate) fn to_like(&self) -> String {
        let mut like = String::new();
        for c in self.0.chars() {
            match c {
                '*' => like.push('%'),
                '?' => like.push('_'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                c => like.push(c),
            }
        }
        like
    }
}

impl std::str::FromStr for Glob {
    type Err = Infallible;

    fn from_str(pattern: &str) -> Result<Self, Infallible> {
        Ok(Self::new(pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stars_and_question_marks_are_wild() {
        assert_eq!(Glob::new("tenant_*").to_like(), "tenant\\_%");
        assert_eq!(Glob::new("t?x%").to_like(), "t_x\\%");
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "é", true),
            ("tenant_?", "tenant_42", false),
            ("a%", "ab", false),
            ("", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }
}
