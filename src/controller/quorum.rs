//! How far the metadata log is: for those who watch it.

use std::future::{Future, ready};
use std::rc::Rc;

use corelane_storage::model::{Offset, Term};

use crate::router::ShardCall;
use crate::shard::Shard;

/// Where the metadata log ends, by the one who leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataLogState {
    pub term: Term,
    pub high_watermark: Offset,
    pub end: Offset,
}

pub struct DescribeMetadataLog;

impl ShardCall for DescribeMetadataLog {
    type Reply = MetadataLogState;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = MetadataLogState> + 'static {
        ready(shard.controller().log.state())
    }
}
