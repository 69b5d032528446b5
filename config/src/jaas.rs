//! Lines of JAAS, the form in which Kafka's properties name users and passwords:
//! `org.example.LoginModule required name="value" other="value";`

use std::collections::BTreeMap;
use std::fmt;

/// One login module with its options.
#[derive(Clone, PartialEq, Eq)]
pub struct Jaas {
    pub module: String,
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for Jaas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("Jaas").field("module", &self.module).field("options", &names).finish()
    }
}

const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

impl Jaas {
    /// Errors tell no value: it may be a secret.
    pub fn parse(text: &str) -> Result<Jaas, String> {
        let mut words = Words { rest: text };
        let module = words.next()?.ok_or("there is no login module in it")?;
        let flag = words.next()?.unwrap_or_default();
        if !FLAGS.iter().any(|known| known.eq_ignore_ascii_case(&flag)) {
            return Err(format!("after the login module comes one of {}", FLAGS.join(", ")));
        }
        let mut options = BTreeMap::new();
        loop {
            match words.next()?.as_deref() {
                Some(";") => break,
                None => return Err("it does not end with a semicolon".to_owned()),
                Some(name) => {
                    let wrong = || "an option is not NAME=\"VALUE\"".to_owned();
                    if words.next()?.as_deref() != Some("=") {
                        return Err(wrong());
                    }
                    let value = words.next()?.filter(|value| value != ";").ok_or_else(wrong)?;
                    options.insert(name.to_owned(), value);
                }
            }
        }
        match words.next()? {
            None => Ok(Jaas { module, options }),
            Some(_) => Err("there is more than one login module in it".to_owned()),
        }
    }

    /// The last part of the module's name.
    pub fn module_name(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or(&self.module)
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// The next word, sign or quoted text.
    fn next(&mut self) -> Result<Option<String>, String> {
        self.rest = self.rest.trim_start();
        let mut letters = self.rest.char_indices();
        let Some((_, first)) = letters.next() else { return Ok(None) };
        if first == ';' || first == '=' {
            self.rest = letters.as_str();
            return Ok(Some(first.to_string()));
        }
        if first != '"' && first != '\'' {
            let end = self.rest.find(|c: char| c.is_whitespace() || ";=\"'".contains(c)).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(Some(word.to_owned()));
        }
        let mut out = String::new();
        while let Some((_, c)) = letters.next() {
            match c {
                _ if c == first => {
                    self.rest = letters.as_str();
                    return Ok(Some(out));
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, c)) => out.push(c),
                    None => break,
                },
                _ => out.push(c),
            }
        }
        Err("a quoted text does not end".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_lines_are_read() {
        let line = "org.apache.kafka.common.security.plain.PlainLoginModule required\n username=\"admin\" \
                    user_admin=\"a;b=\\\"c\\\\\"  user_alice='x y' user_bob = plain ;";
        let jaas = Jaas::parse(line).unwrap();
        assert_eq!(jaas.module_name(), "PlainLoginModule");
        let options: Vec<(&str, &str)> = jaas.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected =
            [("user_admin", "a;b=\"c\\"), ("user_alice", "x y"), ("user_bob", "plain"), ("username", "admin")];
        assert_eq!(options, expected);
        assert!(Jaas::parse("ScramLoginModule required;").unwrap().options.is_empty());
    }

    #[test]
    fn what_is_no_line_is_refused_and_not_told() {
        for wrong in [
            "",
            "Module",
            "Module needed;",
            "Module required user_a=\"secret\"",
            "Module required user_a=\"secret;",
            "Module required user_a \"secret\";",
            "Module required user_a=;",
            "Module required; Other required;",
        ] {
            let message = Jaas::parse(wrong).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
        let shown = format!("{:?}", Jaas::parse("Module required password=\"secret\";").unwrap());
        assert!(shown.contains("password") && !shown.contains("secret"));
    }
}
