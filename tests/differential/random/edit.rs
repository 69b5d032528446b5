//! Changes to values by the names of their fields.

use crate::value::{Expr, show};
use corelane_protocol::Tree;
use std::collections::BTreeSet;

pub fn int(number: i64) -> Expr {
    Expr::Literal(Tree::Int(number))
}

pub fn text(text: impl Into<String>) -> Expr {
    Expr::Text(text.into())
}

pub fn field<'a>(expr: &'a Expr, name: &str) -> Option<&'a Expr> {
    let Expr::Struct(fields) = expr else { return None };
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Changes values by the name of their field, wherever they are.
pub fn each_field(value: Expr, change: &impl Fn(&str, Expr) -> Expr) -> Expr {
    match value {
        Expr::List(list) => Expr::List(list.into_iter().map(|value| each_field(value, change)).collect()),
        Expr::Call(function, arguments) => {
            Expr::Call(function, arguments.into_iter().map(|value| each_field(value, change)).collect())
        }
        Expr::Struct(fields) => {
            let field = |(name, value): (String, Expr)| {
                let value = change(&name, each_field(value, change));
                (name, value)
            };
            Expr::Struct(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// Of the elements with one name the first.
pub fn once(value: Expr, name: &str) -> Expr {
    let Expr::List(mut list) = value else { return value };
    let mut seen = BTreeSet::new();
    list.retain(|element| seen.insert(field(element, name).map(show)));
    Expr::List(list)
}

/// The field in each element of a list: a missing one is the number 0.
pub fn given(list: Expr, field: &str, number: i64) -> Expr {
    let with = |element: Expr| match element {
        Expr::Struct(mut fields) if !fields.iter().any(|(name, _)| name == field) => {
            fields.push((field.to_owned(), Expr::Literal(Tree::Int(number))));
            Expr::Struct(fields)
        }
        other => other,
    };
    let Expr::List(list) = list else { return list };
    Expr::List(list.into_iter().map(with).collect())
}

pub fn the_first(list: Expr) -> Expr {
    let Expr::List(list) = list else { return list };
    Expr::List(list.into_iter().take(1).collect())
}

/// Every number in a list.
pub fn replaced(value: Expr, by: i64) -> Expr {
    let Expr::List(list) = value else { return value };
    Expr::List(list.into_iter().map(|_| Expr::Literal(Tree::Int(by))).collect())
}

pub fn at_least(least: i64, value: Expr) -> Expr {
    match value {
        Expr::Literal(Tree::Int(number)) => Expr::Literal(Tree::Int(number.max(least))),
        other => other,
    }
}
