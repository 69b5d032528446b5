//! Replicates opaque batches: openraft over core-pinning and storage
