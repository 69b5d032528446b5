//! `ssl.principal.mapping.rules`: how the distinguished name of a certificate becomes the name of a user (KIP-371, Kafka's
//! `SslPrincipalMapper`).

use regex::{Captures, Regex};

/// One rule: `DEFAULT`, `RULE:pattern/replacement/` with `L` or `U` behind it, or nothing.
const RULE: &str = r"(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?).*?|(.*?)";

#[derive(Debug)]
pub struct MappingRules(Vec<Rule>);

#[derive(Debug)]
enum Rule {
    /// The name as it is.
    Default,
    Replace {
        whole: Regex,
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl MappingRules {
    pub fn parse(text: &str) -> Result<MappingRules, String> {
        let known = |pattern: String| Regex::new(&pattern).map_err(|e| e.to_string());
        let splitter = known(format!(r"\s*({RULE})\s*(?:,\s*|$)"))?;
        let parser = known(format!("^(?:{RULE})"))?;
        let mut rules = Vec::new();
        for found in splitter.captures_iter(text.trim()) {
            let rule = found.get(1).map_or("", |m| m.as_str());
            let Some(parts) = parser.captures(rule) else { return Err(format!("Invalid rule: {rule}")) };
            let end = parts.get(0).map_or(0, |m| m.end());
            if end != rule.len() {
                let rest = rule.get(end..).unwrap_or_default();
                return Err(format!("Invalid rule: `{rule}`, unmatched substring: `{rest}`"));
            }
            let part = |i: usize| parts.get(i).map(|m| m.as_str());
            match (part(1), part(2)) {
                (Some(_), _) => rules.push(Rule::Default),
                (None, Some(pattern)) => {
                    let compile = |pattern: String| Regex::new(&pattern).map_err(|e| format!("{pattern}: {e}"));
                    rules.push(Rule::Replace {
                        whole: compile(format!("^(?:{pattern})$"))?,
                        pattern: compile(pattern.to_owned())?,
                        replacement: part(3).unwrap_or_default().to_owned(),
                        case: match part(4) {
                            Some("L") => Case::Lower,
                            Some("U") => Case::Upper,
                            _ => Case::Kept,
                        },
                    });
                }
                // Empty rules are ignored.
                (None, None) => {}
            }
        }
        Ok(MappingRules(rules))
    }

    /// The user that a certificate stands for; `None`: no rule applies, and nobody may come in by it.
    pub fn name(&self, distinguished: &str) -> Option<String> {
        self.0.iter().find_map(|rule| match rule {
            Rule::Default => Some(distinguished.to_owned()),
            Rule::Replace { whole, pattern, replacement, case } => whole.is_match(distinguished).then(|| {
                let name = replace_all(pattern, distinguished, replacement);
                match case {
                    Case::Kept => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                }
            }),
        })
    }
}

/// Java's `replaceAll`, which also takes an empty match right behind another match.
fn replace_all(pattern: &Regex, text: &str, replacement: &str) -> String {
    let (mut out, mut copied, mut from) = (String::new(), 0, 0);
    while from <= text.len()
        && let Some(found) = pattern.captures_at(text, from)
        && let Some(whole) = found.get(0)
    {
        out.push_str(text.get(copied..whole.start()).unwrap_or_default());
        expand(&mut out, replacement, &found);
        copied = whole.end();
        let empty = whole.start() == whole.end();
        let next = text.get(whole.end()..).and_then(|rest| rest.chars().next());
        from = whole.end() + if empty { next.map_or(1, char::len_utf8) } else { 0 };
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// `$1` is a group, where there are that many (else fewer of its digits count, and then it stands for itself); a backslash keeps
/// the next character as it is.
fn expand(out: &mut String, replacement: &str, found: &Captures<'_>) {
    let groups = found.len() - 1;
    let mut rest = replacement.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend(rest.next()),
            '$' => {
                let mut group = None;
                while let Some(digit) = rest.peek().and_then(|d| d.to_digit(10)) {
                    let next = group.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize);
                    if next > groups && group.is_some() {
                        break;
                    }
                    group = Some(next);
                    rest.next();
                }
                match group {
                    Some(group) if group <= groups => out.push_str(found.get(group).map_or("", |m| m.as_str())),
                    Some(group) => out.push_str(&format!("${group}")),
                    None => out.push('$'),
                }
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules, a name, and what Kafka's `SslPrincipalMapper` makes of it.
    const KAFKA: &[(&str, &str, Option<&str>)] = &[
        ("DEFAULT", "CN=alice,OU=a", Some("CN=alice,OU=a")),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", "CN=duke,OU=ServiceUsers,O=x", Some("duke")),
        ("RULE:^CN=(.*?),OU=(.*?)$/$1@$2/U", "CN=duke,OU=a", Some("DUKE@A")),
        ("RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,DEFAULT", "cn=JavaDuke,ou=x", Some("javaduke")),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,DEFAULT", "CN=duke,OU=Other", Some("CN=duke,OU=Other")),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", "CN=duke,OU=Other", None),
        ("RULE:^CN=(.*?),OU=(.*)$/$1@$4/", "CN=duke,OU=a", Some("duke@$4")),
        (" RULE:^CN=((\\\\, *|\\w)+)(,.*|$)/$1/, DEFAULT ", "CN=duke,OU=a", Some("duke")),
        ("RULE:.*/x/", "CN=a", Some("xx")),
    ];

    #[test]
    fn names_become_those_that_kafka_makes_of_them() {
        for (rules, name, want) in KAFKA {
            let made = MappingRules::parse(rules).unwrap().name(name);
            assert_eq!(made.as_deref(), *want, "{rules}");
        }
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for rules in ["default", "RULE:^CN=(.*?)$", "RULE:(/x/", "DEFAULT DEFAULT"] {
            assert!(MappingRules::parse(rules).is_err(), "{rules}");
        }
    }
}
