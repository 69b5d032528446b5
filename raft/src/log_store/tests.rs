//! What openraft expects of a log store and reader, asked of the partition's log.
//!
//! openraft's own suite begins with logs that hold nothing, at index 0 or 1 as it likes; a partition's log has its vote
//! and its membership entry from the start. So the same questions are asked here, from that start.

use core_pinning::run_local;
use futures::StreamExt;
use openraft::StorageHelper;
use openraft::storage::RaftLogStorageExt;

use super::*;
use crate::state_machine::StateMachine;
use crate::tests::Shard;
use crate::type_config::RaftMembership;

fn id(term: u64, index: u64) -> RaftLogId {
    raft_log_id(LogId::new(Term(term), RaftIndex(index)))
}

fn blank(term: u64, index: u64) -> RaftEntry {
    RaftEntry::new(id(term, index), EntryPayload::Blank)
}

fn membership(term: u64, index: u64, voters: &[u64]) -> RaftEntry {
    let membership = RaftMembership::new_with_defaults(vec![voters.iter().copied().collect()], []);
    RaftEntry::new(id(term, index), EntryPayload::Membership(membership))
}

fn ids(entries: &[RaftEntry]) -> Vec<RaftLogId> {
    entries.iter().map(|e| e.log_id).collect()
}

/// A store whose log has (1,0) membership, (1,1) (1,2) batches, (3,3) blank, (3,4) batch, (4,5) blank.
async fn filled() -> (Shard, LogStore) {
    let shard = Shard::start().await;
    let group = shard.open(0).await;
    let mut store = LogStore::new(group.0.clone());
    let vote = |term| RaftVote::new_committed(term, 7);
    for (term, index, data) in [(1, 1, true), (1, 2, true), (3, 3, false), (3, 4, true), (4, 5, false)] {
        store.save_vote(&vote(term)).await.unwrap();
        let mut entry = blank(term, index);
        if data {
            let batch = crate::tests::batch(Term(term), group.log().bounds().log_end);
            entry.payload = EntryPayload::Normal(Produce { batch, ticket: None });
        }
        store.blocking_append([entry]).await.unwrap();
    }
    (shard, store)
}

#[test]
fn votes_read_back() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        for (term, committed) in [(5, false), (5, true), (6, false)] {
            let vote = if committed { RaftVote::new_committed(term, 7) } else { RaftVote::new(term, 9) };
            store.save_vote(&vote).await.unwrap();
            assert_eq!(store.get_log_reader().await.read_vote().await.unwrap(), Some(vote));
        }
        shard.close().await;
    });
}

#[test]
fn entries_read_back_with_their_ids() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        let all = [id(1, 0), id(1, 1), id(1, 2), id(3, 3), id(3, 4), id(4, 5)];
        for start in 0..7 {
            for end in start..8 {
                let want = &all[start.min(6)..end.min(6)];
                let got = store.try_get_log_entries(start as u64..end as u64).await.unwrap();
                assert_eq!(ids(&got), want, "{start}..{end}");
                let stream = store.entries_stream(start as u64..end as u64).await;
                let got: Vec<_> = stream.map(|e| e.unwrap()).collect().await;
                assert_eq!(ids(&got), want, "{start}..{end}");
                if start < end && start < 6 {
                    let got = store.limited_get_log_entries(start as u64, end as u64).await.unwrap();
                    assert_eq!(ids(&got), want, "{start}..{end}");
                    let lens: Vec<_> = got
                        .iter()
                        .map(|e| matches!(&e.payload, EntryPayload::Normal(p) if !p.batch.is_empty()))
                        .collect();
                    assert_eq!(lens, [false, true, true, false, true, false][start..end.min(6)]);
                }
            }
        }
        let first = store.try_get_log_entries(0..=0).await.unwrap().remove(0);
        assert!(matches!(first.payload, EntryPayload::Membership(m) if m.voter_ids().eq([7])));
        shard.close().await;
    });
}

#[test]
fn replication_reads_are_bounded_by_bytes() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let mut store = LogStore::new(group.0.clone());
        for i in 1..=12 {
            let batch = crate::tests::batch_of(Term(1), group.log().bounds().log_end, 400_000);
            let entry = RaftEntry::new(id(1, i), EntryPayload::Normal(Produce { batch, ticket: None }));
            store.blocking_append([entry]).await.unwrap();
        }
        assert_eq!(store.limited_get_log_entries(1, 13).await.unwrap().len(), 2);
        assert_eq!(store.limited_get_log_entries(12, 13).await.unwrap().len(), 1);
        shard.close().await;
    });
}

#[test]
fn a_stream_for_a_leader_ends_with_its_vote() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        let leader = |term| LeaderIdOf::<TypeConfig>::new(term, 7);
        let got: Vec<_> = store.leader_bounded_stream(leader(4), 1..4).await.map(|e| e.unwrap()).collect().await;
        assert_eq!(ids(&got), [id(1, 1), id(1, 2), id(3, 3)]);
        let got: Vec<_> = store.leader_bounded_stream(leader(3), 1..4).await.collect().await;
        assert!(matches!(got[..], [Err(LeaderBoundedStreamError::LeaderChanged(_))]));
        shard.close().await;
    });
}

#[test]
fn openraft_finds_its_place() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        let slot = store.0.clone();
        for known in [false, true] {
            slot.replica.survey();
            let mut sm = StateMachine::new(slot.clone());
            let state = StorageHelper::new(&mut store, &mut sm).with_id(7).get_initial_state().await.unwrap();
            assert_eq!(*state.vote_ref(), RaftVote::new_committed(4, 7), "known: {known}");
            let found: Vec<_> = (0..7).map(|i| state.log_ids.get(i)).collect();
            let all = [id(1, 0), id(1, 1), id(1, 2), id(3, 3), id(3, 4), id(4, 5)];
            assert_eq!(found, all.into_iter().map(Some).chain([None]).collect::<Vec<_>>(), "known: {known}");
            assert!(state.membership_state.effective().voter_ids().eq([7]));
            assert_eq!(slot.replica.leaders.borrow().last_of_terms().map(<[_]>::len), Some(3));
        }
        shard.close().await;
    });
}

#[test]
fn a_later_membership_is_found_in_the_log() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        store.blocking_append([membership(4, 6, &[7, 8]), blank(4, 7)]).await.unwrap();
        let mut sm = StateMachine::new(store.0.clone());
        let found = StorageHelper::new(&mut store, &mut sm).last_membership_in_log(0).await.unwrap();
        assert_eq!(found.iter().map(|m| *m.log_id()).collect::<Vec<_>>(), [Some(id(1, 0)), Some(id(4, 6))]);
        assert!(found[1].voter_ids().eq([7, 8]));
        shard.close().await;
    });
}

#[test]
fn truncation_and_append_after_it() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        let slot = store.0.clone();
        slot.replica.survey();
        store.truncate_after(Some(id(1, 2))).await.unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(id(1, 2)));
        assert_eq!(ids(&store.try_get_log_entries(..).await.unwrap()), [id(1, 0), id(1, 1), id(1, 2)]);
        store.save_vote(&RaftVote::new_committed(9, 7)).await.unwrap();
        store.blocking_append([blank(9, 3), blank(9, 4)]).await.unwrap();
        assert_eq!(store.get_key_log_ids(id(1, 0)..=id(9, 4)).await.unwrap(), [id(1, 2), id(9, 4)]);
        assert_eq!(slot.replica.leaders.borrow().term_at(RaftIndex(3)), Some(Term(9)));
        shard.close().await;
    });
}

#[test]
fn purged_entries_are_not_missed() {
    run_local(async || {
        let (shard, mut store) = filled().await;
        let slot = store.0.clone();
        slot.replica.advance(LogId::new(Term(4), RaftIndex(5)));
        slot.replica.survey();
        let all = [id(1, 0), id(1, 1), id(1, 2), id(3, 3), id(3, 4), id(4, 5)];
        for (purged, terms) in [(1, 3), (3, 2), (5, 0)] {
            store.purge(all[purged]).await.unwrap();
            let state = store.get_log_state().await.unwrap();
            assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(all[purged]), Some(all[5])));
            assert_eq!(slot.replica.leaders.borrow().last_of_terms().unwrap().len(), terms);
            let mut sm = StateMachine::new(slot.clone());
            let state = StorageHelper::new(&mut store, &mut sm).with_id(7).get_initial_state().await.unwrap();
            assert_eq!(state.log_ids.purged(), Some(&all[purged]));
            assert_eq!(state.log_ids.get(5), Some(all[5]));
        }
        store.blocking_append([blank(4, 6)]).await.unwrap();
        assert_eq!(store.get_key_log_ids(id(4, 6)..=id(4, 6)).await.unwrap(), [id(4, 6)]);
        shard.close().await;
    });
}
