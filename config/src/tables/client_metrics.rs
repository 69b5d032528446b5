// Written by scripts/generate-configs from config/data: edit those tables, not this file.
//! Properties of scope `client-metrics`, in the order of their names.

use crate::table::Importance::*;
use crate::table::Kind::*;
use crate::table::{Check, Setting, Status, Update};

#[rustfmt::skip]
#[allow(unused_imports)]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting { name: "interval.ms", kind: Int, default: Some("300000"), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Fixed("client telemetry arrives in a later version"), synonyms: &[], doc: "" },
    Setting { name: "match", kind: List, default: Some(""), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Fixed("client telemetry arrives in a later version"), synonyms: &[], doc: "" },
    Setting { name: "metrics", kind: List, default: Some(""), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Fixed("client telemetry arrives in a later version"), synonyms: &[], doc: "" },
];
