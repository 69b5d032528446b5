//! Users of SCRAM: made, changed, told of and taken away over the wire, and there after a restart.

use crate::sasl::{open, start};
use corelane_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsRequestScramCredentialDeletion as Deletion,
    AlterUserScramCredentialsRequestScramCredentialUpsertion as Upsertion, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsRequestUserName as UserName,
};
use corelane_sasl::Mechanism;
use corelane_sasl::scram::Hash;
use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::sasl::authenticate;
use std::num::NonZeroU32;

fn upsertion(user: &str, hash: Hash, iterations: i32, password: &str) -> Upsertion {
    let counted = NonZeroU32::new(iterations.max(1).unsigned_abs()).expect("not zero");
    Upsertion {
        name: user.to_owned().into(),
        mechanism: hash.code(),
        iterations,
        salt: (&b"0123456789"[..]).into(),
        salted_password: hash.salted_password(password, b"0123456789", counted).into(),
        ..Default::default()
    }
}

fn deletion(user: &str, mechanism: i8) -> Deletion {
    Deletion { name: user.to_owned().into(), mechanism, ..Default::default() }
}

/// Users and error codes.
fn alter(connection: &mut Connection, deletions: Vec<Deletion>, upsertions: Vec<Upsertion>) -> Vec<(String, i16)> {
    let answer = connection.call(0, &AlterUserScramCredentialsRequest { deletions, upsertions, ..Default::default() });
    answer.results.into_iter().map(|r| (r.user.to_string(), r.error_code)).collect()
}

/// Its name, the error code, and what it has: mechanisms and iterations.
type Described = (String, i16, Vec<(i8, i32)>);

fn describe(connection: &mut Connection, users: &[&str]) -> Vec<Described> {
    let name = |user: &&str| UserName { name: (*user).to_owned().into(), ..Default::default() };
    let users = Some(users.iter().map(name).collect());
    let answer = connection.call(0, &DescribeUserScramCredentialsRequest { users, ..Default::default() });
    assert_eq!(answer.error_code, 0);
    let infos = |r: &[_]| -> Vec<(i8, i32)> {
        r.iter()
            .map(|i: &corelane_protocol::messages::DescribeUserScramCredentialsResponseCredentialInfo| {
                (i.mechanism, i.iterations)
            })
            .collect()
    };
    answer.results.iter().map(|r| (r.user.to_string(), r.error_code, infos(&r.credential_infos))).collect()
}

fn may_come(broker: &Broker, hash: Hash, user: &str, password: &str) -> bool {
    authenticate(&mut open(broker), Mechanism::Scram(hash), user, password).is_ok()
}

#[test]
fn users_are_made_changed_and_taken_away() {
    if !is_corelane() {
        return;
    }
    let (mut broker, _) = start("sasl-users", &[]);
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let alice = ("alice".to_owned(), 0, vec![(1, 4096), (2, 4096)]);
    assert_eq!(describe(&mut connection, &[]), [alice, ("bob".to_owned(), 0, vec![(2, 8192)])]);
    let made = alter(
        &mut connection,
        Vec::new(),
        vec![upsertion("carol", Hash::Sha256, 5000, "c=1,"), upsertion("o,=k", Hash::Sha512, 16384, "p")],
    );
    assert_eq!(made, [("carol".to_owned(), 0), ("o,=k".to_owned(), 0)]);
    assert!(may_come(&broker, Hash::Sha256, "carol", "c=1,") && may_come(&broker, Hash::Sha512, "o,=k", "p"));
    alter(&mut connection, vec![deletion("bob", 2)], vec![upsertion("carol", Hash::Sha256, 4096, "other")]);
    // One request, all that may go wrong; users by name.
    let wrong = alter(
        &mut connection,
        vec![deletion("bob", 2), deletion("", 1), deletion("alice", 9), deletion("carol", 1)],
        vec![
            upsertion("carol", Hash::Sha256, 4096, "x"),
            upsertion("few", Hash::Sha256, 4095, "x"),
            upsertion("many", Hash::Sha512, 16385, "x"),
            upsertion("twice", Hash::Sha256, 4096, "x"),
            upsertion("twice", Hash::Sha512, 4096, "x"),
            Upsertion { mechanism: 0, ..upsertion("unknown", Hash::Sha256, 4096, "x") },
        ],
    );
    let expected = [
        ("", 93),
        ("alice", 33),
        ("bob", 91),
        ("carol", 92),
        ("few", 93),
        ("many", 93),
        ("twice", 92),
        ("unknown", 33),
    ];
    assert_eq!(wrong, expected.map(|(user, code)| (user.to_owned(), code)));
    let asked = describe(&mut connection, &["carol", "nobody", "alice", "alice"]);
    let codes: Vec<_> = asked.iter().map(|(user, code, _)| (user.as_str(), *code)).collect();
    assert_eq!(codes, [("alice", 92), ("carol", 0), ("nobody", 91)]);
    for _ in 0..2 {
        assert!(may_come(&broker, Hash::Sha256, "carol", "other") && !may_come(&broker, Hash::Sha256, "carol", "c=1,"));
        assert!(
            may_come(&broker, Hash::Sha256, "alice", "scram-secret")
                && !may_come(&broker, Hash::Sha512, "bob", "bobs-secret")
        );
        // The file of the start names bob again, but it was for the first time.
        broker.kill();
        broker.resume();
    }
}
