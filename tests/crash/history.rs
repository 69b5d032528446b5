//! What clients did in transactions and were told of it, held against what is there in the end (after Elle, Kingsbury and Alvaro 2020).
//!
//! Every value is written once, so a read says which transaction it saw. Each partition is a list that transactions append to; what is
//! consumed moves a position from one offset to another in the transaction, which is a read and a write of a register. Apache Kafka
//! does not promise to order the transactions of several producers in all partitions alike (their appends may interleave), nor that
//! one sees another in all partitions at once. What it does promise is checked:
//!
//! - a committed transaction is whole in the end, an aborted one is not there, and one of unknown end is either;
//! - nothing is there twice, or was never written;
//! - a reader of what is committed sees each list as it is in the end: no value that goes away, none that comes in between later;
//! - transactions of one producer are in every list in their order;
//! - positions move from where the transaction before left them: nothing is consumed twice or passed over;
//! - reads and moves (wr, ww, rw on positions; wr and the order of a producer on lists) have no cycle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Of a transaction, and of one of its values.
pub type Number = usize;
pub type Value = (Number, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub number: Number,
    /// Its transactional id.
    pub producer: usize,
    pub outcome: Outcome,
    /// Partition and value.
    pub appends: Vec<(usize, Value)>,
    /// The position that it moved, from where to where.
    pub moved: Option<(usize, i64, i64)>,
    /// Values of other transactions that it saw.
    pub saw: Vec<Value>,
}

/// What a reader of committed values saw of a list, from where it began.
pub type Session = Vec<(i64, Value)>;

pub struct History {
    pub transactions: Vec<Transaction>,
    /// Partition and what was seen of it.
    pub sessions: Vec<(usize, Session)>,
    /// The lists as they are in the end: offset and value.
    pub lists: Vec<Vec<(i64, Value)>>,
    /// Positions as they are in the end.
    pub positions: Vec<i64>,
}

impl History {
    pub fn check(&self) -> Result<usize, String> {
        let effective = self.effective()?;
        self.check_sessions()?;
        let mut edges = self.moves(&effective)?;
        edges.extend(self.orders(&effective)?);
        for transaction in effective.values() {
            let seen = transaction.saw.iter().map(|(writer, _)| *writer);
            edges.extend(seen.filter(|writer| *writer != transaction.number).map(|w| (w, transaction.number)));
        }
        match cycle(&edges) {
            Some(cycle) => Err(format!("a cycle of transactions: {cycle:?}")),
            None => Ok(effective.len()),
        }
    }

    /// The transactions that took place.
    fn effective(&self) -> Result<BTreeMap<Number, &Transaction>, String> {
        let mut there: HashMap<Value, usize> = HashMap::new();
        for (partition, list) in self.lists.iter().enumerate() {
            for (offset, value) in list {
                if there.insert(*value, partition).is_some() {
                    return Err(format!("{value:?} is there twice, again in partition {partition} at {offset}"));
                }
            }
        }
        let mut effective = BTreeMap::new();
        for transaction in &self.transactions {
            let found = transaction.appends.iter().filter(|(p, value)| there.remove(value) == Some(*p)).count();
            let wanted = transaction.appends.len();
            match transaction.outcome {
                Outcome::Aborted if found > 0 => {
                    return Err(format!("an aborted transaction is there: {transaction:?}"));
                }
                Outcome::Committed if found < wanted => {
                    return Err(format!("a committed transaction has {found} of {wanted} values: {transaction:?}"));
                }
                Outcome::Unknown if found != 0 && found != wanted => {
                    return Err(format!("a transaction has {found} of {wanted} values: {transaction:?}"));
                }
                _ if found > 0 => drop(effective.insert(transaction.number, transaction)),
                _ => {}
            }
        }
        match there.into_keys().next() {
            Some(value) => Err(format!("nobody wrote {value:?}")),
            None => Ok(effective),
        }
    }

    fn check_sessions(&self) -> Result<(), String> {
        for (partition, session) in &self.sessions {
            let Some((first, _)) = session.first() else { continue };
            let list = &self.lists[*partition];
            let from = list.partition_point(|(offset, _)| offset < first);
            let now = &list[from..list.len().min(from + session.len())];
            if let Some(n) = (0..session.len()).find(|n| now.get(*n) != Some(&session[*n])) {
                let (seen, is) = (&session[n], now.get(n));
                return Err(format!("partition {partition}: a reader saw {seen:?} where in the end is {is:?}"));
            }
        }
        Ok(())
    }

    /// The order in which each position was moved.
    fn moves(&self, effective: &BTreeMap<Number, &Transaction>) -> Result<Vec<(Number, Number)>, String> {
        let mut edges = Vec::new();
        for (position, end) in self.positions.iter().enumerate() {
            let of = |t: &&Transaction| t.moved.filter(|(moved, ..)| *moved == position).map(|m| (m.1, m.2, t.number));
            let mut moves: Vec<(i64, i64, Number)> = effective.values().filter_map(of).collect();
            moves.sort_unstable();
            let mut at = 0;
            for (from, to, number) in &moves {
                if *from != at {
                    return Err(format!("transaction {number} moved position {position} from {from}, it was at {at}"));
                }
                at = *to;
            }
            if at != *end {
                return Err(format!("position {position} was moved to {at} and is at {end}"));
            }
            edges.extend(moves.windows(2).map(|pair| (pair[0].2, pair[1].2)));
        }
        Ok(edges)
    }

    /// The order in which the transactions of each producer are in each list.
    fn orders(&self, effective: &BTreeMap<Number, &Transaction>) -> Result<Vec<(Number, Number)>, String> {
        let mut edges = BTreeSet::new();
        for (partition, list) in self.lists.iter().enumerate() {
            let mut last: HashMap<usize, Value> = HashMap::new();
            for (_, value) in list {
                let Some(transaction) = effective.get(&value.0) else { continue };
                if let Some(before) = last.insert(transaction.producer, *value) {
                    if before.0 == value.0 && before.1 > value.1 {
                        return Err(format!("partition {partition}: {before:?} is before {value:?}"));
                    }
                    if before.0 != value.0 {
                        edges.insert((before.0, value.0));
                    }
                }
            }
        }
        Ok(edges.into_iter().collect())
    }
}

/// A cycle in a directed graph.
fn cycle(edges: &[(Number, Number)]) -> Option<Vec<Number>> {
    let mut next: HashMap<Number, BTreeSet<Number>> = HashMap::new();
    let mut before: HashMap<Number, usize> = HashMap::new();
    for (from, to) in edges {
        before.entry(*from).or_default();
        if next.entry(*from).or_default().insert(*to) {
            *before.entry(*to).or_default() += 1;
        }
    }
    let mut free: Vec<Number> = before.iter().filter(|(_, count)| **count == 0).map(|(n, _)| *n).collect();
    while let Some(node) = free.pop() {
        before.remove(&node);
        for to in next.get(&node).into_iter().flatten() {
            let count = before.get_mut(to)?;
            *count -= 1;
            if *count == 0 {
                free.push(*to);
            }
        }
    }
    // What is left is on a cycle or behind one: go backwards until something comes again.
    let mut at = *before.keys().min()?;
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = *before.keys().filter(|from| next.get(from).is_some_and(|to| to.contains(&at))).min()?;
    }
    let begin = path.iter().position(|node| *node == at)?;
    path.drain(..begin);
    path.reverse();
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(number: Number, appends: &[(usize, usize)], saw: &[Value]) -> Transaction {
        let appends = appends.iter().map(|(partition, n)| (*partition, (number, *n))).collect();
        Transaction { number, producer: number, outcome: Outcome::Committed, appends, moved: None, saw: saw.to_vec() }
    }

    /// Two transactions in two lists, the second of which saw the first; one that was aborted.
    fn good() -> History {
        let mut aborted = transaction(3, &[(0, 0)], &[]);
        aborted.outcome = Outcome::Aborted;
        let mut transactions =
            vec![transaction(1, &[(0, 0), (1, 1)], &[]), transaction(2, &[(0, 0), (1, 1)], &[(1, 0)]), aborted];
        transactions[0].moved = Some((0, 0, 4));
        transactions[1].moved = Some((0, 4, 5));
        History {
            transactions,
            sessions: vec![(0, vec![(0, (1, 0)), (4, (2, 0))])],
            lists: vec![vec![(0, (1, 0)), (4, (2, 0))], vec![(0, (1, 1)), (2, (2, 1))]],
            positions: vec![5],
        }
    }

    fn refuses(what: &str, spoil: impl FnOnce(&mut History)) {
        let mut history = good();
        spoil(&mut history);
        let why = history.check().expect_err(what);
        assert!(why.contains(what), "{why}");
    }

    #[test]
    fn a_history_is_refused_for_each_kind_of_harm() {
        assert_eq!(good().check(), Ok(2));
        refuses("1 of 2 values", |h| h.lists[1].truncate(1));
        refuses("1 of 2 values", |h| {
            h.lists[1].pop();
            h.transactions[1].outcome = Outcome::Unknown;
        });
        refuses("twice", |h| h.lists[0].push((9, (1, 0))));
        refuses("an aborted transaction is there", |h| h.lists[0].push((9, (3, 0))));
        refuses("nobody wrote", |h| h.lists[0].push((9, (7, 0))));
        refuses("a reader saw", |h| h.sessions[0].1.insert(1, (2, (3, 0))));
        refuses("a reader saw", |h| h.sessions[0].1.push((6, (9, 9))));
        refuses("moved position", |h| h.transactions[1].moved = Some((0, 3, 5)));
        refuses("is at", |h| h.positions[0] = 4);
        refuses("a cycle", |h| h.transactions[0].saw.push((2, 1)));
        refuses("a cycle", |h| {
            h.transactions[1].producer = 1;
            h.transactions[1].saw.clear();
            h.lists[1] = vec![(0, (2, 1)), (2, (1, 1))];
        });
    }
}
