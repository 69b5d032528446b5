//! Changes to a request, field by field, and fields that no script has.

use super::Series;
use super::edit::field;
use crate::value::Expr;
use corelane_protocol::Tree;

/// Numbers that fit any field.
const SMALL_NUMBERS: [i64; 11] = [-3, -2, -1, 0, 1, 2, 3, 5, 7, 100, 127];
const BIG_NUMBERS: [i64; 5] = [1000, 32_767, i32::MAX as i64, i64::MAX, i64::MIN];
pub const TEXTS: [&str; 7] = ["", "a b", "..", "nobody", "retention.ms", "é", "1"];

/// Fields that are there where a script has them: Apache Kafka never answers a Produce without records, resolves a group's regular
/// expression at some time of its own, and makes internal topics then, too.
const NOT_ADDED: [&str; 4] =
    ["records", "subscribed_topic_regex", "state_changelog_topics", "repartition_source_topics"];

impl Series<'_> {
    /// One of the fields that a value does not have, and could.
    fn added(&mut self, fields: &[(String, Expr)], shape: Option<&Expr>) -> Option<(String, Expr)> {
        let Some(Expr::Struct(all)) = shape else { return None };
        let added = |name: &str| !NOT_ADDED.contains(&name) && fields.iter().all(|(known, _)| known != name);
        let open: Vec<&(String, Expr)> = all.iter().filter(|(name, _)| added(name)).collect();
        let (name, value) = open.get(self.out.below(open.len().max(1)))?;
        let mut changed = value.clone();
        self.change(&mut changed, Some(value));
        Some((name.clone(), changed))
    }

    /// Changes one place of a value; `shape` has all that there may be in it.
    pub fn change(&mut self, expr: &mut Expr, shape: Option<&Expr>) {
        match expr {
            Expr::Struct(fields) if fields.is_empty() || self.out.one_in(6) => fields.extend(self.added(fields, shape)),
            Expr::Struct(fields) => {
                let at = self.out.below(fields.len());
                // (Apache Kafka never answers a Produce without records)
                if self.out.one_in(12) && fields[at].0 != "records" {
                    fields.remove(at);
                } else {
                    let (name, value) = &mut fields[at];
                    self.change(value, shape.and_then(|shape| field(shape, name)));
                }
            }
            Expr::List(list) if list.is_empty() => {
                if let Some(Expr::List(one)) = shape {
                    list.extend(
                        one.first().filter(|one| NOT_ADDED.iter().all(|name| field(one, name).is_none())).cloned(),
                    );
                }
            }
            Expr::List(list) => {
                let at = self.out.below(list.len());
                match self.out.below(8) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    2 => list.reverse(),
                    _ => {
                        let one = if let Some(Expr::List(one)) = shape { one.first() } else { None };
                        self.change(&mut list[at], one);
                    }
                }
            }
            Expr::Literal(Tree::Int(value)) => {
                *value = if self.out.one_in(5) { self.out.pick(&BIG_NUMBERS) } else { self.out.pick(&SMALL_NUMBERS) };
            }
            Expr::Literal(Tree::Bool(value)) => *value = !*value,
            Expr::Literal(Tree::Null) => *expr = Expr::Text(self.out.pick(&TEXTS).into()),
            Expr::Text(_) if self.out.one_in(10) => *expr = Expr::Literal(Tree::Null),
            Expr::Text(text) => *text = self.out.pick(&TEXTS).into(),
            Expr::Call(function, arguments) if function == "batch" => arguments.iter_mut().for_each(|a| self.batch(a)),
            _ => {}
        }
    }

    fn batch(&mut self, expr: &mut Expr) {
        let Expr::Struct(fields) = expr else { return };
        let names = [
            "count",
            "base",
            "length",
            "leader_epoch",
            "magic",
            "crc",
            "attributes",
            "last_delta",
            "max_ts",
            "records",
            "cut",
            "ts",
            "seq",
            "epoch",
            "pid",
        ];
        let name = self.out.pick(&names);
        fields.retain(|(n, _)| n != name);
        // a count is how many records are built
        let value = if name == "count" { 1 + self.out.below(5) as i64 } else { self.out.pick(&SMALL_NUMBERS) };
        let value = if name == "cut" { value.max(1) } else { value };
        fields.push((name.to_owned(), Expr::Literal(Tree::Int(value))));
    }
}
