// Written by scripts/generate-configs from config/data: edit those tables, not this file.
//! Properties of scope `client-metrics`, in the order of their names.

use crate::table::Importance::*;
use crate::table::Kind::*;
use crate::table::{Check, Setting, Status, Update};

#[rustfmt::skip]
#[allow(unused_imports)]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting { name: "interval.ms", kind: Int, default: Some("300000"), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "How often clients push." },
    Setting { name: "match", kind: List, default: Some(""), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "Which clients the subscription is for, as property=regular expression." },
    Setting { name: "metrics", kind: List, default: Some(""), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "Names of metrics, or beginnings of them, that clients push; `*` is all." },
];
