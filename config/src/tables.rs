//! Written by scripts/generate-configs: one file a scope.

pub(crate) mod broker;
pub(crate) mod client_metrics;
pub(crate) mod group;
pub(crate) mod topic;
