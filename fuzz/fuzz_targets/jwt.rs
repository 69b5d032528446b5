//! Tokens of OAUTHBEARER: key sets, tokens of any bytes, and signed ones whose header or claims are any bytes. Nobody is believed
//! whose token the issuer has not signed, and he who is believed is the one that another reader of the claims sees.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane_fuzz::{ALICES_CLAIMS, HEADER, Issuer, NOW_MS, expected};
use corelane_sasl::oauth::KeySet;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static ISSUER: LazyLock<(Issuer, KeySet)> = LazyLock::new(|| {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    (issuer, keys)
});

static ALICES_TOKEN: LazyLock<String> = LazyLock::new(|| ISSUER.0.sign(HEADER.as_bytes(), ALICES_CLAIMS.as_bytes()));

const ALGORITHMS: [(&str, usize); 6] =
    [("RS256", 256), ("PS512", 256), ("ES256", 64), ("ES384", 96), ("ES512", 132), ("EdDSA", 64)];

/// A token without a `kid` that nobody has signed.
fn unsigned((algorithm, signature): (&str, usize)) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
    format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(ALICES_CLAIMS), URL_SAFE_NO_PAD.encode(vec![1; signature]))
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let (issuer, keys) = &*ISSUER;
    let mut expected = expected();
    if kind & 0x40 != 0 {
        expected.audience = vec!["corelane".to_owned()];
    }
    if kind & 0x80 != 0 {
        expected.issuer = Some("https://issuer".to_owned());
    }
    match kind % 4 {
        0 => {
            if let Ok(keys) = KeySet::parse(bytes) {
                for algorithm in ALGORITHMS {
                    // Some public keys are such that anything is signed by them: no issuer has one.
                    let _ = expected.verify(&unsigned(algorithm), &keys, NOW_MS);
                }
            }
        }
        1 => {
            let token = String::from_utf8_lossy(bytes);
            assert!(expected.verify(&token, keys, NOW_MS).is_err());
        }
        2 => {
            let token = issuer.sign(bytes, ALICES_CLAIMS.as_bytes());
            if let Ok(identity) = expected.verify(&token, keys, NOW_MS) {
                assert_eq!(identity.user, "alice");
                let header: Value = serde_json::from_slice(bytes).expect("JSON");
                assert_eq!((&header["alg"], header.get("crit")), (&"EdDSA".into(), None));
            }
        }
        _ => {
            let mut token = issuer.sign(HEADER.as_bytes(), bytes);
            let forged = kind & 0x20 != 0 && bytes != ALICES_CLAIMS.as_bytes();
            if forged
                && let (Some((claims, _)), Some((_, signature))) =
                    (token.rsplit_once('.'), ALICES_TOKEN.rsplit_once('.'))
            {
                token = format!("{claims}.{signature}");
            }
            if let Ok(identity) = expected.verify(&token, keys, NOW_MS) {
                let claims: Value = serde_json::from_slice(bytes).expect("JSON");
                let user = claims["sub"].as_str().expect("a text").trim_matches(|c| c <= ' ');
                assert!(!user.is_empty() && identity.user == user && !identity.by_token);
                assert!(identity.expires_ms.is_some_and(|at| at > NOW_MS));
                assert!(!forged, "the issuer has signed other claims");
                assert!(kind & 0x80 == 0 || claims["iss"] == "https://issuer");
                assert!(kind & 0x40 != 0 || claims["aud"].is_null());
            }
        }
    }
});
