//! Random values and canonical text of every message, under the feature `reflect` (tests and fuzzing only).

#[cfg(not(feature = "reflect"))]
macro_rules! reflect {
    ($($ignored:tt)*) => {};
}
