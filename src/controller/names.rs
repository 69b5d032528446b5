//! What names a topic may have.

use std::sync::Arc;

use super::image::{ClusterImage, TopicImage};

/// Kafka's rules for names (`Topic.validate`).
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the empty string is not allowed as a topic name".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("'{name}' is not allowed as a topic name"));
    }
    if name.len() > 249 {
        return Err(format!("the topic name is {} characters long, allowed are 249", name.len()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(format!("topic name '{name}' has characters other than ASCII letters, digits, '.', '_' and '-'"));
    }
    Ok(())
}

/// A topic that `name` would share its metrics' names with: '.' and '_' are the same there (`Topic.hasCollision`).
pub fn collision<'a>(image: &'a ClusterImage, name: &str) -> Option<&'a Arc<TopicImage>> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let unified = name.replace('.', "_");
    image.topics().find(|t| &*t.name != name && t.name.contains(['.', '_']) && t.name.replace('.', "_") == unified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::records::MetadataRecord;
    use corelane_storage::model::TopicId;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "a.b_c-D9", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "grüße", "a\0", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dots_and_underscores_are_one_to_metrics() {
        let mut image = ClusterImage::default();
        image.apply(&MetadataRecord::Topic { name: "a.b".into(), id: TopicId([3; 16]) }).unwrap();
        assert!(collision(&image, "a_b").is_some());
        assert!(collision(&image, "a.b").is_none(), "the topic itself");
        assert!(collision(&image, "a-b").is_none());
    }
}
