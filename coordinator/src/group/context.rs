//! Who asks.

use corelane_protocol::Str;

/// What a request brings besides its body.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub client_id: Str,
    /// The client's address as Kafka writes it, with a slash in front: `/10.0.0.7`.
    pub client_host: Str,
    pub api_version: i16,
    /// Fresh random bits, of which a new member's id is made.
    pub random: u128,
}

impl RequestContext {
    /// An id of a member that brought none and whose protocol names nobody in it.
    pub(crate) fn random_id(&self) -> Str {
        Str::from(corelane_protocol::Uuid::from_u128(self.random).to_string())
    }

    /// The id of a member that this request introduces: its instance id or else the client id, and a random (version 4) UUID.
    pub(crate) fn new_member_id(&self, instance_id: Option<&str>) -> Str {
        let bits = (self.random & !(0xf000 << 64) & !(0b11 << 62)) | (0x4000 << 64) | (0b10 << 62);
        let hex = format!("{bits:032x}");
        let mut id = String::with_capacity(40 + self.client_id.len());
        id.push_str(instance_id.unwrap_or(&self.client_id));
        for (position, digit) in hex.chars().enumerate() {
            if matches!(position, 0 | 8 | 12 | 16 | 20) {
                id.push('-');
            }
            id.push(digit);
        }
        Str::from(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_id_is_a_name_and_a_version_4_uuid() {
        let context = RequestContext {
            client_id: Str::from("app"),
            client_host: Str::from("/127.0.0.1"),
            api_version: 9,
            random: u128::MAX,
        };
        assert_eq!(context.new_member_id(None), "app-ffffffff-ffff-4fff-bfff-ffffffffffff");
        let context = RequestContext { random: 0, ..context };
        assert_eq!(context.new_member_id(Some("i1")), "i1-00000000-0000-4000-8000-000000000000");
    }
}
