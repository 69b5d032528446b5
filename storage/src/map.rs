//! Hash maps whose walks are the same in every run of a simulation.

/// Hashbrown's, with a hasher that in a simulation has no seed of the process. Made by `default`.
pub(crate) type HashMap<K, V> = hashbrown::HashMap<K, V, Hasher>;

/// The same for sets.
pub(crate) type HashSet<K> = hashbrown::HashSet<K, Hasher>;

#[cfg(not(sim))]
type Hasher = hashbrown::DefaultHashBuilder;
#[cfg(sim)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
