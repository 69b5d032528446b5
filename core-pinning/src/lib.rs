//! Shards: one pinned reactor a core, with its sockets, files, timers and messages
