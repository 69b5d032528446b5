// Written by scripts/generate-configs from config/data: edit those tables, not this file.
//! Properties of scope `group`, in the order of their names.

use crate::table::Importance::*;
use crate::table::Kind::*;
use crate::table::{Check, Setting, Status, Update};

#[rustfmt::skip]
#[allow(unused_imports)]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting { name: "consumer.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("the consumer group protocol of KIP-848 arrives in a later version"), synonyms: &[], doc: "" },
    Setting { name: "consumer.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("the consumer group protocol of KIP-848 arrives in a later version"), synonyms: &[], doc: "" },
    Setting { name: "consumer.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("the consumer group protocol of KIP-848 arrives in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.auto.offset.reset", kind: String, default: Some("latest"), check: Check::OffsetReset, importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.delivery.count.limit", kind: Int, default: Some("5"), check: Check::AtLeast(2), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.isolation.level", kind: String, default: Some("read_uncommitted"), check: Check::OneOf(&["read_committed", "read_uncommitted"]), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.partition.max.record.locks", kind: Int, default: Some("2000"), check: Check::AtLeast(100), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.record.lock.duration.ms", kind: Int, default: Some("30000"), check: Check::AtLeast(1000), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.renew.acknowledge.enable", kind: Boolean, default: Some("true"), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "share.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("share groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "streams.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("streams groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "streams.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("streams groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "streams.initial.rebalance.delay.ms", kind: Int, default: Some("3000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("streams groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "streams.num.standby.replicas", kind: Int, default: Some("0"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("streams groups arrive in a later version"), synonyms: &[], doc: "" },
    Setting { name: "streams.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Fixed("streams groups arrive in a later version"), synonyms: &[], doc: "" },
];
