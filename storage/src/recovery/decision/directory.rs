//! A data directory, before anything in it is touched.

use super::{Of, finding, fits, table};

finding!(Lock {
    Free,
    /// Another process has it.
    Held,
});

finding!(
    /// `meta.properties`.
    Meta {
        Absent,
        /// Its CRC does not match, or a field is missing.
        Damaged,
        /// Of a format that this release does not know.
        Newer,
        OtherNode,
        OtherCluster,
        Ours,
    }
);

finding!(
    /// `data`, `journal` and `ledger`.
    Contents {
        None,
        /// One of them is there.
        Some,
    }
);

finding!(
    /// Whether this start may make a new directory (`storage.directory.create`).
    Create {
        Allowed,
        Refused,
    }
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Format,
    Use,
    RefuseInUse,
    RefuseNewer,
    RefuseOtherNode,
    RefuseOtherCluster,
    RefuseDamaged,
    RefuseNameless,
    RefuseNew,
}

use Decision::*;

table!(ROWS: lock: Lock, meta: Meta, contents: Contents, create: Create => Decision);

static ROWS: &[Row] = &[
    row(&[Lock::Held], &[], &[], &[], RefuseInUse, "two processes that write one directory would destroy it"),
    row(&[Lock::Free], &[Meta::Ours], &[], &[], Use, "of this node and cluster; what must be in it, its ledgers say"),
    row(
        &[Lock::Free],
        &[Meta::Absent],
        &[Contents::None],
        &[Create::Allowed],
        Format,
        "nothing says that there was anything: a new node, or a disk that is not mounted, which cannot be told apart",
    ),
    row(
        &[Lock::Free],
        &[Meta::Absent],
        &[Contents::None],
        &[Create::Refused],
        RefuseNew,
        "the node had data, its operator says, and here is none: its disk may not be mounted",
    ),
    row(
        &[Lock::Free],
        &[Meta::Absent],
        &[Contents::Some],
        &[],
        RefuseNameless,
        "data of nobody knows which node: taking it could bring a partition's past back",
    ),
    row(&[Lock::Free], &[Meta::Damaged], &[], &[], RefuseDamaged, "whose data it is cannot be known"),
    row(
        &[Lock::Free],
        &[Meta::Newer],
        &[],
        &[],
        RefuseNewer,
        "a newer release may have written what this one misreads",
    ),
    row(&[Lock::Free], &[Meta::OtherNode], &[], &[], RefuseOtherNode, "its votes and leases are those of another node"),
    row(&[Lock::Free], &[Meta::OtherCluster], &[], &[], RefuseOtherCluster, "its topics are those of another cluster"),
];
