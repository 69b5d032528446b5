//! Work that would hold a core for too long (signatures of large keys, say) goes to helper threads.

/// Runs `f` on a thread that is no shard's, and answers on this shard. It runs even if the future is dropped, so bound how many
/// are asked for. In a simulation it runs here.
pub async fn compute<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    #[cfg(not(sim))]
    return crate::shard::lane::current().reactor.clone().compute(f).await;
    #[cfg(sim)]
    f()
}
