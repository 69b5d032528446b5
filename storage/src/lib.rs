//! One partition's bytes on one shard
