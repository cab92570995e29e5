//! Comments that allow what a rule would report: `-- tenantry:allow rule-name: the reason`.

use std::cell::Cell;

use super::{Rule, report::Notice, script::Script};

pub(super) const RULES: &[&Rule] = &[&WITHOUT_REASON, &UNKNOWN, &UNUSED];

static WITHOUT_REASON: Rule = Rule::error(
    "allow-without-reason",
    "an allow comment does not say why",
    "write it as `-- tenantry:allow rule-name: the reason`",
);
static UNKNOWN: Rule = Rule::error(
    "allow-unknown",
    "an allow comment names no rule",
    "take the name from the finding, or from `tenantry lint --rules`",
);
static UNUSED: Rule =
    Rule::warning("allow-unused", "an allow comment allows nothing that is there", "take the comment away");

const MARK: &str = "tenantry:allow";

/// The allow comments of one script.
#[derive(Default)]
pub(super) struct Allows {
    allows: Vec<Allow>,
    /// What is wrong with the comments themselves.
    pub wrong: Vec<Notice>,
}

struct Allow {
    rule: &'static Rule,
    at: usize,
    /// The statement that it is about: the one it stands in, or behind, or before.
    statement: Option<(usize, usize)>,
    used: Cell<bool>,
}

impl Allows {
    pub(super) fn read(script: &Script<'_>) -> Self {
        let mut found = Self::default();
        let statements: Vec<(usize, usize)> = script
            .statements()
            .map(|node| (node.text_range().start().into(), node.text_range().end().into()))
            .collect();
        for (at, comment) in script.comments() {
            let body = comment.trim_start_matches(['-', '/', '*']).trim_end_matches(['*', '/']).trim();
            let Some(rest) = body.strip_prefix(MARK) else { continue };
            let (names, reason) = rest.split_once(':').unwrap_or((rest, ""));
            let behind = |end: usize| end <= at && !script.text[end..at].contains('\n');
            let statement = statements
                .iter()
                .copied()
                .find(|(_, end)| behind(*end))
                .or_else(|| statements.iter().copied().find(|(_, end)| *end > at));
            let mut named = names.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).peekable();
            if named.peek().is_none() {
                found.wrong.push(Notice::at(&UNKNOWN, at, "the comment names no rule"));
            }
            for name in named {
                match Rule::find(name) {
                    None => found.wrong.push(Notice::at(&UNKNOWN, at, format!("there is no rule `{name}`"))),
                    Some(_) if reason.trim().is_empty() => {
                        let message = format!("`{name}` is allowed without a reason, and therefore is not");
                        found.wrong.push(Notice::at(&WITHOUT_REASON, at, message));
                    }
                    Some(rule) => found.allows.push(Allow { rule, at, statement, used: Cell::new(false) }),
                }
            }
        }
        found
    }

    /// Whether a comment allows this, in the script that it was noticed in.
    pub(super) fn cover(&self, notice: &Notice) -> bool {
        self.any(notice.rule, |allow| match (notice.at, allow.statement) {
            (Some(at), Some((start, end))) => (start..end).contains(&at),
            (Some(_), None) => false,
            (None, _) => true,
        })
    }

    /// Whether a comment allows this rule, wherever in the script it is.
    pub(super) fn cover_anywhere(&self, rule: &'static Rule) -> bool {
        self.any(rule, |_| true)
    }

    fn any(&self, rule: &Rule, fits: impl Fn(&Allow) -> bool) -> bool {
        let mut covered = false;
        for allow in self.allows.iter().filter(|allow| allow.rule == rule && fits(allow)) {
            allow.used.set(true);
            covered = true;
        }
        covered
    }

    /// The comments that covered nothing.
    pub(super) fn unused(&self) -> impl Iterator<Item = Notice> {
        self.allows.iter().filter(|allow| !allow.used.get()).map(|allow| {
            Notice::at(&UNUSED, allow.at, format!("`{}` is allowed, and nothing here is found by it", allow.rule.id))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::check;

    #[test]
    fn a_comment_with_a_reason_allows_the_next_statement_only() {
        check("-- tenantry:allow search-path: reset at once\nRESET search_path; RESET search_path", &["search-path"]);
        check("-- tenantry:allow search-path: reset\n-- another comment\n\nRESET search_path", &[]);
        check("/* tenantry:allow search-path: reset */ RESET search_path", &[]);
        check("RESET search_path; -- tenantry:allow search-path: reset\n", &[]);
        check("RESET /* tenantry:allow search-path: reset */ search_path", &[]);
        check("--tenantry:allow search-path, qualified-name: both\nSET search_path = a; ", &["allow-unused"]);
    }

    #[test]
    fn without_a_reason_nothing_is_allowed() {
        for comment in ["-- tenantry:allow search-path", "-- tenantry:allow search-path:  "] {
            check(&format!("{comment}\nRESET search_path"), &["allow-without-reason", "search-path"]);
        }
    }

    #[test]
    fn a_name_that_is_no_rule_is_a_finding() {
        check("-- tenantry:allow searchpath: typo\nSELECT 1", &["allow-unknown"]);
        check("-- tenantry:allow : nothing\nSELECT 1", &["allow-unknown"]);
    }

    #[test]
    fn what_is_not_needed_is_a_finding() {
        check("-- tenantry:allow search-path: once it was needed\nSELECT 1", &["allow-unused"]);
        check("SELECT 1; \n-- tenantry:allow search-path: no statement follows", &["allow-unused"]);
        check("SELECT '-- tenantry:allow nonsense'", &[]);
    }

    #[test]
    fn findings_about_comments_are_not_allowed_by_comments() {
        check(
            "-- tenantry:allow allow-unused: for later\n-- tenantry:allow search-path: x\nSELECT 1",
            &["allow-unused", "allow-unused"],
        );
    }
}
