//! An alert: when somebody is to act, and how soon.

use crate::query::Query;

/// How soon somebody is to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now, also at night.
    Page,
    /// In working hours.
    Ticket,
}

impl Severity {
    /// As the label has it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Page => "page",
            Severity::Ticket => "ticket",
        }
    }
}

/// How one number compares with another.
#[derive(Clone, Debug)]
pub struct Comparison {
    left: Query,
    operator: &'static str,
    right: Query,
    /// Whether the right side is asked for, too, and no fixed number.
    is_relative: bool,
}

impl Comparison {
    /// More than `bound`.
    pub(crate) fn above(left: Query, bound: f64) -> Comparison {
        Comparison { left, operator: ">", right: Query::number(bound), is_relative: false }
    }

    /// Less than `bound`.
    pub(crate) fn below(left: Query, bound: f64) -> Comparison {
        Comparison { left, operator: "<", right: Query::number(bound), is_relative: false }
    }

    /// More than something else is.
    pub(crate) fn exceeds(left: Query, right: Query) -> Comparison {
        Comparison { left, operator: ">", right, is_relative: true }
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.left.operand(), self.operator, self.right.operand())
    }
}

/// When an alert fires.
#[derive(Clone, Debug)]
pub enum When {
    /// All comparisons of one of these sets hold.
    Any(Vec<Vec<Comparison>>),
    /// Series are gone that were there.
    Gone {
        /// As they were for a while.
        were: Query,
        /// As they are now.
        are: Query,
    },
}

/// Something that somebody is to do something about.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name, and that of its section in docs/operations.md.
    pub name: &'static str,
    /// How soon somebody is to act.
    pub severity: Severity,
    /// When it fires.
    pub when: When,
    /// For how long that must have been so, as Prometheus writes it.
    pub lasting: &'static str,
    /// What is wrong, in one line.
    pub summary: &'static str,
    /// What that means for users; `{{ }}` as Prometheus' templates have it.
    pub description: &'static str,
}

impl Alert {
    /// The whole expression, a comparison on each line.
    pub fn expression(&self) -> String {
        let set = |comparisons: &Vec<Comparison>| comparisons.iter().map(Comparison::text).collect::<Vec<_>>().join("\nand ");
        match &self.when {
            // `and` binds more tightly than `or`.
            When::Any(sets) => sets.iter().map(set).collect::<Vec<_>>().join("\nor "),
            When::Gone { were, are } => format!("{were}\nunless {are}"),
        }
    }

    /// What is compared: each of these has data while all is well.
    pub fn sides(&self) -> Vec<&Query> {
        match &self.when {
            When::Any(sets) => {
                sets.iter().flatten().flat_map(|one| [Some(&one.left), one.is_relative.then_some(&one.right)]).flatten().collect()
            }
            When::Gone { were, are } => vec![were, are],
        }
    }
}
