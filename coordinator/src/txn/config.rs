//! What can be set about transactions.

/// Settings of the transaction coordinator. Names and defaults are those of the broker configurations named in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnConfig {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub timeout_check_interval_ms: i64,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub id_expiration_check_interval_ms: i64,
    /// Pause before a `Complete` record that could not be written is tried again. Kafka has no setting for it.
    pub retry_ms: i64,
}

impl Default for TxnConfig {
    fn default() -> TxnConfig {
        TxnConfig {
            max_timeout_ms: 15 * 60 * 1_000,
            timeout_check_interval_ms: 10_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            id_expiration_check_interval_ms: 60 * 60 * 1_000,
            retry_ms: 100,
        }
    }
}

impl TxnConfig {
    /// Whether a producer may ask for this timeout of its transactions.
    pub fn is_timeout(&self, timeout_ms: i32) -> bool {
        (1..=self.max_timeout_ms).contains(&timeout_ms)
    }
}
