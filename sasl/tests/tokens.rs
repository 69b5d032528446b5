//! Tokens of OAUTHBEARER: which are believed, and that no forged one is.

#[path = "../../tests/src/issuer.rs"]
mod issuer;

use corelane_sasl::Identity;
use corelane_sasl::oauth::{Expected, KeySet, Unverified};
use issuer::{Issuer, base64, jwks};
use proptest::prelude::*;
use ring::hmac;

const NOW_S: i64 = 1_800_000_000;
const ISSUED_S: i64 = NOW_S - 7200;

fn expected() -> Expected {
    Expected {
        audience: vec!["kafka".into(), "corelane".into()],
        issuer: Some("https://issuer.example".into()),
        clock_skew_s: 30,
        subject_claim: "sub".into(),
        scope_claim: "scope".into(),
    }
}

fn claims_of(more: &str) -> String {
    format!(r#"{{"iss":"https://issuer.example","aud":"corelane","sub":"alice","iat":{ISSUED_S}{more}}}"#)
}

/// Right in all.
fn claims() -> String {
    claims_of(&format!(r#","exp":{},"scope":["read","write"],"more":{{"a":[1,null]}}"#, NOW_S + 60))
}

fn keys(text: &str) -> KeySet {
    KeySet::parse(text.as_bytes()).expect("a JWKS")
}

fn verify(token: &str, keys: &KeySet) -> Result<Identity, Unverified> {
    expected().verify(token, keys, NOW_S * 1000)
}

#[track_caller]
fn refused(token: &str, keys: &KeySet, why: &str) {
    let said = verify(token, keys).expect_err(why).to_string();
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_token_that_the_key_has_signed_is_believed() {
    let (old, new, stranger) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("new"));
    let set = keys(&jwks(&[&old, &new]));
    assert_eq!(set.len(), 2);
    let alice = Identity { expires_ms: Some((NOW_S + 60) * 1000), ..Identity::user("alice") };
    assert_eq!(verify(&old.token(&claims()), &set), Ok(alice.clone()));
    assert_eq!(verify(&new.token(&claims()), &set), Ok(alice.clone()));
    refused(&stranger.token(&claims()), &set, "signature is not that of the key");
    refused(&old.token_of(r#"{"alg":"ES256","kid":"new"}"#, &claims()), &set, "signature is not that");
    // Without a kid the first one is meant that may be.
    assert_eq!(verify(&old.token_of(r#"{"alg":"ES256"}"#, &claims()), &set), Ok(alice));
    let unknown = verify(&old.token_of(r#"{"alg":"ES256","kid":"newer"}"#, &claims()), &set);
    assert_eq!(unknown, Err(Unverified::UnknownKey { id: Some("newer".into()) }));
}

#[test]
fn no_forged_token_is_believed() {
    let issuer = Issuer::new("k");
    let set = keys(&jwks(&[&issuer]));
    let token = issuer.token(&claims());
    verify(&token, &set).expect("the token that is forged");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token}") };
    for name in ["none", "None", "NONE", ""] {
        let none = base64(format!(r#"{{"alg":"{name}","kid":"k"}}"#));
        for end in ["", "x", signature] {
            refused(&format!("{none}.{payload}.{end}"), &set, "is not taken");
        }
    }
    refused(&format!("{header}.{payload}."), &set, "signature is not that");
    // What everybody knows is no secret.
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        let signed = format!("{}.{payload}", base64(format!(r#"{{"alg":"{name}","kid":"k"}}"#)));
        for secret in [issuer.public_key(), &issuer.public_key()[1..], issuer.jwk().as_bytes(), b""] {
            let signature = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
            refused(&format!("{signed}.{}", base64(signature)), &set, "is not taken");
        }
    }
    let with_secret = keys(r#"{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}"#);
    assert!(with_secret.is_empty());
    // Another payload, another header, another signature.
    let root = base64(claims().replace("alice", "root"));
    refused(&format!("{header}.{root}.{signature}"), &set, "signature is not that");
    let typed = base64(r#"{"alg":"ES256","kid":"k","typ":"x"}"#);
    refused(&format!("{typed}.{payload}.{signature}"), &set, "signature is not that");
    refused(&issuer.token_of(r#"{"alg":"ES384","kid":"k"}"#, &claims()), &set, "no key of the JWKS");
    refused(&issuer.token_of(r#"{"alg":"EdDSA","kid":"k"}"#, &claims()), &set, "no key of the JWKS");
    refused(&issuer.token_of(r#"{"alg":"RS256","kid":"k"}"#, &claims()), &set, "no key of the JWKS");
    refused(&issuer.token_of(r#"{"alg":"es256","kid":"k"}"#, &claims()), &set, "is not taken");
    // A key that a token brings along is nobody's.
    let stranger = Issuer::new("k");
    let brought = format!(r#"{{"alg":"ES256","kid":"k","jwk":{},"jku":"http://x/"}}"#, stranger.jwk());
    refused(&stranger.token_of(&brought, &claims()), &set, "signature is not that");
    refused(&issuer.token_of(r#"{"alg":"ES256","kid":"k","crit":["b64"],"b64":true}"#, &claims()), &set, "critical");
    refused(&issuer.token_of(r#"{"kid":"k"}"#, &claims()), &set, "names no algorithm");
    refused(&issuer.token_of(r#"{"alg":"ES256","alg":"none","kid":"k"}"#, &claims()), &set, "its header is no JSON");
    refused(&issuer.token_of(r#"{"alg":"ES256","kid":7}"#, &claims()), &set, "its kid is no text");
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(1001));
    refused(&issuer.token_of(&long, &claims()), &set, "its kid is longer");
    // Other forms of the same bytes.
    refused(&format!("{token}."), &set, "three parts");
    refused(&format!("{header}.{payload}"), &set, "three parts");
    refused("", &set, "three parts");
    refused(&format!("{header}.{payload}.{signature}="), &set, "not in base64url");
    refused(&format!("{header}.{payload}=.{signature}"), &set, "signature is not that");
}

#[test]
fn keys_of_p521_sign_es512_and_nothing_else() {
    let (issuer, stranger, small) = (Issuer::of_p521("k"), Issuer::of_p521("k"), Issuer::new("small"));
    let set = keys(&jwks(&[&issuer, &small]));
    let token = issuer.token(&claims());
    assert_eq!(verify(&token, &set).expect("a user").user, "alice");
    refused(&stranger.token(&claims()), &set, "signature is not that");
    refused(
        &token.replace(&base64(claims()), &base64(claims().replace("alice", "root"))),
        &set,
        "signature is not that",
    );
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    // The signature of nothing, which fits everything where nobody looks at it, one of P-256's length, and one too long.
    for wrong in [vec![0; 132], vec![1; 132], vec![0xff; 132], vec![1; 64], vec![1; 133], Vec::new()] {
        refused(&format!("{signed}.{}", base64(wrong)), &set, "signature is not that");
    }
    refused(&format!("{signed}.{}", &signature[4..]), &set, "signature is not that");
    for algorithm in ["ES256", "ES384", "EdDSA", "RS512"] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
        refused(&issuer.token_of(&header, &claims()), &set, "no key of the JWKS");
    }
    refused(&small.token_of(r#"{"alg":"ES512","kid":"small"}"#, &claims()), &set, "no key of the JWKS");
    // A point that is not on the curve, and coordinates of another length.
    let jwk = issuer.jwk();
    let (x, y) = (&issuer.public_key()[1..67], &issuer.public_key()[67..]);
    let swapped = jwk.replace(&base64(x), "?").replace(&base64(y), &base64(x)).replace('?', &base64(y));
    refused(&token, &keys(&format!(r#"{{"keys":[{swapped}]}}"#)), "signature is not that");
    for wrong in [jwk.replace(&base64(x), &base64(&x[1..])), jwk.replace("P-521", "P-384")] {
        assert!(keys(&format!(r#"{{"keys":[{wrong}]}}"#)).is_empty(), "{wrong}");
    }
}

/// Which is of no use as a token: its payload is no JSON, and only who has signed it is told first.
#[test]
fn the_es512_signature_of_rfc_7515_is_that_of_its_key() {
    let jwk = concat!(
        r#"{"keys":[{"kty":"EC","crv":"P-521","#,
        r#""x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","#,
        r#""y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}]}"#
    );
    let token = concat!(
        "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.",
        "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2Y",
        "BJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
    );
    refused(token, &keys(jwk), "its claims are no JSON");
    refused(&token.replace("UGF5bG9hZA", "UGF5bG9hZB"), &keys(jwk), "signature is not that");
}

#[test]
fn claims_that_are_not_expected_are_refused() {
    let issuer = Issuer::new("k");
    let set = keys(&jwks(&[&issuer]));
    let until = |seconds: i64| format!(r#","exp":{}"#, NOW_S + seconds);
    let more = |text: &str| claims_of(&format!("{}{text}", until(60)));
    for right in [
        claims_of(&until(-29)),
        claims_of(&format!(r#","exp":{}.9"#, NOW_S + 60)),
        more(&format!(r#","nbf":{}"#, NOW_S + 30)),
        more(r#","jti":"x","scope":"a b""#),
        more(r#","scope":7"#),
        more("").replace(r#""aud":"corelane""#, r#""aud":["x","kafka"]"#),
        // As in Kafka nobody minds a token from the future that has not expired.
        more("").replace(&format!(r#""iat":{ISSUED_S}"#), &format!(r#""iat":{}"#, NOW_S + 50)),
        more("").replace("alice", " alice\\n"),
    ] {
        let identity = verify(&issuer.token(&right), &set).unwrap_or_else(|why| panic!("{right}: {why}"));
        assert_eq!(identity.user, "alice");
    }
    for (wrong, why) in [
        (claims_of(&until(-30)), "has expired"),
        (claims_of(&until(-3600)), "has expired"),
        (claims_of(""), "no claim exp"),
        (claims_of(r#","exp":"1900000000""#), "exp is no date"),
        (claims_of(r#","exp":1e99"#), "exp is no date"),
        (claims_of(r#","exp":9223372036854775807"#), "exp is no date"),
        (claims_of(r#","exp":true"#), "exp is no date"),
        (more("").replace(r#""iat""#, r#""iab""#), "no claim iat"),
        (more("").replace(&ISSUED_S.to_string(), "-1"), "dates contradict"),
        (more("").replace(&format!(r#""iat":{ISSUED_S}"#), &format!(r#""iat":{}"#, NOW_S + 61)), "dates contradict"),
        (more(&format!(r#","nbf":{}"#, NOW_S + 31)), "not valid yet"),
        (more(r#","nbf":"x""#), "nbf is no date"),
        (more("").replace("corelane", "corelane2"), "its audience"),
        (more("").replace(r#""corelane""#, "[]"), "its audience"),
        (more("").replace(r#""corelane""#, r#"["corelane",7]"#), "claim aud"),
        (more("").replace(r#""corelane""#, "7"), "claim aud"),
        (more("").replace(r#""aud":"corelane","#, ""), "its audience"),
        (more("").replace("https://issuer.example", "https://issuer.example/"), "its issuer"),
        (more("").replace(r#""https://issuer.example""#, "null"), "its issuer"),
        (more("").replace(r#""https://issuer.example""#, "7"), "iss is no text"),
        (more("").replace("alice", ""), "sub names nobody"),
        (more("").replace("alice", " \\t"), "sub names nobody"),
        (more("").replace(r#""sub":"alice","#, ""), "sub names nobody"),
        (more("").replace(r#""alice""#, r#"["alice"]"#), "sub is no text"),
        (more(r#","jti":7"#), "jti is no text"),
        (more(r#","scope":" ""#), "scope has something empty"),
        (more(r#","scope":["a","b"," a"]"#), "scope has something empty or twice"),
        (more(r#","scope":["a",7]"#), "scope has something empty"),
        (more(r#","sub":"root""#), "names that are unique"),
        (more(r#","exp":1900000000"#), "names that are unique"),
        (more(r#","x":{"a":1,"a":1}"#), "names that are unique"),
        ("[]".to_owned(), "no JSON"),
        ("alice".to_owned(), "no JSON"),
    ] {
        refused(&issuer.token(&wrong), &set, why);
    }
    // Other claims name the user and the scope.
    let renamed = Expected { subject_claim: "email".into(), scope_claim: "scp".into(), ..expected() };
    let token = issuer.token(&more(r#","email":"a@b.example","scp":["x"],"scope":["a","a"]"#));
    assert_eq!(renamed.verify(&token, &set, NOW_S * 1000).expect("a user").user, "a@b.example");
    refused(&token, &set, "scope has something empty or twice");
}

#[test]
fn where_no_audience_is_expected_none_is_taken() {
    let issuer = Issuer::new("k");
    let set = keys(&jwks(&[&issuer]));
    let open = Expected { audience: Vec::new(), issuer: None, ..expected() };
    let verify = |claims: &str| open.verify(&issuer.token(claims), &set, NOW_S * 1000).map_err(|e| e.to_string());
    assert_eq!(verify(&claims()), Err("its audience is another".to_owned()));
    let bare = format!(r#"{{"sub":"bob","iat":{NOW_S},"exp":{}}}"#, NOW_S + 1);
    assert_eq!(verify(&bare).expect("nobody's").user, "bob");
    assert_eq!(verify(&bare.replace("{", r#"{"iss":"anybody","#)).expect("anybody's").user, "bob");
}

#[test]
fn what_is_huge_is_refused_before_it_is_looked_at() {
    let issuer = Issuer::new("k");
    let set = keys(&jwks(&[&issuer]));
    let of = |len: usize| claims_of(&format!(r#","exp":{},"x":"{}""#, NOW_S + 60, "x".repeat(len)));
    verify(&issuer.token(&of(40_000)), &set).expect("a large one");
    refused(&issuer.token(&of(60_000)), &set, "longer than 65536");
    let header = format!(r#"{{"alg":"ES256","kid":"k","x":"{}"}}"#, "x".repeat(8000));
    refused(&issuer.token_of(&header, &claims()), &set, "its header is longer");
    let deep = format!(r#"{{"alg":"ES256","kid":"k","x":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000));
    refused(&issuer.token_of(&deep, &claims()), &set, "its header is no JSON");
    refused(&".".repeat(60_000), &set, "three parts");
}

#[test]
fn only_keys_that_may_verify_are_taken_from_a_jwks() {
    let issuer = Issuer::new("k");
    let token = issuer.token(&claims());
    let jwk = issuer.jwk();
    for right in [
        jwk.clone(),
        jwk.replace(r#""use":"sig","alg":"ES256","#, ""),
        jwk.replace(r#""use":"sig""#, r#""key_ops":["sign","verify"]"#),
    ] {
        verify(&token, &keys(&format!(r#"{{"keys":[7,{{}},{{"kty":"RSA"}},{right}]}}"#))).expect("a user");
    }
    for wrong in [
        jwk.replace("sig", "enc"),
        jwk.replace(r#""use":"sig""#, r#""key_ops":["sign"]"#),
        jwk.replace(r#""alg":"ES256""#, r#""alg":"ES384""#),
        jwk.replace("P-256", "P-384"),
        jwk.replace("P-256", "secp256k1"),
        jwk.replace(r#""kid":"k","#, ""),
        jwk.replace(r#""kty":"EC""#, r#""kty":"OKP""#),
        jwk.replace(r#""x":""#, r#""x":"AAAA"#),
    ] {
        assert!(verify(&token, &keys(&format!(r#"{{"keys":[{wrong}]}}"#))).is_err(), "{wrong}");
    }
    assert!(keys(r#"{"keys":[]}"#).is_empty());
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
        assert!(KeySet::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn keys_that_are_not_served_are_named() {
    let issuer = Issuer::new("k");
    let rsa = |id: &str, bytes: usize, first: u8| {
        let mut n = vec![1; bytes];
        n[0] = first;
        format!(r#"{{"kty":"RSA","kid":"{id}","n":"{}","e":"AQAB"}}"#, base64(n))
    };
    let ed448 = format!(r#"{{"kty":"OKP","crv":"Ed448","kid":"edwards","x":"{}"}}"#, base64([1; 57]));
    let none_of_its_business = ed448.replace(r#""kty""#, r#""use":"enc","kty""#);
    let all = [
        rsa("largest", 1024, 0x80),
        rsa("larger", 1025, 1),
        rsa("small", 255, 0xff),
        ed448,
        none_of_its_business,
        issuer.jwk().replace("P-256", "secp256k1").replace(r#""kid":"k""#, r#""kid":"koblitz""#),
        r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
        issuer.jwk(),
    ];
    let set = keys(&format!(r#"{{"keys":[{}]}}"#, all.join(",")));
    let unserved: Vec<_> = set.unserved().iter().map(|u| (u.id.as_deref(), u.kind.as_str())).collect();
    assert_eq!(
        unserved,
        [
            (Some("larger"), "an RSA key of 8193 bits (2048 to 8192 are)"),
            (Some("small"), "an RSA key of 2040 bits (2048 to 8192 are)"),
            (Some("edwards"), r#"a key of "OKP" on the curve "Ed448""#),
            (Some("koblitz"), r#"a key of "EC" on the curve "secp256k1""#),
            (None, r#"a key of "oct""#),
        ]
    );
    assert_eq!(set.len(), 2);
    refused(&issuer.token_of(r#"{"alg":"EdDSA","kid":"edwards"}"#, &claims()), &set, "Ed448\", which is not served");
    refused(&issuer.token_of(r#"{"alg":"RS256","kid":"larger"}"#, &claims()), &set, "of 8193 bits");
    refused(&issuer.token_of(r#"{"alg":"RS256","kid":"another"}"#, &claims()), &set, "no key of the JWKS");
    verify(&issuer.token(&claims()), &set).expect("the key beside them");
}

proptest! {
    /// Whichever byte of a token is another, it is not believed, and nothing breaks.
    #[test]
    fn no_byte_can_be_another(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8, cut in any::<prop::sample::Index>()) {
        let issuer = Issuer::new("k");
        let (set, token) = (keys(&jwks(&[&issuer])), issuer.token(&claims()));
        let mut changed = token.clone().into_bytes();
        changed[at.index(token.len())] = byte;
        let changed = String::from_utf8(changed).expect("ASCII");
        prop_assert_eq!(verify(&changed, &set).is_ok(), changed == token);
        prop_assert!(verify(&token[..cut.index(token.len())], &set).is_err());
    }

    #[test]
    fn noise_is_no_token(noise in "[A-Za-z0-9_=.-]{0,80}", keys in "[\\[\\]{}\",:a-z0-9]{0,40}") {
        prop_assert!(verify(&noise, &KeySet::default()).is_err());
        prop_assert!(KeySet::parse(keys.as_bytes()).map_or(true, |set| set.is_empty()));
    }
}
