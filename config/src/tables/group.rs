// Written by scripts/generate-configs from config/data: edit those tables, not this file.
//! Properties of scope `group`, in the order of their names.

use crate::table::Importance::*;
use crate::table::Kind::*;
use crate::table::{Check, Setting, Status, Update};

#[rustfmt::skip]
#[allow(unused_imports)]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting { name: "consumer.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.consumer.assignment.interval.ms"], doc: "Time between two assignments of one group at least." },
    Setting { name: "consumer.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.consumer.heartbeat.interval.ms"], doc: "How often members are told to report." },
    Setting { name: "consumer.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.consumer.session.timeout.ms"], doc: "A member that is silent for this long is taken out of its group." },
    Setting { name: "share.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.assignment.interval.ms"], doc: "Time between two assignments of one group at least." },
    Setting { name: "share.auto.offset.reset", kind: String, default: Some("latest"), check: Check::OffsetReset, importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "Where a share group begins in a partition it has not read: latest, earliest, or by_duration: and how far back." },
    Setting { name: "share.delivery.count.limit", kind: Int, default: Some("5"), check: Check::AtLeast(2), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.delivery.count.limit"], doc: "How often a record is given out before it is archived." },
    Setting { name: "share.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.heartbeat.interval.ms"], doc: "How often members are told to report." },
    Setting { name: "share.isolation.level", kind: String, default: Some("read_uncommitted"), check: Check::OneOf(&["read_committed", "read_uncommitted"]), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "Whether a share group gets records of transactions that have not been committed." },
    Setting { name: "share.partition.max.record.locks", kind: Int, default: Some("2000"), check: Check::AtLeast(100), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.partition.max.record.locks"], doc: "Most records of one partition that may be given out at a time." },
    Setting { name: "share.record.lock.duration.ms", kind: Int, default: Some("30000"), check: Check::AtLeast(1000), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.record.lock.duration.ms"], doc: "How long a consumer may hold a record before it is given to another." },
    Setting { name: "share.renew.acknowledge.enable", kind: Boolean, default: Some("true"), check: Check::Any, importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &[], doc: "Whether a consumer may ask for more time for a record it holds." },
    Setting { name: "share.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.share.session.timeout.ms"], doc: "A member that is silent for this long is taken out of its group." },
    Setting { name: "streams.assignment.interval.ms", kind: Int, default: Some("1000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.streams.assignment.interval.ms"], doc: "Time between two assignments of one group at least." },
    Setting { name: "streams.heartbeat.interval.ms", kind: Int, default: Some("5000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.streams.heartbeat.interval.ms"], doc: "How often members are told to report." },
    Setting { name: "streams.initial.rebalance.delay.ms", kind: Int, default: Some("3000"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.streams.initial.rebalance.delay.ms"], doc: "How long a new group waits for more members before it gives out tasks." },
    Setting { name: "streams.num.standby.replicas", kind: Int, default: Some("0"), check: Check::AtLeast(0), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.streams.num.standby.replicas"], doc: "Copies of the state of each task." },
    Setting { name: "streams.session.timeout.ms", kind: Int, default: Some("45000"), check: Check::AtLeast(1), importance: Medium, update: Update::ClusterWide, status: Status::Honoured, synonyms: &["group.streams.session.timeout.ms"], doc: "A member that is silent for this long is taken out of its group." },
];
