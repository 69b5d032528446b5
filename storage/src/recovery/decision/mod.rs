//! What a start does with what it finds, as tables: the code gathers the findings, asks the table, and does what it says.
//!
//! | table          | of what                                                    | asked by                         |
//! |----------------|------------------------------------------------------------|----------------------------------|
//! | [`directory`]  | a data directory                                           | `data_dir`                       |
//! | [`directory_name`] | a directory in `data/`                                 | `recovery`, `store::strays`      |
//! | [`journal`]    | the journal of one shard of the last run                   | `recovery`                       |
//! | [`replay`]     | a partition that has records in a journal                  | `recovery::replay`               |
//! | [`partition`]  | the directory of a partition that the metadata names       | `Store::load_or_create`          |
//! | [`leftover`]   | the files in a partition's directory                       | `compaction::swap`, `log::load`  |
//! | [`log`]        | the state file and the segments of a partition             | `log::load`                      |
//! | [`index`]      | a segment's index, when the log is opened or it is asked for | `log::chain`, `log::index`     |
//! | [`batch`]      | a batch of a segment, when it is read                      | `log::index`, `log::cursor`      |
//! | [`aborted`]    | a segment's `.txnindex`, when it is asked for              | `log::aborted`                   |
//!
//! One rule is behind all of them. What was acknowledged is in the journal, or in segments that were synced before the journal
//! gave it up; each shard's ledger says which journal files and which partitions there must be. So whatever is behind the last
//! durable byte was never acknowledged and is cut off, and whatever is missing or damaged before it is damage: it is reported
//! with its place, the partition is fenced (or the start refused, where it is not known which partitions are concerned), and
//! no file is changed. A row's reason is its prose. Rows do not overlap and leave nothing out; the tests go through all
//! combinations.
//!
//! # Every input
//!
//! As a test makes each on a real directory, and prints it (`tests/damage/situations.rs`):
//!
#![doc = include_str!("../situations.md")]
//! # What cannot be told
//!
//! | found                          | could be                                    | taken for | why, and what an operator can do         |
//! |--------------------------------|---------------------------------------------|-----------|------------------------------------------|
//! | an empty data directory        | a new node, or the mount point of a disk that is not mounted | a new node | what would tell is on the disk that is missing; `storage.directory.create=false` has such a start refused |
//! | a damaged record at the journal's end, of which no later record says that it was durable | a torn write, or damage to the last writes before the crash (two at most are under way) | a torn write | every write says what was durable before it, so only the last ones have no witness; refusing here would refuse after every crash. The batch they end in is lost, and nothing before it |
//! | the same, and all that came after it in the same sectors damaged with it | as before        | a torn write | the witness goes with what it is a witness of: the last records are small, and stand together |
//! | a batch of a compacted segment whose base offset is another that lies between its neighbours | what compaction left | whole | no CRC covers it, and the offsets around it are gone; elsewhere, and of leader epochs, it is noticed |
//! | a `.snap`, whole, with the producers of another time or another log | one that was put in the place of another | what was known of the producers then | a start reads one of them and not the log before it; `corelane check` compares them with the log |
//! | a closed segment and all that is known of where it ends (`.idx`, `indexes`) gone or damaged together | one that is short by whole batches | whole, until it is read | its bytes are not read at a start; `corelane check` reads them |

pub(crate) mod aborted;
pub(crate) mod batch;
pub(crate) mod directory;
pub(crate) mod directory_name;
pub(crate) mod index;
pub(crate) mod journal;
pub(crate) mod leftover;
pub(crate) mod log;
pub(crate) mod partition;
pub(crate) mod replay;

/// A column of a row: the findings it is for; none means all.
pub(crate) type Of<T> = &'static [T];

pub(crate) fn fits<T: PartialEq>(of: Of<T>, found: T) -> bool {
    of.is_empty() || of.contains(&found)
}

/// A kind of finding, with the list of its values.
macro_rules! finding {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name { $($(#[$value_doc])* $value,)+ }

        #[cfg(test)]
        impl $name {
            pub(crate) const ALL: &[$name] = &[$($name::$value,)+];
        }
    };
}

/// A table: its findings, the row type, and `decide`.
macro_rules! table {
    ($rows:ident: $($column:ident: $finding:ident),+ => $decision:ident) => {
        /// What is found, what is then done, and why.
        pub(crate) struct Row {
            $($column: Of<$finding>,)+
            pub(crate) then: $decision,
            pub(crate) why: &'static str,
        }

        const fn row($($column: Of<$finding>,)+ then: $decision, why: &'static str) -> Row {
            Row { $($column,)+ then, why }
        }

        /// The row for what was found.
        pub(crate) fn decide($($column: $finding),+) -> &'static Row {
            match $rows.iter().find(|row| true $(&& fits(row.$column, $column))+) {
                Some(row) => row,
                None => unreachable!("the table leaves nothing out: {:?}", ($($column),+,)),
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn every_combination_has_one_row_and_every_row_a_combination() {
                let mut used = vec![0; $rows.len()];
                crate::recovery::decision::combinations!([$($column: $finding),+] {
                    let found: Vec<usize> = (0..$rows.len()).filter(|at| true $(&& fits($rows[*at].$column, $column))+).collect();
                    assert_eq!(found.len(), 1, "{:?} fits the rows {found:?}", ($($column),+,));
                    used[found[0]] += 1;
                    assert!(std::ptr::eq(decide($($column),+), &$rows[found[0]]));
                });
                assert!(!used.contains(&0), "rows that nothing fits: {used:?}");
                assert!($rows.iter().all(|row| row.why.len() > 10));
            }
        }
    };
}

/// Runs a block for every combination of findings.
#[cfg(test)]
macro_rules! combinations {
    ([$column:ident: $finding:ident $(, $more:ident: $more_finding:ident)*] $do:block) => {
        for $column in $finding::ALL.iter().copied() {
            crate::recovery::decision::combinations!([$($more: $more_finding),*] $do);
        }
    };
    ([] $do:block) => { $do };
}

#[cfg(test)]
pub(crate) use combinations;
pub(crate) use {finding, table};
