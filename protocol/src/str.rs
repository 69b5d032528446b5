//! [`Str`]: text that is a slice of the frame it came in.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// UTF-8 checked bytes, shared with the frame they were read from.
///
/// A clone is a reference count, never a copy, and keeps the whole frame alive: call [`Str::detach`] on what
/// outlives its request (names in tables, client ids in sessions).
#[derive(Clone, Default)]
pub struct Str(ByteString);

impl Str {
    pub const EMPTY: Str = Str(ByteString::new());

    pub const fn from_static(text: &'static str) -> Str {
        Str(ByteString::from_static(text))
    }

    /// Takes `bytes` as text, or gives the reason why they are none.
    pub fn from_utf8(bytes: Bytes) -> Result<Str, std::str::Utf8Error> {
        ByteString::try_from(bytes).map(Str)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// A copy of its own that does not keep the frame alive.
    pub fn detach(&self) -> Str {
        Str(ByteString::from(self.as_str()))
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Str {
    fn from(text: &'static str) -> Str {
        Str::from_static(text)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(ByteString::from(text))
    }
}

impl From<Cow<'static, str>> for Str {
    fn from(text: Cow<'static, str>) -> Str {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl TryFrom<Bytes> for Str {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Str, Self::Error> {
        Str::from_utf8(bytes)
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Str) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    /// Hashes as `str` does, so that maps keyed by `Str` can be asked with `&str`.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
