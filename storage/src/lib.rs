//! One partition's bytes on one shard: the words (`model`), Kafka's record batches (`record`), what is remembered of
//! producers (`producer_state`) and of leader epochs (`epoch_cache`), and the log on disk.

pub mod epoch_cache;
pub mod model;
pub mod producer_state;
pub mod record;
pub mod sealed;
