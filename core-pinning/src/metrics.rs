//! Per-shard numbers, registered by name and read from any thread.
