//! Events of the audit, and how they are written to its topic: as JSON of the Open Cybersecurity Schema Framework (OCSF 1.0.0), which
//! is what tools that watch over security read. A request is an event of its class "API Activity", a login one of "Authentication".

use std::net::IpAddr;

use serde_json::{Value, json};

/// What was seen once or, said the same way by the same client, several times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Who it was, or said it was.
    pub user: Option<String>,
    pub ip: IpAddr,
    pub client_id: Option<String>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A client may not do something. `resource`: its type and its name.
    Refused { api: &'static str, operation: String, resource: (String, String) },
    /// A client changed something, or failed to.
    Administrative { api: &'static str, resources: Vec<String>, outcome: String },
    /// Somebody did not get in.
    Unauthenticated { listener: String, mechanism: String, reason: String },
}

/// How often it was seen, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub first_ms: i64,
    pub last_ms: i64,
    pub count: u32,
    /// Of the client, the first time.
    pub port: u16,
}

/// Administrative requests that were not refused say so.
pub const DONE: &str = "done";

const OCSF: &str = "1.0.0";
/// Kinds of events; each has a part of the room of its own.
pub const KINDS: usize = 3;

const API_ACTIVITY: u32 = 6003;
const AUTHENTICATION: u32 = 3002;
const LOGON: u32 = 1;
const OTHER: u32 = 99;
const SUCCESS: u32 = 1;
const FAILURE: u32 = 2;
const INFORMATIONAL: u32 = 1;
const MEDIUM: u32 = 3;

impl Event {
    /// Below [`KINDS`].
    pub fn kind(&self) -> usize {
        match self.what {
            What::Refused { .. } => 0,
            What::Administrative { .. } => 1,
            What::Unauthenticated { .. } => 2,
        }
    }

    /// Bytes that it takes while it waits.
    pub fn size(&self) -> usize {
        let said = match &self.what {
            What::Refused { operation, resource, .. } => operation.len() + resource.0.len() + resource.1.len(),
            What::Administrative { resources, outcome, .. } => {
                resources.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>() + outcome.len()
            }
            What::Unauthenticated { listener, mechanism, reason } => listener.len() + mechanism.len() + reason.len(),
        };
        let who = [&self.user, &self.client_id].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<(Event, Seen)>() + said + who
    }

    pub fn to_json(&self, seen: Seen) -> Value {
        let (class, activity) = match &self.what {
            What::Refused { api, .. } | What::Administrative { api, .. } => (API_ACTIVITY, activity_of(api)),
            What::Unauthenticated { .. } => (AUTHENTICATION, LOGON),
        };
        let mut json = json!({
            "metadata": metadata(),
            "category_uid": class / 1000,
            "class_uid": class,
            "activity_id": activity,
            "type_uid": class * 100 + activity,
            "time": seen.first_ms,
            "start_time": seen.first_ms,
            "end_time": seen.last_ms,
            "count": seen.count,
            "src_endpoint": {"ip": self.ip.to_string(), "port": seen.port},
            "unmapped": {"client_id": self.client_id},
        });
        let user = json!({"name": self.user, "type_id": 0});
        match &self.what {
            What::Refused { api, operation, resource } => {
                json["actor"] = json!({"user": user, "authorizations": [{"decision": "denied"}]});
                json["api"] = json!({"operation": api, "service": {"name": "kafka"}});
                json["resources"] = json!([{"type": resource.0, "name": resource.1}]);
                json["unmapped"]["operation"] = json!(operation);
                (json["status_id"], json["status_detail"]) = (json!(FAILURE), json!("refused"));
                json["severity_id"] = json!(MEDIUM);
            }
            What::Administrative { api, resources, outcome } => {
                json["actor"] = json!({"user": user});
                json["api"] = json!({"operation": api, "service": {"name": "kafka"}});
                json["resources"] = resources.iter().map(|name| json!({"name": name})).collect();
                let status = if outcome == DONE { SUCCESS } else { FAILURE };
                (json["status_id"], json["status_detail"]) = (json!(status), json!(outcome));
                json["severity_id"] = json!(INFORMATIONAL);
            }
            What::Unauthenticated { listener, mechanism, reason } => {
                (json["user"], json["service"]) = (user, json!({"name": listener}));
                (json["auth_protocol_id"], json["auth_protocol"]) = (json!(OTHER), json!(mechanism));
                (json["status_id"], json["status_detail"]) = (json!(FAILURE), json!(reason));
                json["severity_id"] = json!(MEDIUM);
            }
        }
        json
    }
}

/// Says that events are not in the topic, for want of room or because it could not be written.
pub fn missing(count: u64, now_ms: i64) -> Value {
    json!({
        "metadata": metadata(),
        "category_uid": 0,
        "class_uid": 0,
        "activity_id": OTHER,
        "type_uid": OTHER,
        "time": now_ms,
        "count": count,
        "message": "events of the audit are missing here",
        "severity_id": MEDIUM,
    })
}

fn metadata() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({"version": OCSF, "product": {"name": "Corelane", "vendor_name": "Corelane", "version": version}})
}

/// What an API does, in the numbers of the class.
fn activity_of(api: &str) -> u32 {
    const KINDS: [(u32, &[&str]); 4] = [
        (1, &["Create", "Init", "AddPartitions", "AddOffsets"]),
        (2, &["Describe", "List", "Fetch", "ShareFetch", "Metadata", "Find", "Get", "OffsetFetch", "Read"]),
        (
            3,
            &[
                "Alter",
                "Incremental",
                "Update",
                "Renew",
                "Elect",
                "Produce",
                "Write",
                "OffsetCommit",
                "TxnOffset",
                "End",
            ],
        ),
        (4, &["Delete", "Expire", "OffsetDelete"]),
    ];
    let kind = KINDS.iter().find(|(_, begin)| begin.iter().any(|begin| api.starts_with(begin)));
    kind.map_or(OTHER, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What) -> Event {
        let (user, client_id) = (Some("User:mallory".to_owned()), Some("c\n1".to_owned()));
        Event { user, ip: [10, 0, 0, 9].into(), client_id, what }
    }

    const SEEN: Seen = Seen { first_ms: 1_700_000_000_000, last_ms: 1_700_000_000_400, count: 3, port: 4711 };

    #[test]
    fn a_refusal_says_who_wanted_what_from_where() {
        let resource = ("Topic".to_owned(), "secret".to_owned());
        let json = event(What::Refused { api: "Fetch", operation: "Read".to_owned(), resource }).to_json(SEEN);
        assert_eq!(
            (&json["class_uid"], &json["category_uid"], &json["type_uid"]),
            (&json!(6003), &json!(6), &json!(600302))
        );
        assert_eq!(
            (&json["time"], &json["end_time"], &json["count"]),
            (&json!(SEEN.first_ms), &json!(SEEN.last_ms), &json!(3))
        );
        assert_eq!(json["actor"]["user"]["name"], "User:mallory");
        assert_eq!(json["actor"]["authorizations"][0]["decision"], "denied");
        assert_eq!(json["src_endpoint"], json!({"ip": "10.0.0.9", "port": 4711}));
        assert_eq!(json["resources"], json!([{"type": "Topic", "name": "secret"}]));
        assert_eq!((&json["api"]["operation"], &json["unmapped"]["operation"]), (&json!("Fetch"), &json!("Read")));
        assert_eq!(
            (&json["status_id"], &json["metadata"]["product"]["version"]),
            (&json!(2), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert!(!json.to_string().contains('\n'));
    }

    #[test]
    fn a_change_says_how_it_ended_and_a_login_by_what() {
        let change = |outcome: &str| {
            let what = What::Administrative {
                api: "DeleteTopics",
                resources: vec!["t".to_owned()],
                outcome: outcome.to_owned(),
            };
            event(what).to_json(SEEN)
        };
        assert_eq!((&change(DONE)["status_id"], &change(DONE)["type_uid"]), (&json!(1), &json!(600304)));
        assert_eq!(
            (&change("X, done")["status_id"], &change("X, done")["status_detail"]),
            (&json!(2), &json!("X, done"))
        );
        let (listener, mechanism) = ("EXTERNAL".to_owned(), "PLAIN".to_owned());
        let json = event(What::Unauthenticated { listener, mechanism, reason: "wrong".to_owned() }).to_json(SEEN);
        assert_eq!(
            (&json["type_uid"], &json["auth_protocol"], &json["user"]["name"]),
            (&json!(300201), &json!("PLAIN"), &json!("User:mallory"))
        );
    }
}
