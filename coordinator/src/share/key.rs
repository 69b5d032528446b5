//! One partition of one share group.

use std::fmt;
use std::str::FromStr;

use corelane_protocol::{Str, Uuid};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharePartitionKey {
    pub group: Str,
    pub topic: Uuid,
    pub partition: i32,
}

/// As FindCoordinator names it, and as its partition of `__share_group_state` is found: `group:topic:partition`.
impl fmt::Display for SharePartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.group, self.topic, self.partition)
    }
}

/// The text does not name a partition of a share group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseKeyError;

impl FromStr for SharePartitionKey {
    type Err = ParseKeyError;

    /// Reads from the right, since the group's name may hold colons itself. Colons at the very end count for nothing.
    fn from_str(text: &str) -> Result<SharePartitionKey, ParseKeyError> {
        let mut parts = text.trim_end_matches(':').rsplitn(3, ':');
        let partition = parts.next().and_then(|index| index.parse().ok()).ok_or(ParseKeyError)?;
        let topic = parts.next().and_then(|id| id.parse().ok()).ok_or(ParseKeyError)?;
        let group = parts.next().ok_or(ParseKeyError)?;
        if group.chars().all(|c| c <= ' ') {
            return Err(ParseKeyError);
        }
        Ok(SharePartitionKey { group: Str::from(group.to_owned()), topic, partition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_the_right() {
        let read = |text: &str| text.parse::<SharePartitionKey>();
        let key = |group: &str, partition| SharePartitionKey {
            group: Str::from(group.to_owned()),
            topic: Uuid::ONE,
            partition,
        };
        let id = Uuid::ONE;
        assert_eq!(read(&format!("g:{id}:7")), Ok(key("g", 7)));
        assert_eq!(read(&format!("a:b::{id}:-1")), Ok(key("a:b:", -1)));
        assert_eq!(read(&format!("g:{id}:7:")), Ok(key("g", 7)));
        for wrong in ["", "g", "g:1", "g:x:1", &format!("{id}:1"), &format!(" :{id}:1"), &format!("g:{id}:x")] {
            assert_eq!(read(wrong), Err(ParseKeyError), "{wrong}");
        }
        assert_eq!(key("a:b", 3).to_string(), format!("a:b:{id}:3"));
    }
}
